//! The FUSE front: serves any [`crate::namespace::api::Namespace`] on a mount point.
//!
//! The top layer, and the only one that knows of the kernel and of the `fuser` crate. [`requests`] turns requests into
//! calls of [`front`]; `front` turns those into calls of the namespace. Handles carry no state and node ids are inode numbers, so
//! that another daemon can take over. All changes go through the kernel, which may therefore cache names and attributes for ever.
//!
//! Session threads never wait for the kernel (what must is handed [`aside`]), so that the kernel may always wait for them. Nor do they wait
//! for room ([`late`]) or sleep to slow writers down ([`held`]), so that reads and lookups are answered whatever writers do.

#[cfg(test)]
mod again;
mod aside;
mod attr;
mod buffers;
mod connection;
pub mod control;
mod errno;
mod front;
mod held;
mod ioctl;
mod kernel;
mod late;
mod mount;
mod mountinfo;
pub mod options;
mod requests;
pub mod session;
pub mod signals;
mod stop;
mod tracking;
pub mod umount;

pub use connection::{Connection, Terms};
pub use control::{Control, Shutdown};
pub use mount::image_inside;
pub use options::MountOptions;
pub use session::{Ended, Inherited, MountedSession, Origin, serve, serve_over};
pub use stop::Stopper;
pub use umount::Unmounter;
