//! One target of `xtests::hostile` under libFuzzer: the one that the binary is called after.

#![no_main]

use xtests::hostile::{by_name, meter::Meter};

#[global_allocator]
static METER: Meter = Meter;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    by_name(env!("CARGO_BIN_NAME")).expect("binaries are called after targets").attack(input);
});
