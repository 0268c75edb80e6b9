//! The control socket: a client that says anything, and others beside it that must be served.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gleanfs::control::mounts::DeviceNumber;
use gleanfs::control::{ControlTarget, LINE_BYTES_MAX, Request, Response, Server, address};

/// A daemon that does nothing that it is told.
struct Idle;

impl ControlTarget for Idle {
    fn handle(&self, request: Request) -> Response {
        Response::Done(format!("{request:?}"))
    }
}

/// Major numbers of devices have twelve bits, so no real mount has this one.
fn device() -> DeviceNumber {
    DeviceNumber { major: 0x20_0000, minor: std::process::id() }
}

fn connect() -> UnixStream {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(device(), Arc::new(Idle)).expect("the name is free"));
    let client = UnixStream::connect_addr(&address(device()).expect("a name")).expect("somebody listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    client
}

/// Says `input` and hangs up; a second client, connected before, is answered all the same.
pub(super) fn attack(input: &[u8]) {
    let mut other = connect();
    let mut client = connect();
    // The server may have hung up already, which is an answer, too.
    let _ = client.write_all(input);
    let _ = client.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    // Waiting for the end of the mount is answered only then.
    if !parks(input) {
        let _ = client.take(64 * LINE_BYTES_MAX as u64).read_to_end(&mut answers);
    }
    for line in answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        serde_json::from_slice::<Response>(line).expect("every answer is one");
    }
    other.write_all(b"\"model_list\"\n").expect("it is connected");
    let mut answer = [0; 4];
    other.read_exact(&mut answer).expect("the other client is answered");
}

/// Whether one of the lines is the request that is answered at the end of the mount.
fn parks(input: &[u8]) -> bool {
    let waits = |line: &[u8]| matches!(serde_json::from_slice(line), Ok(Request::AwaitEnd));
    input.split(|byte| *byte == b'\n').any(waits)
}
