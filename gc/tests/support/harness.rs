//! A small test harness for a test program that must own `main`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

static SKIPPED: Mutex<Option<String>> = Mutex::new(None);

/// Says that the running test cannot do its work, and why.
pub fn skip(why: String) {
    *SKIPPED.lock().unwrap() = Some(why);
}

/// A test with its name.
pub type Test = (&'static str, fn());

/// Runs the tests that the command line asks for (`[--list] [--exact] [FILTER]`) one after the
/// other, and ends the process.
pub fn run(tests: &[Test]) -> ! {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let exact = words.iter().any(|word| word == "--exact");
    let filter = words.iter().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    if words.iter().any(|word| word == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        std::process::exit(0);
    }
    let wanted = |name: &str| if exact { name == filter } else { name.contains(&filter) };
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        match (passed, SKIPPED.lock().unwrap().take()) {
            (true, Some(why)) => println!("test {name} ... skipped: {why}"),
            (true, None) => println!("test {name} ... ok"),
            (false, _) => println!("test {name} ... FAILED"),
        }
        if !passed {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        std::process::exit(0);
    }
    println!("failed: {}", failed.join(", "));
    std::process::exit(101);
}
