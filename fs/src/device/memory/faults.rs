//! Faults that a test plants in a device in memory, and what became of them.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

/// Operation that a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOp {
    Read,
    Write,
    Flush,
    Reserve,
    Finish,
    Reset,
}

impl FaultOp {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Flush, Self::Reserve, Self::Finish, Self::Reset];
}

/// What is left of a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Nothing happened.
    Nothing,
    /// So many blocks arrived, and a zone's pointer is behind them.
    Blocks(u32),
    /// So many blocks hold something else, and a zone's pointer is behind them.
    Garbage(u32),
}

/// A planted failure.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    op: FaultOp,
    /// Operations of this kind that still go well.
    spared: u64,
    forever: bool,
    errno: Errno,
    remains: Remains,
}

impl Fault {
    /// After `spared` more operations of this kind the next one fails with EIO, once.
    pub fn once(op: FaultOp, spared: u64) -> Self {
        Self { op, spared, forever: false, errno: Errno::IO, remains: Remains::Nothing }
    }

    /// After `spared` more operations of this kind every one fails with EIO.
    pub fn forever(op: FaultOp, spared: u64) -> Self {
        Self { forever: true, ..Self::once(op, spared) }
    }

    /// The same with another error.
    pub fn with_errno(self, errno: Errno) -> Self {
        Self { errno, ..self }
    }

    /// The same write with something left of it.
    pub fn leaving(self, remains: Remains) -> Self {
        Self { remains, ..self }
    }
}

/// An operation that a test holds up: it goes on when the test says so.
#[derive(Debug)]
pub struct Hold(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GateState {
    Awaited,
    Reached,
    Released,
}

impl Hold {
    /// Returns once the operation has come.
    pub fn await_arrival(&self) {
        self.0.wait_while(GateState::Awaited);
    }

    /// Lets it go on. Dropping does the same.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.enter(GateState::Released);
    }
}

impl Gate {
    fn enter(&self, to: GateState) {
        let mut state = self.state.lock();
        if *state != GateState::Released {
            *state = to;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait_while(&self, in_state: GateState) {
        let mut state = self.state.lock();
        while *state == in_state {
            self.changed.wait(&mut state);
        }
    }
}

/// Where a held operation waits.
pub(super) struct Waiting(Arc<Gate>);

impl Waiting {
    /// Returns when the test releases it.
    pub(super) fn wait(self) {
        self.0.enter(GateState::Reached);
        self.0.wait_while(GateState::Reached);
    }
}

/// All faults planted in a device, and what has come by.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    planted: Vec<Fault>,
    held: Vec<(FaultOp, u64, Arc<Gate>)>,
    seen: [u64; FaultOp::ALL.len()],
    struck: u64,
}

impl Faults {
    pub(super) fn plant(&mut self, fault: Fault) {
        self.planted.push(fault);
    }

    pub(super) fn hold(&mut self, op: FaultOp, spared: u64) -> Hold {
        let gate = Arc::new(Gate { state: Mutex::new(GateState::Awaited), changed: Condvar::new() });
        self.held.push((op, spared, Arc::clone(&gate)));
        Hold(gate)
    }

    /// The gate at which this operation is to wait, if any; counts it for every hold of its kind.
    pub(super) fn held_up(&mut self, op: FaultOp) -> Option<Waiting> {
        let mut waiting = None;
        self.held.retain_mut(|(kind, spared, gate)| {
            if *kind != op {
                return true;
            }
            if *spared > 0 {
                *spared -= 1;
                return true;
            }
            waiting = Some(Waiting(Arc::clone(gate)));
            false
        });
        waiting
    }

    pub(super) fn clear(&mut self) {
        self.planted.clear();
        self.held.clear();
    }

    /// Takes what is planted out, for [`Faults::put_back`].
    pub(super) fn take(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.planted)
    }

    pub(super) fn put_back(&mut self, planted: Vec<Fault>) {
        self.planted = planted;
    }

    /// Operations of this kind so far, failed ones too.
    pub(super) fn seen(&self, op: FaultOp) -> u64 {
        self.seen[op as usize]
    }

    /// Operations that failed because of a planted fault.
    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    /// Whether and how this operation fails; counts it for every fault of its kind.
    pub(super) fn strike(&mut self, op: FaultOp) -> Option<(Errno, Remains)> {
        self.seen[op as usize] += 1;
        let mut struck = None;
        self.planted.retain_mut(|fault| {
            if fault.op != op {
                return true;
            }
            if fault.spared > 0 {
                fault.spared -= 1;
                return true;
            }
            struck = struck.or(Some((fault.errno, fault.remains)));
            fault.forever
        });
        self.struck += u64::from(struck.is_some());
        struck
    }
}
