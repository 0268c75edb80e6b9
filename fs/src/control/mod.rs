//! The control socket of a mount: how another process asks the daemon for its state or tells it what to do.
//!
//! One Unix socket per mount, in the abstract namespace under a name made of the mount's device number, so nothing is left
//! behind when the daemon is killed. Requests and responses are lines of JSON. Both ends check the other's
//! credentials: the daemon serves root and its own user, a client believes root and its own user.
//! Beside `fuse`, above nothing: the filesystem reaches this module only through [`ControlTarget`].

pub mod client;
pub mod message;
pub mod mounts;
pub mod server;
pub mod status;

pub use client::Client;
pub use message::{Request, Response};
pub use server::{ControlTarget, Server};
pub use status::Status;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

/// Longest line that either end accepts, its line break included.
pub const LINE_BYTES_MAX: usize = 256 << 10;

/// Address of the socket that belongs to the mount with device number `device`.
pub fn address(device: mounts::DeviceNumber) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("gleanfs/{device}"))
}
