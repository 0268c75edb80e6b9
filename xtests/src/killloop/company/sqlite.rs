//! SQLite with its log and with a rollback journal at once, each with a client of its own.

use std::path::Path;

use anyhow::Result;

use super::Companion;
use crate::sqlite::{Database, Inserter};

/// Not `delete`, which commits by removing the journal: a directory that cannot be opened, as on a mount that has died meanwhile, SQLite takes for
/// a synced one and acknowledges.
const JOURNALS: [&str; 2] = ["wal", "truncate"];

pub(super) struct Sqlite(Vec<Table>);

struct Table {
    database: Database,
    inserter: Option<Inserter>,
    /// The newest row that was acknowledged or found.
    newest: u64,
}

impl Sqlite {
    pub(super) fn make(target: &Path) -> Result<Self> {
        let table = |journal: &'static str| {
            let database = Database::make(target.join(format!("{journal}.db")), journal)?;
            Ok(Table { database, inserter: None, newest: 0 })
        };
        Ok(Self(JOURNALS.into_iter().map(table).collect::<Result<_>>()?))
    }
}

impl Companion for Sqlite {
    fn start(&mut self) -> Result<()> {
        for table in &mut self.0 {
            table.inserter = Some(table.database.insert_from(table.newest + 1, u64::MAX)?);
        }
        Ok(())
    }

    fn is_running(&mut self) -> Result<bool> {
        for inserter in self.0.iter_mut().filter_map(|table| table.inserter.as_mut()) {
            if !inserter.is_running()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn kill(&mut self) -> Result<()> {
        for table in &mut self.0 {
            if let Some(inserter) = table.inserter.take() {
                table.newest = inserter.kill()?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for table in &mut self.0 {
            table.newest = table.database.check(table.newest)?;
        }
        Ok(())
    }
}
