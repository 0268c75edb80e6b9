//! Writing closed chunks: dispatch in each head's order, and the threads that do it.

use std::sync::Arc;

use crate::device::DeviceError;
use crate::error::Result;
use crate::format::chunk::ChunkHeader;
use crate::types::SegNo;

use super::buffer::ChunkBuf;
use super::heads::HeadId;
use super::pending::Spare;
use super::refusals::is_of_the_place;
use super::{Inner, Log};

/// Work for whoever writes.
pub enum Job {
    Write(WriteJob),
    /// Finish a zone that heads have left, then seal its segment.
    Finish(SegNo),
}

/// A chunk ready to be sealed and written.
pub struct WriteJob {
    serial: u64,
    chunk: Arc<ChunkBuf>,
    header: ChunkHeader,
    summary: Vec<u8>,
}

impl Log {
    /// Starts the writer threads.
    pub fn start_writers(self: &Arc<Self>) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
        let start = |n: usize| {
            let log = Arc::clone(self);
            std::thread::Builder::new().name(format!("log-writer-{n}")).spawn(move || log.run_writer())
        };
        (0..self.shape.threads).map(start).collect()
    }

    fn run_writer(&self) {
        loop {
            let mut inner = self.inner.lock();
            let job = loop {
                if inner.stopping {
                    return;
                }
                if let Some(job) = inner.jobs.pop_front() {
                    break job;
                }
                inner.wait(&self.work);
            };
            drop(inner);
            self.do_job(job);
        }
    }

    /// Writes what waits to be written on this thread: the whole work where there are no writer threads, help otherwise.
    pub fn drive(&self) {
        loop {
            let Some(job) = self.inner.lock().jobs.pop_front() else { return };
            self.do_job(job);
        }
    }

    /// [`Log::drive`] where there are no writer threads.
    pub(super) fn drive_if_alone(&self) {
        if self.shape.threads == 0 {
            self.drive();
        }
    }

    /// Hands the head's completed chunks to the writers in order; on a zoned device one at a time, since a zone is
    /// written at its pointer.
    pub(super) fn dispatch(&self, inner: &mut Inner, head: HeadId) {
        let flushed = self.flushed_lsn();
        loop {
            let h = &inner.heads.heads[usize::from(head)];
            if self.shape.zoned && h.writing > 0 {
                return;
            }
            let Some(serial) = h.queue.front().copied() else { return };
            let clock = inner.clock();
            let pending = inner.heads.pending.get_mut(serial).expect("a queued chunk is pending");
            if !pending.ready() {
                return;
            }
            let summary = std::mem::take(&mut pending.summary);
            let header = ChunkHeader {
                head,
                fsid: self.shape.fsid,
                addr: pending.chunk.start,
                epoch: self.epoch(),
                generation: pending.generation,
                lsn_first: pending.lsn_first,
                lsn_last: pending.lsn_last,
                flushed,
                write_clock: clock,
                payload_blocks: pending.payload,
                overflow_blocks: pending.overflow,
                summary_bytes: summary.len() as u32,
            };
            if let Some(kept) = pending.chunk.kept() {
                kept.dispatched(flushed, clock);
            }
            let chunk = Arc::clone(&pending.chunk);
            let h = &mut inner.heads.heads[usize::from(head)];
            h.queue.pop_front();
            h.writing += 1;
            inner.jobs.push_back(Job::Write(WriteJob { serial, chunk, header, summary }));
            self.work.notify_one();
        }
    }

    fn do_job(&self, job: Job) {
        match job {
            Job::Write(job) => self.write_chunk(job),
            Job::Finish(seg) => self.finish_segment(seg),
        }
    }

    fn write_chunk(&self, job: WriteJob) {
        let result = self.seal_and_write(&job);
        let WriteJob { serial, chunk, header, summary } = job;
        let Err(refusal) = result else {
            drop(chunk);
            self.written(serial, summary);
            return;
        };
        let may_go_elsewhere = self.shape.zoned && is_of_the_place(&refusal);
        let gone = may_go_elsewhere && {
            let (seg, _) = self.place(header.addr);
            self.condemn(seg, &refusal);
            let detour = self.detour(serial, chunk, header);
            detour.map_err(|e| tracing::error!("what segment {seg} refused stays unwritten: {e}")).is_ok()
        };
        if !gone {
            // The chunk stays pending, so its blocks stay readable and nobody is told that it is durable (I6).
            self.fail(refusal.to_string());
        }
    }

    fn seal_and_write(&self, job: &WriteJob) -> Result<()> {
        let header = &job.header;
        let blocks = header.blocks();
        // SAFETY: the chunk is closed, has no writer, and only this job seals it.
        let (head, overflow) = unsafe { job.chunk.summary_mut(header.payload_blocks, header.overflow_blocks) };
        header.seal(&job.summary, head, overflow);
        let seg = self.place(header.addr).0;
        let is_refused = {
            let inner = self.inner.lock();
            inner.check()?;
            inner.segments.is_refused(seg)
        };
        if is_refused {
            // Whatever it would do with this one, behind a gap nobody would find it.
            let why = std::io::Error::other("the zone refused an earlier write");
            return Err(DeviceError::new("write", header.addr, u64::from(blocks), why).into());
        }
        // SAFETY: it was just sealed.
        self.put(header.addr, unsafe { job.chunk.sealed(blocks) })?;
        Ok(())
    }

    fn written(&self, serial: u64, summary: Vec<u8>) {
        let mut inner = self.inner.lock();
        let pending = inner.heads.retire(serial);
        inner.heads.heads[usize::from(pending.head)].writing -= 1;
        self.seal_if_done(&mut inner, pending.seg);
        self.dispatch(&mut inner, pending.head);
        drop(inner);
        let spare = Spare::from_written(pending.chunk, summary, self.kept.as_ref());
        self.inner.lock().heads.spare.push(spare);
        self.changed.notify_all();
    }

    /// Gives the zone's open and active slots back. A failure costs a slot until the next mount, no data; but it may be the first sign of a zone that takes
    /// nothing more.
    fn finish_segment(&self, seg: SegNo) {
        let is_refused = self.inner.lock().segments.is_refused(seg);
        if !is_refused && let Err(e) = self.device.finish(seg.0) {
            self.note_unfinished(seg, &e);
        }
        let mut inner = self.inner.lock();
        let clock = inner.clock();
        inner.segments.seal(seg, clock);
        drop(inner);
        self.changed.notify_all();
    }

    /// A zone could not be finished.
    pub(crate) fn note_unfinished(&self, seg: SegNo, why: &DeviceError) {
        if self.device.zone(seg.0).is_ok_and(|zone| zone.condition.has_failed()) {
            self.condemn(seg, why);
        } else {
            tracing::warn!("{why}");
        }
    }

    /// Seals `seg` if neither a head nor a pending chunk uses it: from then on the cleaner may take it.
    pub(super) fn seal_if_done(&self, inner: &mut Inner, seg: SegNo) {
        if inner.heads.uses(seg) {
            return;
        }
        if self.shape.zoned {
            inner.jobs.push_back(Job::Finish(seg));
            self.work.notify_one();
        } else {
            let clock = inner.clock();
            inner.segments.seal(seg, clock);
        }
    }
}
