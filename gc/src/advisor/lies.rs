//! A worker without honesty, played from bytes against the daemon's end of a channel: for fuzzing and for tests.
//!
//! It may write anything anywhere in the shared region, before and after anything that the daemon does. What must hold is what the cleaner relies on: no
//! call waits or panics, and what comes out as a recommendation is one finite value for each row of a question that was asked and is
//! still open. Everything else is refused, and a channel that has seen a lie is used no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::channel::{Channel, Taken};
use super::check::ModelCard;
use super::protocol::{
    ANSWER_BASE, Batch, DATASET_BASE, FEATURES_MAX, ModelKind, ROWS_MAX, SLOTS, answer_slot, dataset_slot, fault,
    header,
};
use super::ring::{AnswerHead, AnswerWriter, DatasetReader};
use super::{Model, Region};
use crate::words::sealed_copy;

/// Features of a row; the model wants two of them.
const KNOWN: usize = 3;
const DEADLINE_US: u64 = 50;
const ROWS: [f32; 8 * KNOWN] = [1.0; 8 * KNOWN];

fn model() -> Arc<Model> {
    let card = ModelCard {
        kind: ModelKind::Placement,
        features: vec!["c".into(), "a".into()],
        columns: vec![2, 0],
        operators: Vec::new(),
        bytes: 0,
        sha256: String::new(),
    };
    let fd = sealed_copy(&[]).expect("there is memory");
    Arc::new(Model { name: "none".into(), card, fd, serial: 1 })
}

/// Both ends of a channel, and what was asked through it.
pub(super) struct Game {
    channel: Channel,
    questions: DatasetReader,
    answers: AnswerWriter,
    /// Generation and rows by ticket of what was asked and not recommended yet.
    open: BTreeMap<u64, (u64, usize)>,
    in_flight: usize,
    next_ticket: u64,
    now_ns: u64,
    values: Vec<f32>,
    row_room: Vec<f32>,
}

impl Game {
    pub(super) fn new() -> Self {
        let channel = Channel::new(model()).expect("there is memory for a region");
        let region = channel.region().clone();
        Self {
            questions: DatasetReader::new(region.clone()),
            answers: AnswerWriter::new(region),
            channel,
            open: BTreeMap::new(),
            in_flight: 0,
            next_ticket: 1,
            now_ns: 1,
            values: Vec::with_capacity(ROWS_MAX),
            row_room: vec![0.0; ROWS_MAX * FEATURES_MAX],
        }
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        self.channel.region()
    }

    /// Whether the worker was caught.
    pub(super) fn is_over(&self) -> bool {
        self.channel.pulse().lied()
    }

    pub(super) fn post(&mut self, rows: usize) -> bool {
        let rows = 1 + rows % 8;
        let generation = self.next_ticket * 3;
        let batch = Batch { generation, kind: ModelKind::Placement, rows, values: &ROWS[..rows * KNOWN] };
        let was_over = self.is_over();
        let posted = self.channel.post(self.next_ticket, &batch, KNOWN, self.now_ns);
        assert!(!(posted && was_over), "a worker that was caught is asked again");
        if posted {
            self.open.insert(self.next_ticket, (generation, rows));
            self.in_flight += 1;
            assert!(self.in_flight <= SLOTS, "more questions than the ring holds");
        }
        self.next_ticket += 1;
        posted
    }

    /// Takes what there is to take; true if it was a recommendation.
    pub(super) fn take(&mut self) -> bool {
        let taken = self.channel.take(self.now_ns, DEADLINE_US, &mut self.values);
        assert!(self.values.capacity() == ROWS_MAX, "an answer makes the daemon allocate");
        match taken {
            Taken::Good(timing) => {
                self.in_flight = self.in_flight.checked_sub(1).expect("an answer to nothing");
                let asked = self.open.remove(&timing.label.ticket);
                assert_eq!(
                    asked,
                    Some((timing.label.generation, self.values.len())),
                    "an answer that was not asked for"
                );
                assert!(self.values.iter().all(|value| value.is_finite()));
                assert!(timing.latency_us <= DEADLINE_US);
                true
            }
            Taken::Late { .. } | Taken::Bad => {
                self.in_flight = self.in_flight.checked_sub(1).expect("an answer to nothing");
                false
            }
            Taken::Nothing => false,
            Taken::Lie(_) => {
                assert!(self.is_over());
                false
            }
        }
    }

