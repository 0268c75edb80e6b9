//! The daemon's end of the control socket: a thread for each client, one request at a time, but for requests that take long.
//!
//! Anybody may connect, and say anything or nothing. Every line is bounded in length and in time, from its first byte to its last, and so is the number
//! of clients; those who are not allowed to ask have places of their own, so they cannot take the others'. A request that takes
//! long keeps nobody waiting: others learn the state of the mount meanwhile and can end it. Connections that await the mount's end are
//! parked and answered by [`Server::finish`].

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::message::{Request, Response};
use super::mounts::DeviceNumber;
use super::{LINE_BYTES_MAX, address};

/// How long a connected client may take for a line, and to read its answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// How long a killed daemon may take to end.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// Most clients at once who may ask.
const CLIENTS_MAX: usize = 16;
/// Most at once who only learn that they may not.
const STRANGERS_MAX: usize = 4;
/// Most connections that wait for the mount's end.
const PARKED_MAX: usize = 16;
/// Most requests that take long under way at once.
const LONG_MAX: usize = 4;

/// What a mount does when it is asked. Requests that take long come from threads of their own, all others one at a time.
pub trait ControlTarget: Send + Sync + 'static {
    /// Answers anything but [`Request::AwaitEnd`], which the server keeps to itself, and [`Request::Upgrade`].
    fn handle(&self, request: Request) -> Response;

    /// Begins to make way for the program `executable`. Without a refusal `client` is answered by another process.
    fn make_way(&self, _executable: PathBuf, _client: UnixStream) -> Option<Response> {
        Some(Response::Refused("whoever serves this stays".into()))
    }
}

/// A control socket that is being served.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    state: Mutex<State>,
    /// Held while a request that does not take long is answered.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    clients: Vec<Client>,
    parked: Vec<UnixStream>,
    /// Threads that answer requests which take long.
    long: Vec<JoinHandle<()>>,
}

/// A connection being served.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    may_ask: bool,
    thread: JoinHandle<()>,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A daemon that was killed may still be ending, and hold the name of its mount's device, whose number is free already.
fn bind_patiently(device: DeviceNumber) -> io::Result<UnixListener> {
    let since = Instant::now();
    loop {
        match UnixListener::bind_addr(&address(device)?) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && since.elapsed() < ENDING_MAX => {
                std::thread::sleep(Duration::from_millis(20));
            }
            bound => return bound,
        }
    }
}

