//! fsck: sound images are clean, and each kind of damage is found as exactly what it is.

mod bytes;
mod image;
mod sound;
mod state;
