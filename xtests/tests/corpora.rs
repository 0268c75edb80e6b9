//! Replays what fuzzing has found worth keeping, and tries honest inputs with a byte changed here and there.

use std::sync::Mutex;

use xtests::hostile::meter::{Meter, is_installed};
use xtests::hostile::{TARGETS, by_name, corpus};

#[global_allocator]
static METER: Meter = Meter;

/// Memory is counted for the whole program, so one test at a time takes it.
static ONE: Mutex<()> = Mutex::new(());

/// Bytes between two changes.
const STRIDE: usize = 37;

#[test]
fn no_input_of_the_corpora_does_harm() {
    let _one = ONE.lock().unwrap();
    assert!(is_installed());
    for target in &TARGETS {
        let inputs = corpus::inputs(&corpus::root().join(target.name)).unwrap();
        assert!(!inputs.is_empty() || !target.honest().is_empty(), "{} has nothing to begin with", target.name);
        for (path, input) in inputs {
            assert!(input.len() <= target.input_bytes_max, "{}", path.display());
            target.attack(&input);
        }
    }
}

#[test]
fn no_changed_byte_of_an_honest_block_does_harm() {
    let _one = ONE.lock().unwrap();
    let mut tried = 0;
    for target in &TARGETS {
        for honest in target.honest() {
            target.attack(&honest);
            for at in (0..honest.len()).step_by(STRIDE) {
                for value in [0, 1, 0x7f, 0x80, 0xff, honest[at] ^ 1, honest[at].wrapping_add(1)] {
                    let mut input = honest.clone();
                    input[at] = value;
                    target.attack(&input);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1000);
}

#[test]
fn what_takes_more_memory_than_its_bound_is_found() {
    let _one = ONE.lock().unwrap();
    let target = xtests::hostile::Target::greedy();
    assert!(std::panic::catch_unwind(|| target.attack(&[1])).is_err());
    assert!(by_name("image").is_some());
}