impl Server {
    /// Binds the socket of the mount with device number `device` and serves `target` on it.
    pub fn start(device: DeviceNumber, target: Arc<dyn ControlTarget>) -> io::Result<Self> {
        let listener = bind_patiently(device)?;
        let shared = Arc::new(Shared { listener, state: Mutex::default(), turn: Mutex::default() });
        let for_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("control".into()).spawn(move || accept_all(&for_thread, &target))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Stops serving and tells everybody who awaits the mount's end how it ended. To be called after the last
    /// checkpoint: `Ok` promises that everything is durable.
    pub fn finish(mut self, outcome: Result<(), String>) {
        self.stop();
        let response = match outcome {
            Ok(()) => Response::Done(String::new()),
            Err(why) => Response::Refused(why),
        };
        for mut client in self.shared.state().parked.drain(..) {
            // A client that has gone away needs no answer.
            let _ = send(&mut client, &response);
        }
    }

    fn stop(&mut self) {
        let clients = {
            let mut state = self.shared.state();
            state.stopped = true;
            std::mem::take(&mut state.clients)
        };
        // What a client has said by now is still read and answered.
        for client in clients {
            let _ = client.stream.shutdown(std::net::Shutdown::Read);
            let _ = client.thread.join();
        }
        let long = std::mem::take(&mut self.shared.state().long);
        // On Linux this wakes accept(2) with EINVAL.
        let _ = rustix::net::shutdown(self.shared.listener.as_fd(), rustix::net::Shutdown::Both);
        for thread in self.thread.take().into_iter().chain(long) {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept_all(shared: &Arc<Shared>, target: &Arc<dyn ControlTarget>) {
    while let Ok((client, _)) = shared.listener.accept()
        && !shared.state().stopped
    {
        // What goes wrong with one client is that client's trouble.
        let _ = admit(shared, client, target);
    }
}

/// Has a client served by a thread, if there is a place for it.
fn admit(shared: &Arc<Shared>, mut client: UnixStream, target: &Arc<dyn ControlTarget>) -> io::Result<()> {
    client.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let peer = rustix::net::sockopt::socket_peercred(&client)?;
    let may_ask = peer.uid.is_root() || peer.uid == rustix::process::geteuid();
    let mut state = shared.state();
    if state.stopped {
        return Ok(());
    }
    state.clients.retain(|client| !client.thread.is_finished());
    let places = if may_ask { CLIENTS_MAX } else { STRANGERS_MAX };
    if state.clients.iter().filter(|client| client.may_ask == may_ask).count() >= places {
        drop(state);
        return send(&mut client, &Response::Refused("too many ask at once; try again later".into()));
    }
    let stream = client.try_clone()?;
    let (shared, target) = (Arc::clone(shared), Arc::clone(target));
    let thread = std::thread::Builder::new().name("control-client".into()).spawn(move || {
        if serve(&shared, &client, may_ask, &target).is_ok_and(|next| next == Next::Elsewhere) {
            return;
        }
        // Other handles of the connection live on for a while; the other end is not to wait for that.
        let _ = client.shutdown(std::net::Shutdown::Both);
    })?;
    state.clients.push(Client { stream, may_ask, thread });
    Ok(())
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Closed,
    /// Somebody else answers it.
    Elsewhere,
}

fn serve(
    shared: &Arc<Shared>,
    client: &UnixStream,
    may_ask: bool,
    target: &Arc<dyn ControlTarget>,
) -> io::Result<Next> {
    let mut writer = client.try_clone()?;
    let mut lines = BufReader::new(client.try_clone()?);
    loop {
        let line = read_line(&mut lines, Instant::now() + CLIENT_PATIENCE)?;
        if line.is_empty() {
            return Ok(Next::Closed);
        }
        if !may_ask {
            // Only after the request was read: closing before would break the pipe under it, and the reason would be lost.
            send(&mut writer, &Response::Refused("only root and the user who mounted may do that".into()))?;
            return Ok(Next::Closed);
        }
        let response = match read_request(&line) {
            Ok(Request::AwaitEnd) => match park(shared, client)? {
                None => return Ok(Next::Elsewhere),
                Some(refusal) => refusal,
            },
            Ok(Request::Upgrade { .. }) if !shared.state().parked.is_empty() => {
                Response::Refused("somebody waits for the end of this mount".into())
            }
            Ok(Request::Upgrade { executable }) => match target.make_way(executable, client.try_clone()?) {
                None => return Ok(Next::Elsewhere),
                Some(refusal) => refusal,
            },
            Ok(request) if request.takes_long() => match set_apart(shared, client, target, request)? {
                None => return Ok(Next::Elsewhere),
                Some(refusal) => refusal,
            },
            Ok(request) => {
                let _turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
                target.handle(request)
            }
            Err(why) => {
                send(&mut writer, &Response::Refused(why))?;
                return Ok(Next::Closed);
            }
        };
        send(&mut writer, &response)?;
    }
}

/// The next line with its end, cut at [`LINE_BYTES_MAX`]; empty if the client has hung up. It must be there by `until`, however
/// slowly it comes.
fn read_line(client: &mut BufReader<UnixStream>, until: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.get_ref().set_read_timeout(Some(left))?;
        let there = client.fill_buf()?;
        let end = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |at| at + 1);
        let taken = end.min(LINE_BYTES_MAX - line.len());
        line.extend_from_slice(&there[..taken]);
        client.consume(taken);
        if taken == 0 || line.ends_with(b"\n") || line.len() == LINE_BYTES_MAX {
            return Ok(line);
        }
    }
}

/// Answers `request` from a thread of its own, and ends the connection; or says why not.
fn set_apart(
    shared: &Arc<Shared>,
    client: &UnixStream,
    target: &Arc<dyn ControlTarget>,
    request: Request,
) -> io::Result<Option<Response>> {
    let mut state = shared.state();
    state.long.retain(|thread| !thread.is_finished());
    if state.long.len() == LONG_MAX {
        return Ok(Some(Response::Refused("too much else is under way on this mount; try again later".into())));
    }
    let (target, mut theirs) = (Arc::clone(target), client.try_clone()?);
    let thread = std::thread::Builder::new().name("control-long".into()).spawn(move || {
        let response = target.handle(request);
        // A client that has gone away needs no answer.
        let _ = send(&mut theirs, &response);
        let _ = theirs.shutdown(std::net::Shutdown::Both);
    })?;
    state.long.push(thread);
    Ok(None)
}

fn read_request(line: &[u8]) -> Result<Request, String> {
    if line.last() != Some(&b'\n') {
        return Err(format!("a request is one line of at most {LINE_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(line).map_err(|why| format!("not a request that this daemon knows: {why}"))
}

fn park(shared: &Shared, client: &UnixStream) -> io::Result<Option<Response>> {
    let client = client.try_clone()?;
    let mut state = shared.state();
    if state.parked.len() == PARKED_MAX {
        return Ok(Some(Response::Refused("too many wait for the end of this mount".into())));
    }
    state.parked.push(client);
    Ok(None)
}

/// Answers a client.
pub fn send(client: &mut UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    client.write_all(&line)
}
