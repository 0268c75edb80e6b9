//! A daemon is replaced and killed under load, at the size of a test; the program `upgrade` does it longer, with fio.

use clap::Parser;
use xtests::{skip, unmountable, upgrade};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: upgrade::Options,
}

#[test]
fn a_mount_outlives_its_daemons() {
    if let Some(why) = unmountable() {
        return skip(why);
    }
    let words = "test --size-mib 128 --upgrades 3 --kills 2 --losses 1 --once 3 --ends 1 --clients 2";
    upgrade::run(&Line::parse_from(words.split(' ')).options).unwrap_or_else(|why| panic!("{why:#}"));
}
