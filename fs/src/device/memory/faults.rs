//! Faults that a test plants in a device in memory.

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

/// A planted failure.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    op: FaultOp,
    /// Operations of this kind that still go well.
    spared: u64,
    forever: bool,
    errno: Errno,
}

impl Fault {
    /// After `spared` more operations of this kind the next one fails with EIO, once.
    pub fn once(op: FaultOp, spared: u64) -> Self {
        Self { op, spared, forever: false, errno: Errno::IO }
    }

    /// After `spared` more operations of this kind every one fails with EIO.
    pub fn forever(op: FaultOp, spared: u64) -> Self {
        Self { forever: true, ..Self::once(op, spared) }
    }

    /// The same with another error.
    pub fn with_errno(self, errno: Errno) -> Self {
        Self { errno, ..self }
    }
}

/// All faults planted in a device.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn plant(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether this operation fails; counts it for every fault of its kind.
    pub(super) fn strike(&mut self, op: FaultOp) -> Option<Errno> {
        let mut struck = None;
        self.0.retain_mut(|fault| {
            if fault.op != op {
                return true;
            }
            if fault.spared > 0 {
                fault.spared -= 1;
                return true;
            }
            struck = struck.or(Some(fault.errno));
            fault.forever
        });
        struck
    }
}
