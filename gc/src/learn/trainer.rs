//! Fits, examines, offers: what a trainer does, without the process around it.
//!
//! A model is offered only after it has been better, on writes that came after it was fitted, than what the mount's rule and the model in charge chose for the same
//! writes; and what was taken is watched in the same way. So nothing is offered on the strength of what it was fitted to.

use std::collections::VecDeque;

use super::exam::{Exam, compare};
use super::pupil::Pupil;
use super::watched::Lesson;
use super::{CLASS_WIDTH, COLDEST, SAMPLES_MIN};
use crate::features::rounded;
use crate::placement::lifetime_class;
use crate::sim::Sample;
use crate::telemetry::Event;
use crate::train::{TreeOptions, Trees, fit_trees};

/// Candidates that wait to be examined: what is written just after a fit can be judged half a volume's writes later.
const CANDIDATES: usize = 2;
/// A candidate must cost less than this share of what the rule costs ...
const BETTER_THAN_RULE: f64 = 0.97;
/// ... and than this of what the model in charge does.
const BETTER_THAN_MODEL: f64 = 0.95;
/// A model of ours that costs more than this over the rule, so many times in a row, is taken back.
const WORSE_THAN_RULE: f64 = 1.03;
const WORSE_TIMES: u32 = 2;

/// A model and when it was fitted.
#[derive(Debug)]
struct Fitted {
    /// Its answers are as those of any placement model.
    trees: Trees,
    number: u64,
    at: u64,
}

/// What came of an examination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Findings {
    /// Fits so far.
    pub fits: u64,
    /// Writes that the last fit was made from.
    pub samples: usize,
    /// The candidate against the rule, and against the model in charge.
    pub candidate: Option<Exam>,
    pub candidate_of_model: Option<Exam>,
    /// The model in charge, if it is one of ours, against the rule.
    pub in_charge: Option<Exam>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Nothing,
    /// Take this ONNX model; `number` names it.
    Offer {
        number: u64,
        onnx: Vec<u8>,
    },
    /// Take back what was offered.
    Withdraw,
}

/// See the module.
#[derive(Debug)]
pub struct Trainer {
    pupil: Pupil,
    options: TreeOptions,
    /// The oldest first.
    candidates: VecDeque<Fitted>,
    /// Since when models of ours have been in charge.
    in_charge: Option<u64>,
    worse: u32,
    clock: u64,
    findings: Findings,
}

impl Trainer {
    pub fn new(seed: u64) -> Self {
        Self {
            pupil: Pupil::new(seed),
            options: TreeOptions::default(),
            candidates: VecDeque::new(),
            in_charge: None,
            worse: 0,
            clock: 0,
            findings: Findings::default(),
        }
    }

    /// What the last examination showed.
    pub fn findings(&self) -> Findings {
        self.findings
    }

    /// Learns of an event.
    pub fn told(&mut self, event: &Event) {
        match event {
            Event::Write(w, choice) => {
                self.clock = w.now;
                self.pupil.user_write(w, choice.opinions);
            }
            Event::Move(m, choice) => {
                self.pupil.cleaning_write(m, choice.opinions);
            }
            Event::Discard(d) => self.pupil.discarded(d),
            Event::Victim { .. } => {}
            Event::Lost(_) => self.pupil.missed(),
        }
    }

    /// Whether it is time for [`Trainer::study`].
    pub fn is_due(&mut self) -> bool {
        self.pupil.is_due(self.clock)
    }

    /// An offer was taken: it chooses from now on.
    pub fn taken(&mut self) {
        self.in_charge.get_or_insert(self.clock);
        self.worse = 0;
    }

    /// What is in charge is not ours any more.
    pub fn taken_back(&mut self) {
        self.in_charge = None;
    }

    /// Examines what was fitted before, fits the next, says what follows. Half a second of one processor.
    pub fn study(&mut self) -> Said {
        let lessons: Vec<Lesson> = self.pupil.lessons(self.clock).into_iter().map(as_asked).collect();
        self.findings = Findings { fits: self.findings.fits, samples: lessons.len(), ..Findings::default() };
        let said = self.examine(&lessons);
        if lessons.len() >= SAMPLES_MIN {
            let samples: Vec<Sample> = lessons.iter().map(|lesson| lesson.sample).collect();
            self.findings.fits += 1;
            let trees = as_model(fit_trees(&samples, &self.options));
            self.candidates.push_back(Fitted { trees, number: self.findings.fits, at: self.clock });
        }
        said
    }

