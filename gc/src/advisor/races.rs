//! The rings and the pulse in every interleaving of daemon and worker, and that each of their orders is needed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::thread;

use super::protocol::{ANSWER_BASE, DATASET_BASE, ROWS_MAX, SLOTS, answer_slot, dataset_slot, fault, header};
use super::pulse::Pulse;
use super::region::Region;
use super::ring::{AnswerHead, AnswerReader, AnswerWriter, DatasetReader, DatasetWriter, Label, NotPosted};
use crate::words::SharedWords;
use crate::words::modelled::{Access, Modelled, Position, explore, explore_and_weaken, rounds};

const QUESTION: usize = DATASET_BASE + dataset_slot::SEQ;
const ANSWER: usize = ANSWER_BASE + answer_slot::SEQ;

/// Memory whose positions are the rings' own.
fn region(weak: Option<Access>) -> Arc<Region<Modelled>> {
    let questions = (0..SLOTS).map(|slot| QUESTION + slot * dataset_slot::BYTES);
    let answers = (0..SLOTS).map(|slot| ANSWER + slot * answer_slot::BYTES);
    let tails = [header::DATASET_TAIL, header::ANSWER_TAIL];
    Arc::new(Region::over(Modelled::new(questions.chain(answers).chain(tails), weak)))
}

fn label(ticket: u64) -> Label {
    Label { ticket, generation: 10 * ticket, rows: 1 }
}

fn ask(to: &mut DatasetWriter<Modelled>, ticket: u64) -> Result<(), NotPosted> {
    to.push(label(ticket), 1, std::iter::once(ticket as f32))
}

/// Takes the next question, which has to be this one if there is one.
fn hear(from: &mut DatasetReader<Modelled>, ticket: u64) -> bool {
    let mut values = [0.0];
    let Some(head) = from.pop(&mut values) else { return false };
    assert_eq!((head.label, head.features, values[0]), (label(ticket), 1, ticket as f32));
    true
}

fn answer(reply: &mut AnswerWriter<Modelled>, ticket: u64) {
    reply.push(AnswerHead { label: label(ticket), fault: fault::NONE, run_ns: 1, done_ns: 2 }, &[ticket as f32]);
}

/// Takes the next answer, which has to be to this question if there is one.
fn take(heard: &mut AnswerReader<Modelled>, ticket: u64) -> bool {
    let mut values = Vec::new();
    let Some(head) = heard.pop(&mut values).expect("the other side is honest") else { return false };
    assert_eq!((head.label, values[..] == [ticket as f32]), (label(ticket), true));
    true
}

#[test]
fn questions_come_whole_and_in_order() {
    explore_and_weaken(&[Access::Store(QUESTION), Access::Load(QUESTION)], |weak| {
        let region = region(weak);
        let (mut to, mut from) = (DatasetWriter::new(region.clone()), DatasetReader::new(region));
        let worker = thread::spawn(move || {
            let heard = (0..rounds()).take_while(|&ticket| hear(&mut from, ticket)).count();
            (from, heard as u64)
        });
        (0..rounds()).for_each(|ticket| ask(&mut to, ticket).unwrap());
        let (mut from, heard) = worker.join().unwrap();
        assert!((heard..rounds()).all(|ticket| hear(&mut from, ticket)), "all are there in the end");
    });
}

#[test]
fn a_slot_is_filled_again_only_when_it_was_emptied() {
    let needed = [Access::Store(header::DATASET_TAIL), Access::Load(header::DATASET_TAIL)];
    explore_and_weaken(&needed, |weak| {
        let region = region(weak);
        let (mut to, mut from) = (DatasetWriter::new(region.clone()), DatasetReader::new(region));
        let slots = SLOTS as u64;
        (0..slots).for_each(|ticket| ask(&mut to, ticket).unwrap());
        let worker = thread::spawn(move || {
            (0..rounds() / 2).for_each(|ticket| assert!(hear(&mut from, ticket)));
            from
        });
        let mut posted = slots;
        for _ in 0..rounds() / 2 {
            match ask(&mut to, posted) {
                Ok(()) => posted += 1,
                Err(why) => assert_eq!(why, NotPosted::Full, "an honest position was called a lie"),
            }
        }
        let mut from = worker.join().unwrap();
        assert!((rounds() / 2..posted).all(|ticket| hear(&mut from, ticket)));
        assert!(!hear(&mut from, posted));
    });
}

