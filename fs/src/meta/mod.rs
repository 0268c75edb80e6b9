//! Metadata: the key tree, the node table, the segment table and the checkpoint that names them.

pub mod apply;
pub mod checkpoint;
mod commit;
mod detour;
mod durable;
mod extend;
pub mod grow;
pub mod image;
mod kinds;
pub(crate) mod load;
pub mod mkfs;
pub mod moves;
pub mod patience;
pub mod radix;
mod read;
pub mod roll_forward;
pub mod slots;
pub mod space;
pub mod state;
pub mod tree;
pub mod tune;
pub mod view;
pub mod volume;
pub mod witness;
