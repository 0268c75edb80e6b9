//! The other end of the control socket: finds the daemon of a mount and talks to it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::message::{Request, Response};
use super::mounts::{self, MountEntry};
use super::{LINE_BYTES_MAX, address};

/// How often, and with what pause between, a mount that answers is asked for its socket.
const FOLLOWER_TRIES: u32 = 250;
const FOLLOWER_PAUSE: Duration = Duration::from_millis(20);

/// A connection to the daemon of a mount.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    pid: rustix::process::Pid,
}

/// Why the daemon of a mount cannot be reached; one line for people.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}: not a mount point")]
    NotMounted(String),
    #[error("{path}: a mount of {fs_type}, not of gleanfs")]
    OtherFilesystem { path: String, fs_type: String },
    #[error("{0}: no daemon answers for this mount; if it has died, gleanfs umount clears the mount away")]
    NoDaemon(String),
    #[error("{0}: the control socket belongs to another user; use the account that mounted, or root")]
    Foreign(String),
    #[error("{0}")]
    Refused(String),
    #[error("the daemon closed the connection without an answer; see whether it still runs")]
    Closed,
    #[error("talking to the daemon: {0}")]
    Io(#[from] io::Error),
}

impl Client {
    /// Connects to the daemon that serves the mount at `mount_point`. The mount itself is touched only if nobody listens.
    pub fn connect(mount_point: &Path) -> Result<Self, ClientError> {
        let shown = mount_point.display().to_string();
        let mount = mounts::at(mount_point)?.ok_or_else(|| ClientError::NotMounted(shown.clone()))?;
        if !mount.is_gleanfs() {
            return Err(ClientError::OtherFilesystem { path: shown, fs_type: mount.fs_type });
        }
        Self::connect_to(&mount)
    }

    /// The same for a mount that has been looked up already.
    pub fn connect_to(mount: &MountEntry) -> Result<Self, ClientError> {
        let shown = mount.target.display().to_string();
        let stream = reach(mount)?.ok_or_else(|| ClientError::NoDaemon(shown.clone()))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(io::Error::from)?;
        // Anybody may bind an abstract name, so the daemon is believed only if it is root or ourselves.
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() && !rustix::process::geteuid().is_root() {
            return Err(ClientError::Foreign(shown));
        }
        Ok(Self { stream: BufReader::new(stream), pid: peer.pid })
    }

    /// Process id of the daemon, as the kernel tells it.
    pub fn daemon_pid(&self) -> rustix::process::Pid {
        self.pid
    }

    /// Sends `request` without waiting for its answer.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
        line.push(b'\n');
        Ok(self.stream.get_mut().write_all(&line)?)
    }

    /// Waits for the next answer. A refusal is an error.
    pub fn receive(&mut self) -> Result<Response, ClientError> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(ClientError::Closed);
        }
        match serde_json::from_slice(&line).map_err(io::Error::from)? {
            Response::Refused(why) => Err(ClientError::Refused(why)),
            response => Ok(response),
        }
    }

    /// Sends `request` and waits for its answer.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        self.receive()
    }
}

