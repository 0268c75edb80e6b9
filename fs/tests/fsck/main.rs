//! fsck: sound images are clean, and each kind of damage is found as exactly what it is and can be
//! repaired.

mod bytes;
mod campaign;
mod cli;
mod image;
mod kinds;
mod mending;
mod nodes;
mod repair;
mod sound;
mod state;
