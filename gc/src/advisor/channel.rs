//! The daemon's end of one worker: posts batches, takes answers, knows what is in flight.
//!
//! Never waits and, after it was made, never allocates. What the worker says is compared with the
//! daemon's own record of what was asked; an answer to a question that was not asked is a lie, and
//! a channel that has seen one is dead.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::Model;
use super::process::{Child, Start};
use super::protocol::{Batch, ROWS_MAX, SLOTS, fault};
use super::pulse::Pulse;
use super::region::Region;
use super::ring::{AnswerHead, AnswerReader, DatasetWriter, Label, Lie, NotPosted};

/// A batch that was posted and not answered yet.
#[derive(Debug, Clone, Copy)]
struct Flight {
    label: Label,
    posted_ns: u64,
    missed: bool,
}

/// What came out of the recommendation ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    /// The values are finite, as many as rows were asked about, and in time.
    Good(Timing),
    /// Came after its deadline; `missed_now` if that had not been counted yet.
    Late {
        missed_now: bool,
    },
    /// Not finite, or the run failed.
    Bad,
    Lie(Lie),
}

/// When and to what an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    pub label: Label,
    pub latency_us: u64,
    pub run_ns: u64,
}

/// See the module's description.
pub(crate) struct Channel {
    model: Arc<Model>,
    region: Arc<Region>,
    batches: DatasetWriter,
    answers: AnswerReader,
    wake: OwnedFd,
    done: Arc<OwnedFd>,
    in_flight: [Option<Flight>; SLOTS],
    lie: Option<Lie>,
    pulse: Arc<Pulse>,
}

