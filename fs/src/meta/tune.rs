//! Another label or UUID for an image that is not mounted: one slot write, and the copy of what the image is.
//!
//! The slot names the same checkpoint under the next sequence number, so whatever log follows it still does, and a cut leaves the
//! slot before. Structures carry the fsid, which stays.

use std::sync::Arc;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::superblock::{Identity, LABEL_MAX};

use super::roll_forward::check_identity;
use super::slots::Slots;

/// What to change; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub label: Option<String>,
    pub uuid: Option<[u8; 16]>,
}

/// Makes the changes; what the image is then. Nothing is written if there are none.
pub fn tune(device: Arc<dyn Device>, changes: &Changes) -> Result<Identity> {
    let mut slots = Slots::new(Arc::clone(&device))?;
    let mut superblock = slots.read()?;
    check_identity(&superblock.identity, &*device, &slots, *changes == Changes::default())?;
    let identity = &mut superblock.identity;
    if let Some(label) = &changes.label {
        if label.len() > LABEL_MAX {
            return Err(Error::Refused(format!("the label is longer than {LABEL_MAX} bytes")));
        }
        identity.label.clone_from(label);
    }
    identity.uuid = changes.uuid.unwrap_or(identity.uuid);
    if *changes != Changes::default() {
        superblock.checkpoint.sequence += 1;
        slots.write(&superblock)?;
        device.flush()?; // The commit point: the image has the new names.
        slots.write_copy(&superblock.identity)?;
        device.flush()?;
    }
    Ok(superblock.identity)
}
