//! SQLite in both journal modes under kill -9 of its client: what was acknowledged is there, and nothing is torn.

use std::path::Path;

use anyhow::Result;

use crate::random::Random;
use crate::skip;
use crate::sqlite::{self, Database};

pub(super) fn run(target: &Path, kills: u32) -> Result<()> {
    if let Some(why) = sqlite::lacks() {
        skip(format!("sqlite: {why}"));
        return Ok(());
    }
    for journal in ["wal", "delete"] {
        let database = Database::make(target.join(format!("{journal}.db")), journal)?;
        let mut random = Random::new(u64::from(kills));
        let mut next = 1;
        for _ in 0..kills {
            let acknowledged = database.insert_from(next, 1 + random.below(200))?.end()?;
            next = database.check(acknowledged)? + 1;
        }
        println!("sqlite: {kills} kills with journal_mode={journal}, {} rows, every acknowledged one there", next - 1);
    }
    Ok(())
}