impl Channel {
    /// A channel to a worker that is still to be started.
    pub(crate) fn new(model: Arc<Model>) -> std::io::Result<Channel> {
        let region = Arc::new(Region::create()?);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Channel {
            model,
            batches: DatasetWriter::new(region.clone()),
            answers: AnswerReader::new(region.clone()),
            region,
            wake: eventfd(0, flags)?,
            done: Arc::new(eventfd(0, flags)?),
            in_flight: [None; SLOTS],
            lie: None,
            pulse: Arc::new(Pulse::default()),
        })
    }

    /// Starts the worker at the other end.
    pub(crate) fn start(&self, host: &super::Host) -> std::io::Result<Child> {
        Start {
            exe: &host.exe,
            exe_args: &host.exe_args,
            library: &host.library,
            region: self.region.fd(),
            model: self.model.fd.as_fd(),
            wake: self.wake.as_fd(),
            done: self.done.as_fd(),
            reserve_bytes: host.reserve_bytes,
            user: host.user,
        }
        .worker()
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Readable when the worker has said something.
    pub(crate) fn done(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// The same for somebody who waits without holding the channel.
    pub(crate) fn done_shared(&self) -> Arc<OwnedFd> {
        self.done.clone()
    }

    /// Forgets that the worker has said something.
    pub(crate) fn hush(&self) {
        // Nothing to read is what we want.
        let _ = rustix::io::read(&self.done, &mut [0u8; 8]);
    }

    /// Posts a batch whose rows hold `known` features, of which the model's columns are sent.
    /// False if it is of another kind or shape, or the ring is full, or the worker has lied.
    pub(crate) fn post(&mut self, ticket: u64, batch: &Batch<'_>, known: usize, now_ns: u64) -> bool {
        let fits = batch.kind == self.model.card.kind
            && (1..=ROWS_MAX).contains(&batch.rows)
            && batch.values.len() == batch.rows * known;
        let Some(free) = self.in_flight.iter().position(Option::is_none) else { return false };
        if !fits || self.lie.is_some() {
            return false;
        }
        let label = Label { ticket, generation: batch.generation, rows: batch.rows as u32 };
        let columns = &self.model.card.columns;
        let values = batch.values.chunks_exact(known).flat_map(|row| columns.iter().map(|&column| row[column]));
        match self.batches.push(label, columns.len(), values) {
            Ok(()) => {}
            Err(NotPosted::Full) => return false,
            Err(NotPosted::Lie(lie)) => {
                self.caught(lie);
                return false;
            }
        }
        self.in_flight[free] = Some(Flight { label, posted_ns: now_ns, missed: false });
        self.beat();
        // Non-blocking: a worker that filled the counter only fails to wake itself.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        true
    }

    /// Takes the next answer, its values into `values`.
    pub(crate) fn take(&mut self, now_ns: u64, deadline_us: u64, values: &mut Vec<f32>) -> Taken {
        if let Some(lie) = self.lie {
            return Taken::Lie(lie);
        }
        let head = match self.answers.pop(values) {
            Ok(None) => return Taken::Nothing,
            Ok(Some(head)) => head,
            Err(lie) => return self.caught(lie),
        };
        let outcome = self.judge(head, now_ns, deadline_us, values);
        self.beat();
        outcome
    }

    fn judge(&mut self, head: AnswerHead, now_ns: u64, deadline_us: u64, values: &[f32]) -> Taken {
        let asked = |flight: &Option<Flight>| flight.is_some_and(|f| f.label.ticket == head.label.ticket);
        let Some(flight) = self.in_flight.iter_mut().find(|f| asked(f)).and_then(Option::take) else {
            return self.caught(Lie("answer to a question that was not asked"));
        };
        let rows_differ = head.fault == fault::NONE && head.label.rows != flight.label.rows;
        if head.label.generation != flight.label.generation || rows_differ {
            return self.caught(Lie("answer does not fit its question"));
        }
        // The worker's clock is believed only between the post and now.
        let done_ns = head.done_ns.clamp(flight.posted_ns, now_ns.max(flight.posted_ns));
        let latency_us = (done_ns - flight.posted_ns) / 1000;
        if head.fault != fault::NONE || values.iter().any(|v| !v.is_finite()) {
            Taken::Bad
        } else if flight.missed || latency_us > deadline_us {
            Taken::Late { missed_now: !flight.missed }
        } else {
            Taken::Good(Timing { label: flight.label, latency_us, run_ns: head.run_ns })
        }
    }

    fn caught(&mut self, lie: Lie) -> Taken {
        self.lie = Some(lie);
        self.pulse.caught();
        Taken::Lie(lie)
    }

    /// Marks what is in flight and past its deadline; answers with how many were so newly.
    pub(crate) fn expire(&mut self, now_ns: u64, deadline_us: u64) -> u64 {
        let mut newly = 0;
        for flight in self.in_flight.iter_mut().flatten() {
            if !flight.missed && now_ns.saturating_sub(flight.posted_ns) / 1000 > deadline_us {
                flight.missed = true;
                newly += 1;
            }
        }
        newly
    }

    /// Brings the pulse up to date.
    fn beat(&self) {
        let oldest_ns = self.in_flight.iter().flatten().map(|flight| flight.posted_ns).min();
        self.pulse.beat(oldest_ns, self.answers.position());
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Gives up on what is in flight: its answers are dropped without being counted.
    pub(crate) fn disown(&mut self) {
        self.in_flight.iter_mut().flatten().for_each(|flight| flight.missed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{ANSWER_BASE, FEATURES_MAX, ModelKind, answer_slot};
    use super::super::ring::{AnswerHead, AnswerWriter, DatasetReader};
    use super::super::testing::model;
    use super::*;
    use std::sync::atomic::Ordering;

    const ROW: [f32; 3] = [1.0, 2.0, 3.0];

    fn batch(generation: u64) -> Batch<'static> {
        Batch { generation, kind: ModelKind::Placement, rows: 1, values: &ROW }
    }

    struct Peer {
        x: Vec<f32>,
        batches: DatasetReader,
        answers: AnswerWriter,
    }

    fn pair() -> (Channel, Peer) {
        let channel = Channel::new(model(&["c", "a"], &["a", "b", "c"])).unwrap();
        let region = channel.region().clone();
        let x = vec![0.0; ROWS_MAX * FEATURES_MAX];
        (channel, Peer { x, batches: DatasetReader::new(region.clone()), answers: AnswerWriter::new(region) })
    }

    impl Peer {
        fn answer(&mut self, change: impl FnOnce(&mut AnswerHead), values: &[f32]) {
            let label = self.batches.pop(&mut self.x).unwrap().label;
            let mut head = AnswerHead { label, fault: fault::NONE, run_ns: 5, done_ns: 3_000 };
            change(&mut head);
            self.answers.push(head, values);
        }
    }

    #[test]
    fn the_model_gets_its_columns_and_the_caller_its_answer() {
        let (mut channel, mut peer) = pair();
        let mut y = Vec::new();
        assert!(channel.post(9, &batch(4), 3, 1_000));
        peer.answer(|_| (), &[7.0]);
        assert_eq!(peer.x[..2], [3.0, 1.0]);
        let Taken::Good(timing) = channel.take(5_000, 10, &mut y) else { panic!() };
        assert_eq!((timing.label.generation, timing.latency_us, y.as_slice()), (4, 2, &[7.0][..]));
        assert_eq!(channel.take(5_000, 10, &mut y), Taken::Nothing);
        assert!(channel.pulse().idle());
    }

    #[test]
    fn wrong_shapes_are_not_posted() {
        let (mut channel, _peer) = pair();
        assert!(!channel.post(1, &Batch { rows: 2, ..batch(1) }, 3, 0));
        assert!(!channel.post(1, &Batch { rows: 0, values: &[], ..batch(1) }, 3, 0));
        assert!(!channel.post(1, &Batch { kind: ModelKind::Victim, ..batch(1) }, 3, 0));
        for ticket in 0..SLOTS as u64 {
            assert!(channel.post(ticket, &batch(1), 3, 0));
        }
        assert!(!channel.post(99, &batch(1), 3, 0), "the ring is full");
    }

    #[test]
    fn late_and_bad_answers_are_told_apart() {
        let (mut channel, mut peer) = pair();
        let mut y = Vec::new();
        channel.post(1, &batch(1), 3, 0);
        assert_eq!(channel.expire(9_000, 10), 0);
        assert_eq!((channel.expire(11_000, 10), channel.expire(11_000, 10)), (1, 0));
        peer.answer(|_| (), &[1.0]);
        assert_eq!(channel.take(12_000, 10, &mut y), Taken::Late { missed_now: false });
        channel.post(2, &batch(1), 3, 0);
        peer.answer(|head| head.done_ns = 20_000, &[1.0]);
        assert_eq!(channel.take(30_000, 10, &mut y), Taken::Late { missed_now: true });
        channel.post(3, &batch(1), 3, 0);
        peer.answer(|_| (), &[f32::NAN]);
        assert_eq!(channel.take(1_000, 10, &mut y), Taken::Bad);
        channel.post(4, &batch(1), 3, 0);
        peer.answer(|head| head.fault = fault::RUN_FAILED, &[]);
        assert_eq!(channel.take(1_000, 10, &mut y), Taken::Bad);
    }

    #[test]
    fn only_what_the_worker_owes_is_an_overrun() {
        let (mut channel, mut peer) = pair();
        let (pulse, region) = (channel.pulse().clone(), channel.region().clone());
        let overrun = |now_ns| pulse.overrun(&region, now_ns, 10);
        assert!(!overrun(u64::MAX));
        channel.post(1, &batch(1), 3, 1);
        assert!(!overrun(10_000));
        assert!(overrun(12_000));
        peer.answer(|_| (), &[1.0]);
        assert!(!overrun(12_000), "the answer is there, the caller has not looked");
    }

    #[test]
    fn a_lie_ends_the_channel() {
        let tell: [fn(&mut AnswerHead); 3] =
            [|head| head.label.ticket += 1, |head| head.label.rows += 1, |head| head.label.generation += 1];
        for lie in tell {
            let (mut channel, mut peer) = pair();
            channel.post(1, &batch(1), 3, 0);
            peer.answer(lie, &[1.0, 1.0]);
            assert!(matches!(channel.take(0, 10, &mut Vec::new()), Taken::Lie(_)));
            assert!(!channel.post(2, &batch(1), 3, 0));
            assert!(channel.pulse().lied());
        }
        let (mut channel, _peer) = pair();
        channel.region().u64(ANSWER_BASE + answer_slot::SEQ).store(u64::MAX, Ordering::Relaxed);
        assert!(matches!(channel.take(0, 10, &mut Vec::new()), Taken::Lie(_)));
    }
}