    fn examine(&mut self, lessons: &[Lesson]) -> Said {
        if let Some(since) = self.in_charge {
            let later = later_than(lessons, since);
            self.findings.in_charge = compare(&later, |l| l.opinions.model, |l| l.opinions.rule);
            let worse = self.findings.in_charge.is_some_and(|exam| exam.ratio > WORSE_THAN_RULE);
            self.worse = if worse { self.worse + 1 } else { 0 };
            if self.worse >= WORSE_TIMES {
                self.in_charge = None;
                return Said::Withdraw;
            }
        }
        if self.candidates.len() < CANDIDATES {
            return Said::Nothing;
        }
        let Some(candidate) = self.candidates.pop_front() else { return Said::Nothing };
        let later = later_than(lessons, candidate.at);
        let choose = |lesson: &Lesson| Some(lifetime_class(candidate.trees.predict(&lesson.sample.row)));
        let of_rule = compare(&later, choose, |l| l.opinions.rule);
        let of_model = compare(&later, choose, |l| l.opinions.model);
        (self.findings.candidate, self.findings.candidate_of_model) = (of_rule, of_model);
        let beats = |exam: Option<Exam>, below: f64| exam.is_some_and(|exam| exam.ratio < below);
        let beats_rule = beats(of_rule, BETTER_THAN_RULE);
        // A mount whose model has not spoken has none to be compared with.
        let beats_model = of_model.is_none() && self.in_charge.is_none() || beats(of_model, BETTER_THAN_MODEL);
        match beats_rule && beats_model {
            true => {
                Said::Offer { number: candidate.number, onnx: candidate.trees.to_onnx(&learned_name(candidate.number)) }
            }
            false => Said::Nothing,
        }
    }
}

/// What a model is called that was learnt here.
pub fn learned_name(number: u64) -> String {
    format!("learned-{number}")
}

/// A model is asked about rounded rows.
fn as_asked(lesson: Lesson) -> Lesson {
    Lesson { sample: Sample { row: rounded(&lesson.sample.row), ..lesson.sample }, ..lesson }
}

/// The bounds between classes of models lie elsewhere than those that suit a fit to single lifetimes: answers are moved so that they fall into the classes
/// that they would have there.
fn as_model(trees: Trees) -> Trees {
    let factor = 2.0 / CLASS_WIDTH;
    trees.rescaled(factor, 1.0 - factor * COLDEST)
}

