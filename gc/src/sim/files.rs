//! A load of many files: what a filesystem sees and a block device does not.
//!
//! A journal written in circles, a database overwritten by zipf, logs that are appended and rotated, temporary files that die
//! young and documents that stay. About 80 % of the volume is in use.

use std::collections::VecDeque;

use super::load::{BlockWrite, Load, Op};
use super::rng::{Alias, Rng};
use crate::features::FileKind;

/// Longest write request.
const REQUEST_BLOCKS: u32 = 128;
/// Blocks of a log when it is rotated, and logs kept.
const LOG_BLOCKS: u32 = 256;
const LOGS_KEPT: usize = 4;

/// What files are called: a kind each.
const JOURNAL: &str = "journal";
const DATABASE: &str = "data.db";
const LOG: &str = "1.log";
const TEMPORARY: &str = "1.tmp";
const DOCUMENT: &str = "1.odt";
/// All are in one directory.
const DIRECTORY: u64 = 1;

#[derive(Debug, Default)]
struct File {
    ino: u64,
    kind: FileKind,
    blocks: Vec<u32>,
}

impl File {
    fn id(&self) -> (u64, FileKind) {
        (self.ino, self.kind)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Files {
    blocks: u32,
    rng: Rng,
    free: Vec<u32>,
    queue: VecDeque<Op>,
    next_ino: u64,
    journal: File,
    journal_at: usize,
    database: File,
    pages: Alias,
    logs: VecDeque<File>,
    temporary: VecDeque<File>,
    documents: Vec<File>,
}

impl Files {
    /// A volume of `blocks` blocks, at least 4096 of them for all kinds of files to fit.
    pub fn new(blocks: u32, seed: u64) -> Self {
        let pages = blocks * 3 / 10;
        let weights: Vec<f64> = (1..=pages).map(|rank| f64::from(rank).powf(-0.95)).collect();
        let mut files = Self {
            blocks,
            free: (0..blocks).rev().collect(),
            queue: VecDeque::new(),
            next_ino: 16,
            journal: File::default(),
            journal_at: 0,
            database: File::default(),
            pages: Alias::new(&weights),
            logs: VecDeque::new(),
            temporary: VecDeque::new(),
            documents: Vec::new(),
            rng: Rng::new(seed),
        };
        files.journal = files.create(JOURNAL, blocks / 64);
        files.database = files.create(DATABASE, pages);
        files
    }

    /// Makes a file and queues the writes that fill it.
    fn create(&mut self, name: &str, blocks: u32) -> File {
        let mut file = File { ino: self.next_ino, kind: FileKind::of(DIRECTORY, name.as_bytes()), blocks: Vec::new() };
        self.next_ino += 1;
        self.extend(&mut file, blocks);
        file
    }

    fn extend(&mut self, file: &mut File, blocks: u32) {
        let old = file.blocks.len() as u64;
        let blocks = blocks.min(self.free.len() as u32);
        for i in 0..blocks {
            let Some(block) = self.free.pop() else { return };
            self.queue.push_back(Op::Write(BlockWrite {
                block,
                ino: file.ino,
                kind: file.kind,
                file_block: old + u64::from(i),
                request_blocks: REQUEST_BLOCKS.min(blocks - i / REQUEST_BLOCKS * REQUEST_BLOCKS),
                request_at: i % REQUEST_BLOCKS,
                append: true,
                file_blocks: old,
            }));
            file.blocks.push(block);
        }
    }

    fn delete(&mut self, file: File) {
        self.queue.extend(file.blocks.iter().map(|&b| Op::Discard(b)));
        self.free.extend(file.blocks);
    }

    fn overwrite(&mut self, (ino, kind): (u64, FileKind), file_blocks: usize, at: usize, block: u32) {
        self.queue.push_back(Op::Write(BlockWrite {
            block,
            ino,
            kind,
            file_block: at as u64,
            request_blocks: 1,
            request_at: 0,
            append: false,
            file_blocks: file_blocks as u64,
        }));
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..35 => {
                let at = self.pages.draw(&mut self.rng) as usize;
                // Rank to page by a fixed scattering, so that heat is not sorted by address.
                let n = self.database.blocks.len();
                let at = at.wrapping_mul(0x9e37_79b1) % n;
                self.overwrite(self.database.id(), n, at, self.database.blocks[at]);
                self.journal_write();
            }
            35..70 => self.journal_write(),
            70..85 => self.log_append(),
            85..95 => self.temporary_file(),
            _ => self.document(),
        }
    }

    fn journal_write(&mut self) {
        let n = self.journal.blocks.len();
        self.journal_at = (self.journal_at + 1) % n;
        self.overwrite(self.journal.id(), n, self.journal_at, self.journal.blocks[self.journal_at]);
    }

    fn log_append(&mut self) {
        let mut log = match self.logs.pop_back() {
            Some(log) if log.blocks.len() < LOG_BLOCKS as usize => log,
            full => {
                self.logs.extend(full);
                self.create(LOG, 0)
            }
        };
        let blocks = 1 + self.rng.below(4);
        self.extend(&mut log, blocks);
        self.logs.push_back(log);
        if self.logs.len() > LOGS_KEPT
            && let Some(oldest) = self.logs.pop_front()
        {
            self.delete(oldest);
        }
    }

    /// A file that is deleted when sixteen more like it have been made.
    fn temporary_file(&mut self) {
        let blocks = 1 + self.rng.below(16);
        let file = self.create(TEMPORARY, blocks);
        self.temporary.push_back(file);
        if self.temporary.len() > 16
            && let Some(oldest) = self.temporary.pop_front()
        {
            self.delete(oldest);
        }
    }

    /// A file that stays until the volume is 80 % full and chance picks it.
    fn document(&mut self) {
        let blocks = 1 + self.rng.below(24);
        let file = self.create(DOCUMENT, blocks);
        self.documents.push(file);
        while (self.free.len() as u32) < self.blocks / 5 && !self.documents.is_empty() {
            let n = self.rng.below(self.documents.len() as u32) as usize;
            let file = self.documents.swap_remove(n);
            self.delete(file);
        }
    }
}

impl Load for Files {
    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn next_op(&mut self) -> Op {
        loop {
            match self.queue.pop_front() {
                Some(op) => return op,
                None => self.step(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_by_one_file_at_a_time_and_the_volume_stays_full() {
        let mut load = Files::new(4096, 1);
        let mut owner = vec![None; 4096];
        let mut discards = 0;
        for _ in 0..60_000 {
            match load.next_op() {
                Op::Discard(b) => {
                    discards += 1;
                    assert!(owner[b as usize].take().is_some());
                }
                Op::Write(w) => {
                    let o = owner[w.block as usize].replace((w.ino, w.file_block));
                    assert!(o.is_none_or(|o| o == (w.ino, w.file_block)), "block {} of two files", w.block);
                }
            }
        }
        let used = owner.iter().flatten().count();
        assert!(discards > 1000 && (2600..3500).contains(&used), "{discards} discards, {used} used");
    }
}
