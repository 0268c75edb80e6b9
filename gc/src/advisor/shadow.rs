//! A candidate beside the current model: both get the same batches, the answers are compared.
//!
//! The comparison is told to the user and does not decide: a better model may well disagree with
//! the old one. What decides is that every answer is finite and that they come in time.

use super::channel::{Channel, Taken};
use super::protocol::{Batch, ROWS_MAX, SLOTS};

/// One batch that both were asked about.
struct Pair {
    ticket: u64,
    current: Vec<f32>,
    candidate: Vec<f32>,
}

/// The candidate and what was seen of it.
pub(crate) struct Shadow {
    channel: Box<Channel>,
    pairs: Vec<Pair>,
    next_pair: usize,
    values: Vec<f32>,
    seen: Seen,
}

/// What was seen of a candidate in shadow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    pub answered: u64,
    pub missed: u64,
    pub bad: bool,
    pub lie: Option<&'static str>,
    correlations: f64,
    compared: u64,
}

impl Seen {
    /// Batches whose outcome is known.
    pub(crate) fn batches(&self) -> u64 {
        self.answered + self.missed
    }

    /// Mean correlation of the two models' answers, if any could be compared.
    pub(crate) fn agreement(&self) -> Option<f64> {
        (self.compared > 0).then(|| self.correlations / self.compared as f64)
    }

    /// Why the candidate may not take over.
    pub(crate) fn objection(&self) -> Option<String> {
        if let Some(lie) = self.lie {
            return Some(format!("its worker misbehaves: {lie}"));
        }
        if self.bad {
            return Some("its output on live data is not finite".into());
        }
        let slow = self.missed * 2 > self.batches() && self.missed >= 4;
        slow.then(|| format!("it missed the deadline of {} of {} live batches", self.missed, self.batches()))
    }
}

impl Shadow {
    pub(crate) fn new(channel: Box<Channel>) -> Shadow {
        let pair =
            || Pair { ticket: 0, current: Vec::with_capacity(ROWS_MAX), candidate: Vec::with_capacity(ROWS_MAX) };
        Shadow {
            channel,
            pairs: (0..2 * SLOTS).map(|_| pair()).collect(),
            next_pair: 0,
            values: Vec::with_capacity(ROWS_MAX),
            seen: Seen::default(),
        }
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn into_channel(mut self) -> Box<Channel> {
        self.channel.disown();
        self.channel
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// The batch that the current model was just given.
    pub(crate) fn post(&mut self, ticket: u64, batch: &Batch<'_>, known: usize, now_ns: u64) {
        if self.channel.post(ticket, batch, known, now_ns) {
            let pair = &mut self.pairs[self.next_pair];
            pair.ticket = ticket;
            pair.current.clear();
            pair.candidate.clear();
            self.next_pair = (self.next_pair + 1) % self.pairs.len();
        }
    }

    /// The current model's answer to it.
    pub(crate) fn answered_by_current(&mut self, ticket: u64, values: &[f32]) {
        self.answered(ticket, values, |pair| &mut pair.current);
    }

    /// Takes what the candidate has answered meanwhile.
    pub(crate) fn drain(&mut self, now_ns: u64, deadline_us: u64) {
        let mut values = std::mem::take(&mut self.values);
        loop {
            match self.channel.take(now_ns, deadline_us, &mut values) {
                Taken::Nothing => break,
                Taken::Good(timing) => {
                    self.seen.answered += 1;
                    self.answered(timing.label.ticket, &values, |pair| &mut pair.candidate);
                }
                Taken::Late { missed_now } => self.seen.missed += u64::from(missed_now),
                Taken::Bad => self.seen.bad = true,
                Taken::Lie(lie) => {
                    self.seen.lie = Some(lie.0);
                    break;
                }
            }
        }
        self.values = values;
        self.seen.missed += self.channel.expire(now_ns, deadline_us);
    }

    fn answered(&mut self, ticket: u64, values: &[f32], side: impl FnOnce(&mut Pair) -> &mut Vec<f32>) {
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.ticket == ticket) else { return };
        let side = side(pair);
        side.clear();
        side.extend_from_slice(values);
        if pair.current.len() == pair.candidate.len()
            && let Some(r) = correlation(&pair.current, &pair.candidate)
        {
            self.seen.correlations += r;
            self.seen.compared += 1;
        }
    }
}

/// Pearson's r; none if either side is constant.
fn correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x) - mean_a, f64::from(y) - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_tells_same_from_opposite() {
        let near = |r: Option<f64>, x: f64| (r.unwrap() - x).abs() < 1e-9;
        assert!(near(correlation(&[1.0, 2.0, 4.0], &[10.0, 20.0, 40.0]), 1.0));
        assert!(near(correlation(&[1.0, 2.0], &[2.0, 1.0]), -1.0));
        assert_eq!(correlation(&[1.0, 1.0], &[2.0, 1.0]), None);
        assert_eq!(correlation(&[], &[]), None);
    }

    #[test]
    fn objections() {
        let good = Seen { answered: 10, missed: 3, ..Seen::default() };
        assert_eq!(good.objection(), None);
        assert!(Seen { missed: 30, ..good }.objection().unwrap().contains("30 of 40"));
        assert!(Seen { bad: true, ..good }.objection().unwrap().contains("not finite"));
        assert!(Seen { lie: Some("x"), ..good }.objection().unwrap().contains("misbehaves"));
    }
}