#[test]
fn an_answer_takes_the_place_of_one_that_was_taken() {
    let needed = [Access::Store(QUESTION), Access::Load(QUESTION), Access::Store(ANSWER), Access::Load(ANSWER)];
    explore_and_weaken(&needed, |weak| {
        let region = region(weak);
        let (mut to, mut from) = (DatasetWriter::new(region.clone()), DatasetReader::new(region.clone()));
        let (mut reply, mut heard) = (AnswerWriter::new(region.clone()), AnswerReader::new(region));
        let slots = SLOTS as u64;
        for ticket in 0..slots {
            ask(&mut to, ticket).unwrap();
            assert!(hear(&mut from, ticket));
            answer(&mut reply, ticket);
        }
        let worker = thread::spawn(move || {
            if hear(&mut from, slots) {
                answer(&mut reply, slots);
            }
        });
        // All slots of answers are full; only this makes room for another.
        assert!(take(&mut heard, 0));
        ask(&mut to, slots).unwrap();
        (1..slots).for_each(|ticket| assert!(take(&mut heard, ticket)));
        take(&mut heard, slots);
        worker.join().unwrap();
    });
}

const OLDEST: usize = 0;
const TAKEN: usize = 8;

/// A worker that answers in time is never charged with an overrun, wherever the daemon is with the answer.
#[test]
fn an_answer_that_was_taken_is_no_debt() {
    explore_and_weaken(&[Access::Store(TAKEN), Access::Load(TAKEN)], |weak| {
        let region = region(weak);
        let (mut to, mut from) = (DatasetWriter::new(region.clone()), DatasetReader::new(region.clone()));
        let (mut reply, mut heard) = (AnswerWriter::new(region.clone()), AnswerReader::new(region.clone()));
        let pulse = Arc::new(Pulse::over(Position::new(OLDEST, weak), Position::new(TAKEN, weak)));
        ask(&mut to, 0).unwrap();
        pulse.beat(Some(1_000), 0);
        assert!(pulse.overrun(&region, 1_000_000, 10), "it is not answered");
        assert!(hear(&mut from, 0));
        answer(&mut reply, 0);
        let user = {
            let pulse = pulse.clone();
            thread::spawn(move || {
                assert!(take(&mut heard, 0));
                pulse.beat(None, heard.position());
            })
        };
        assert!(!pulse.overrun(&region, 1_000_000, 10), "it was answered before anybody looked");
        user.join().unwrap();
    });
}

/// A worker that changes an answer while it is copied out: what comes is one of its lies, of the length that it claims.
#[test]
fn an_answer_that_changes_underway_stays_in_its_bounds() {
    let runs = explore(|| {
        let at = |word| ANSWER_BASE + word;
        let words = [answer_slot::TICKET, answer_slot::GENERATION, answer_slot::RUN_NS, answer_slot::DONE_NS];
        let words = words.into_iter().chain([answer_slot::FAULT, answer_slot::VALUES, answer_slot::VALUES + 4]);
        let positions = [ANSWER, header::ANSWER_TAIL, at(answer_slot::ROWS)];
        let region = Arc::new(Region::over(Modelled::new(positions.into_iter().chain(words.map(at)), None)));
        let mut heard = AnswerReader::new(region.clone());
        region.store_u64(ANSWER, 1, Relaxed);
        let worker = {
            let region = region.clone();
            thread::spawn(move || {
                region.store_u32(at(answer_slot::ROWS), 2, Relaxed);
                region.store_u32(at(answer_slot::ROWS), ROWS_MAX as u32 + 1, Relaxed);
            })
        };
        let mut values = Vec::new();
        if let Ok(Some(head)) = heard.pop(&mut values) {
            assert!(head.label.rows <= 2);
            assert_eq!(values.len(), head.label.rows as usize);
        }
        worker.join().unwrap();
    });
    assert!(runs > 2);
}