fn later_than(lessons: &[Lesson], clock: u64) -> Vec<Lesson> {
    lessons.iter().filter(|lesson| lesson.since >= clock).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisor::{ModelKind, Rules, check_file};
    use crate::features::{PLACEMENT, SCHEMA};
    use crate::placement::{Ewma, Learned, LifetimeModel, NoSeparation, Opinions, Placement};
    use crate::sim::{Geometry, NamedSource, Simulator};
    use crate::telemetry::{By, Choice};
    use crate::victim::CostAgeClass;

    const BLOCKS: u32 = 8192;

    /// Tells a trainer what a rule is told and chooses.
    struct Overheard<'a> {
        trainer: &'a mut Trainer,
        rule: Box<dyn Placement>,
        model: Option<Box<dyn Placement>>,
        said: Vec<Said>,
    }

    impl Overheard<'_> {
        fn choice(&self, model: Option<u8>, rule: u8) -> Choice {
            Choice { by: By::Rule, class: rule, classes: 6, opinions: Opinions { model, rule: Some(rule) } }
        }

        fn tell(&mut self, event: &Event) {
            self.trainer.told(event);
            if self.trainer.is_due() {
                match self.trainer.study() {
                    Said::Nothing => {}
                    said => self.said.push(said),
                }
            }
        }
    }

    impl Placement for Overheard<'_> {
        fn name(&self) -> &'static str {
            "overheard"
        }

        fn classes(&self) -> u8 {
            self.rule.classes()
        }

        fn user_write(&mut self, w: &crate::placement::WriteFacts) -> u8 {
            let model = self.model.as_mut().map(|model| model.user_write(w));
            let rule = self.rule.user_write(w);
            self.tell(&Event::Write(*w, self.choice(model, rule)));
            rule
        }

        fn cleaning_write(&mut self, m: &crate::placement::MoveFacts) -> u8 {
            let model = self.model.as_mut().map(|model| model.cleaning_write(m));
            let rule = self.rule.cleaning_write(m);
            self.tell(&Event::Move(*m, self.choice(model, rule)));
            rule
        }

        fn discarded(&mut self, d: &crate::placement::DiscardFacts) {
            if let Some(model) = &mut self.model {
                model.discarded(d);
            }
            self.tell(&Event::Discard(*d));
        }
    }

    fn overhear(trainer: &mut Trainer, rule: Box<dyn Placement>, model: Option<Box<dyn Placement>>) -> Vec<Said> {
        let source = "files".parse::<NamedSource>().unwrap().of(BLOCKS);
        let mut sim = Simulator::new(Geometry::garbage(source.live_blocks(BLOCKS), 64, 0.15, 6), BLOCKS);
        let mut overheard = Overheard { trainer, rule, model, said: Vec::new() };
        let writes = u64::from(BLOCKS) * 8;
        sim.drive(source.load(BLOCKS, 3).as_mut(), &mut overheard, &mut CostAgeClass, None, writes);
        overheard.said
    }

    fn offered(said: &[Said]) -> Vec<&[u8]> {
        let mut offers = Vec::new();
        for one in said {
            if let Said::Offer { onnx, .. } = one {
                offers.push(&onnx[..]);
            }
        }
        offers
    }

    #[test]
    fn what_beats_the_rule_on_later_writes_is_offered_as_a_model_that_a_mount_takes() {
        let mut trainer = Trainer::new(1);
        let said = overhear(&mut trainer, Box::new(Ewma), None);
        let offers = offered(&said);
        assert!(!offers.is_empty(), "{:?}", trainer.findings());
        let names: Vec<&str> = PLACEMENT.iter().map(|f| f.name).collect();
        let rules = Rules::new(&names, &SCHEMA.to_string(), Some(ModelKind::Placement));
        let card = check_file(offers[0], &rules).unwrap();
        assert_eq!(card.operators, ["TreeEnsembleRegressor"]);
        assert!(card.bytes < 1 << 18, "{}", card.bytes);
        let exam = trainer.findings().candidate.unwrap();
        assert!(exam.ratio < BETTER_THAN_RULE && exam.examples > 500, "{exam:?}");
    }

    #[test]
    fn what_is_no_better_than_the_model_in_charge_is_not_offered_and_a_bad_one_is_taken_back() {
        // A model that knows what a good fit knows.
        let mut first = Trainer::new(1);
        overhear(&mut first, Box::new(Ewma), None);
        let mut trees = first.candidates.pop_back().unwrap().trees;
        let model: Box<dyn Placement> =
            Box::new(Learned::new(move |row: &crate::features::PlacementRow| LifetimeModel::predict(&mut trees, row)));
        let mut trainer = Trainer::new(2);
        let offers = offered(&overhear(&mut trainer, Box::new(Ewma), Some(model))).len();
        assert!(offers <= 4, "{offers} of 16 fits, {:?}", trainer.findings());
        let mut trainer = Trainer::new(3);
        trainer.taken();
        let said = overhear(&mut trainer, Box::new(Ewma), Some(Box::new(NoSeparation)));
        assert_eq!(said.first(), Some(&Said::Withdraw), "{:?}", trainer.findings());
    }

    #[test]
    fn what_was_missed_is_not_taken_for_long_life() {
        let mut trainer = Trainer::new(1);
        let facts = crate::placement::WriteFacts { ino: 1, blocks: 1, live_blocks: 100, ..Default::default() };
        for now in 0..200 {
            let w = crate::placement::WriteFacts { first_block: now, now, ..facts };
            trainer.told(&Event::Write(w, Choice::default()));
        }
        assert!(!trainer.pupil.lessons(300).is_empty());
        trainer.told(&Event::Lost(3));
        assert!(trainer.pupil.lessons(300).is_empty());
    }
}
