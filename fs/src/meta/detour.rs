//! Moving what is mapped in a chunk that its zone refused to where the chunk is written instead (see `log::detour`).

use crate::error::{Error, Result};
use crate::log::{Detours, Refused};
use crate::types::BlockAddr;

use super::volume::Volume;

impl Detours for Volume {
    fn detour(&self, refused: &Refused) -> Result<()> {
        self.log.prepare(1)?;
        loop {
            let mut state = self.state.write();
            match state.prepare(&refused.moves_to(BlockAddr::NONE)) {
                Ok(()) => {}
                Err(Error::NodeMiss(id)) => {
                    drop(state);
                    self.load(id)?;
                    continue;
                }
                Err(e) => return Err(e),
            }
            let payload = self.log.take_elsewhere(refused)?;
            // Not logged: the records that brought these blocks name the new addresses now.
            state.apply(&refused.moves_to(payload), &self.log);
            drop(state);
            self.log.go_on(refused);
            return Ok(());
        }
    }
}