/// A daemon of a supervised mount may be followed by another just now: the mount answers when that one serves, and its socket is there soon after. `None`:
/// the mount is dead, not ours to look at, or served by nobody who listens here.
fn reach(mount: &MountEntry) -> io::Result<Option<UnixStream>> {
    let address = address(mount.device)?;
    for _ in 0..FOLLOWER_TRIES {
        if let Ok(stream) = UnixStream::connect_addr(&address) {
            return Ok(Some(stream));
        }
        if rustix::fs::statfs(&mount.target).is_err() {
            return Ok(None);
        }
        std::thread::sleep(FOLLOWER_PAUSE);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::control::mounts::DeviceNumber;
    use crate::control::server::{ControlTarget, Server};
    use crate::control::status::Status;

    struct Echo;

    impl ControlTarget for Echo {
        fn handle(&self, request: Request) -> Response {
            match request {
                Request::Status => Response::Status(Box::new(Status { pid: 7, ..Status::default() })),
                Request::Policy { name } => Response::Refused(format!("no policy {name}")),
                other => Response::Done(format!("{other:?}")),
            }
        }
    }

    /// A mount that no other test and no real filesystem has: major numbers have 12 bits.
    fn a_mount() -> MountEntry {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let minor = NEXT.fetch_add(1, Ordering::Relaxed);
        MountEntry {
            device: DeviceNumber { major: 0x10_0000 + std::process::id(), minor },
            target: "/nowhere".into(),
            fs_type: "fuse.gleanfs".into(),
            source: "image".into(),
            read_only: false,
        }
    }

    #[test]
    fn requests_are_answered_in_order_on_one_connection() {
        let mount = a_mount();
        let server = Server::start(mount.device, Arc::new(Echo)).unwrap();
        let mut client = Client::connect_to(&mount).unwrap();
        assert_eq!(client.daemon_pid(), rustix::process::getpid());
        assert!(matches!(client.ask(&Request::Status).unwrap(), Response::Status(status) if status.pid == 7));
        assert_eq!(client.ask(&Request::Gc { on: true }).unwrap(), Response::Done("Gc { on: true }".into()));
        let refused = client.ask(&Request::Policy { name: "x".into() }).unwrap_err();
        assert_eq!(refused.to_string(), "no policy x");
        server.finish(Ok(()));
        assert!(matches!(Client::connect_to(&mount), Err(ClientError::NoDaemon(_))));
    }

    /// Tries a model until it is told to go on.
    struct Trying(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

    impl ControlTarget for Trying {
        fn handle(&self, request: Request) -> Response {
            if request.takes_long() {
                let _ = self.0.lock().unwrap().recv();
            }
            Echo.handle(request)
        }
    }

    #[test]
    fn a_request_that_takes_long_keeps_nobody_waiting_and_is_answered_at_the_end() {
        let mount = a_mount();
        let (go_on, told) = std::sync::mpsc::channel();
        let server = Server::start(mount.device, Arc::new(Trying(told.into()))).unwrap();
        let mut trying = Client::connect_to(&mount).unwrap();
        trying.send(&Request::ModelRollback).unwrap();
        let status = Client::connect_to(&mount).unwrap().ask(&Request::Status).unwrap();
        assert!(matches!(status, Response::Status(status) if status.pid == 7));
        go_on.send(()).unwrap();
        server.finish(Ok(()));
        assert_eq!(trying.receive().unwrap(), Response::Done("ModelRollback".into()));
        assert!(matches!(trying.receive(), Err(ClientError::Closed)));
    }

    #[test]
    fn whoever_awaits_the_end_learns_how_it_ended() {
        for (outcome, expected) in [(Ok(()), "Ok(Done(\"\"))"), (Err("flush failed".to_owned()), "flush failed")] {
            let mount = a_mount();
            let server = Server::start(mount.device, Arc::new(Echo)).unwrap();
            let mut waiting = Client::connect_to(&mount).unwrap();
            waiting.send(&Request::AwaitEnd).unwrap();
            // The next client is admitted after the first, and what a client has said by the end is read before it.
            Client::connect_to(&mount).unwrap().ask(&Request::Sync).unwrap();
            server.finish(outcome);
            assert!(format!("{:?}", waiting.receive()).contains(expected));
        }
    }

    #[test]
    fn nonsense_and_endless_lines_are_refused_and_harm_nobody_else() {
        let mount = a_mount();
        let _server = Server::start(mount.device, Arc::new(Echo)).unwrap();
        for nonsense in [b"{\n".to_vec(), b"\"reboot\"\n".to_vec(), vec![b' '; LINE_BYTES_MAX]] {
            let mut client = Client::connect_to(&mount).unwrap();
            client.stream.get_mut().write_all(&nonsense).unwrap();
            assert!(matches!(client.receive(), Err(ClientError::Refused(_))));
        }
        assert!(Client::connect_to(&mount).unwrap().ask(&Request::Sync).is_ok());
    }

    #[test]
    fn clients_who_say_nothing_or_dribble_keep_nobody_waiting() {
        let mount = a_mount();
        let _server = Server::start(mount.device, Arc::new(Echo)).unwrap();
        let silent: Vec<_> = (0..8).map(|_| Client::connect_to(&mount).unwrap()).collect();
        let mut dribbling = Client::connect_to(&mount).unwrap();
        let mut patient = Client::connect_to(&mount).unwrap();
        for byte in b"\"sync\"" {
            dribbling.stream.get_mut().write_all(&[*byte]).unwrap();
            assert!(patient.ask(&Request::Status).is_ok());
        }
        dribbling.stream.get_mut().write_all(b"\n").unwrap();
        assert_eq!(dribbling.receive().unwrap(), Response::Done("Sync".into()));
        drop(silent);
    }

    #[test]
    fn a_client_too_many_is_told_so_and_a_place_is_free_again_afterwards() {
        let mount = a_mount();
        let _server = Server::start(mount.device, Arc::new(Echo)).unwrap();
        let mut clients = Vec::new();
        let refusal = loop {
            let mut client = Client::connect_to(&mount).unwrap();
            match client.receive_or_ask() {
                Err(ClientError::Refused(why)) => break why,
                answer => assert_eq!(answer.unwrap(), Response::Done("Sync".into())),
            }
            clients.push(client);
            assert!(clients.len() < 100);
        };
        assert!(refusal.contains("too many"), "{refusal}");
        clients.clear();
        while Client::connect_to(&mount).unwrap().ask(&Request::Sync).is_err() {
            std::thread::yield_now();
        }
    }

    impl Client {
        /// Asks, unless the server has said already that it will not listen.
        fn receive_or_ask(&mut self) -> Result<Response, ClientError> {
            let _ = self.send(&Request::Sync);
            self.receive()
        }
    }

    #[test]
    fn a_second_server_for_the_same_mount_is_an_error() {
        let mount = a_mount();
        let _server = Server::start(mount.device, Arc::new(Echo)).unwrap();
        assert!(Server::start(mount.device, Arc::new(Echo)).is_err());
    }

    #[test]
    fn what_is_no_mount_of_ours_is_said_so() {
        assert!(matches!(Client::connect(Path::new("/proc/self")), Err(ClientError::NotMounted(_))));
        assert!(matches!(Client::connect(Path::new("/proc")), Err(ClientError::OtherFilesystem { .. })));
    }
}