    fn answer(&mut self, change: u8, value: f32) {
        let Some(question) = self.questions.pop(&mut self.row_room) else { return };
        let mut label = question.label;
        match change % 8 {
            0 => label.ticket = label.ticket.wrapping_add(1),
            1 => label.generation ^= 1,
            2 => label.rows = label.rows.wrapping_add(1),
            _ => {}
        }
        let fault = if change % 16 == 9 { 77 } else { fault::NONE };
        let head = AnswerHead { label, fault, run_ns: 0, done_ns: self.now_ns };
        self.answers.push(head, &[value; 9]);
    }
}

/// Plays `script`: each step is a byte that says what happens and some that say how.
pub fn endure(script: &[u8]) {
    let mut game = Game::new();
    let mut script = script.iter().copied();
    while let Some(step) = script.next() {
        let mut byte = || script.next().unwrap_or(0);
        let value = f32::from_bits(u32::from_le_bytes([byte(), byte(), byte(), byte()]));
        let (at, word) = (usize::from(u16::from_le_bytes([byte(), byte()])), value.to_bits());
        let (answer, question) =
            (ANSWER_BASE + (at % SLOTS) * answer_slot::BYTES, DATASET_BASE + (at % SLOTS) * dataset_slot::BYTES);
        let region = game.region().clone();
        match step % 12 {
            0 | 1 => drop(game.post(at)),
            2 | 3 => drop(game.take()),
            4 => drop(game.channel.expire(game.now_ns, DEADLINE_US)),
            5 => game.now_ns += u64::from(word % 100_000),
            6 => game.answer(at as u8, 1.0),
            7 => game.answer(at as u8, value),
            8 => region.u64(answer + answer_slot::SEQ).store(u64::from(word), Relaxed),
            9 => region.u64(header::DATASET_TAIL).store(u64::from(word), Relaxed),
            10 => region.u32(question + at % 64 * 4).store(word, Relaxed),
            _ => region.u32(at * 4 % region.bytes()).store(word, Relaxed),
        }
        let _ = game.channel.pulse().overrun(&region, game.now_ns, DEADLINE_US);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn an_honest_worker_is_believed_and_each_lie_is_found() {
        let mut game = Game::new();
        assert!(game.post(2));
        game.answer(7, 5.0);
        assert!(game.take() && !game.is_over());
        for lie in [0, 1, 2] {
            let mut game = Game::new();
            assert!(game.post(2));
            game.answer(lie, 5.0);
            assert!(!game.take() && game.is_over());
        }
    }

    #[test]
    fn garbage_written_at_any_time_costs_recommendations_and_nothing_else() {
        let (mut believed, mut caught) = (0u32, 0u32);
        for seed in 0..12 {
            let mut game = Game::new();
            let (region, stop) = (game.region().clone(), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| scribble(&region, seed, &stop));
                for round in 0..2000 {
                    game.post(round);
                    game.answer(7, 1.0);
                    believed += u32::from(game.take());
                    game.now_ns += 10;
                }
                stop.store(true, Relaxed);
            });
            caught += u32::from(game.is_over());
        }
        assert!(believed > 0 && caught > 0, "{believed} answers were believed and {caught} workers caught");
    }

    /// Writes anything anywhere, more often where it matters.
    fn scribble(region: &Region, seed: u64, stop: &AtomicBool) {
        let mut random = Rng::new(seed);
        while !stop.load(Relaxed) {
            let word = random.next_u64();
            let slot = (word >> 32) as usize % SLOTS;
            match word % 97 {
                0 => region.u64(ANSWER_BASE + slot * answer_slot::BYTES + answer_slot::SEQ).store(word % 9, Relaxed),
                1 => {
                    region.u32(ANSWER_BASE + slot * answer_slot::BYTES + answer_slot::ROWS).store(word as u32, Relaxed)
                }
                2 => region.u64(header::DATASET_TAIL).store(word % 9, Relaxed),
                _ => {
                    let at = (word >> 8) as usize % (region.bytes() / 4) * 4;
                    region.u32(at).store(random.next_u64() as u32, Relaxed);
                }
            }
        }
    }
}
