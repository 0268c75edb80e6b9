//! Testers that check themselves, at the size of a test; the program `programs` runs them at full size.

use clap::Parser;
use xtests::{programs, skip, unmountable};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: programs::Options,
}

#[test]
fn fio_and_stress_ng_verify_what_they_wrote() {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words =
        "test --only fio,stress --size-mib 512 --fio-mib 8 --stress-secs 1 --stressors rename,link,xattr,fpunch,dentry";
    programs::run(&Line::parse_from(words.split(' ')).options).unwrap_or_else(|why| panic!("{why:#}"));
}
