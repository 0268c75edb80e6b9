//! How trust rises and falls.

use super::*;
use proptest::prelude::*;

fn ready() -> Trust {
    let mut trust = Trust::new(TrustConfig::default());
    trust.worker(true);
    trust
}

fn score(trust: &mut Trust, model: f64, fallback: f64) {
    for _ in 0..TrustConfig::default().scored_min {
        trust.scored(Costs { model, fallback, alike: 2.0 * fallback });
    }
}

/// Work until the next judgement and a little further.
fn work(trust: &mut Trust, model_moves: u64, fallback_moves: u64) {
    for _ in 0..TrustConfig::default().freed_min {
        trust.worked(Decider::Model, model_moves, 1);
        trust.worked(Decider::Fallback, fallback_moves, 1);
    }
}

fn at_recommendation() -> Trust {
    let mut trust = ready();
    score(&mut trust, 1.0, 2.0);
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Recommendation);
    trust
}

#[test]
fn trust_is_earned_step_by_step() {
    let mut trust = Trust::new(TrustConfig::default());
    assert_eq!(trust.level(), TrustLevel::Fallback);
    trust.worker(true);
    assert_eq!(trust.level(), TrustLevel::Learning);
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    work(&mut trust, 100, 200);
    assert_eq!(trust.level(), TrustLevel::Collaboration, "work raises nobody");
    score(&mut trust, 1.0, 2.0);
    assert_eq!((trust.level(), trust.status().promotions), (TrustLevel::Recommendation, 2));
    assert_eq!(trust.status().efficiency, Some(0.5));
}

#[test]
fn a_model_that_falls_behind_goes_all_the_way_down() {
    let mut trust = at_recommendation();
    work(&mut trust, 300, 200);
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    work(&mut trust, 300, 200);
    assert_eq!(trust.level(), TrustLevel::Learning);
    score(&mut trust, 5.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Fallback);
}

#[test]
fn a_model_that_cannot_learn_sits_out_longer_each_time() {
    let mut trust = ready();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        score(&mut trust, 5.0, 2.0);
        pauses.push(trust.status().sit_out);
        while trust.level() == TrustLevel::Fallback {
            trust.worked(Decider::Fallback, 10, 1);
        }
    }
    assert_eq!(pauses, [256, 512, 1024]);
}

#[test]
fn between_the_thresholds_nothing_changes() {
    let mut trust = at_recommendation();
    for _ in 0..20 {
        work(&mut trust, 250, 200);
        score(&mut trust, 1.07, 1.0);
    }
    assert_eq!(trust.level(), TrustLevel::Recommendation);
    let mut trust = ready();
    score(&mut trust, 1.0, 2.0);
    for _ in 0..20 {
        work(&mut trust, 250, 200);
        score(&mut trust, 1.07, 1.0);
    }
    assert_eq!(trust.level(), TrustLevel::Collaboration);
}

/// A model whose true ratio is `ratio`, scored with noise. Answers with the share of the scores seen at *recommendation*.
fn share_in_charge(ratio: f64, noise: f64, seed: u64) -> f64 {
    let mut rng = crate::sim::rng::Rng::new(seed);
    let mut trust = ready();
    let (mut in_charge, rounds) = (0, 40_000);
    for _ in 0..rounds {
        let mut seen = |cost: f64| (cost * (1.0 + noise * f64::from(rng.normal()))).max(0.0);
        trust.scored(Costs { model: seen(ratio), fallback: seen(1.0), alike: 2.0 });
        in_charge += u32::from(trust.level() == TrustLevel::Recommendation);
    }
    f64::from(in_charge) / f64::from(rounds)
}

#[test]
fn noise_keeps_no_equal_out_and_no_worse_one_in() {
    // Of a single score; two per cent of a judgement.
    let noise = 0.02 * 32f64.sqrt();
    for seed in 1..6 {
        for ratio in [0.9, 0.98, 1.0, 1.02] {
            let share = share_in_charge(ratio, noise, seed);
            assert!(share > 0.9, "a model of {ratio} is in charge for {share}");
        }
        for ratio in [1.12, 1.3] {
            let share = share_in_charge(ratio, noise, seed);
            assert!(share < 0.1, "a model of {ratio} is in charge for {share}");
        }
    }
}

#[test]
fn where_nothing_makes_a_difference_nothing_is_proved() {
    let mut trust = ready();
    for _ in 0..1000 {
        trust.scored(Costs { model: 1.0, fallback: 1.0, alike: 1.1 });
    }
    assert_eq!(trust.level(), TrustLevel::Learning);
    for _ in 0..100 {
        trust.scored(Costs { model: 0.8, fallback: 1.0, alike: 1.1 });
    }
    assert_eq!(trust.level(), TrustLevel::Collaboration);
}

#[test]
fn groups_that_always_differed_are_no_evidence() {
    let mut trust = ready();
    for _ in 0..32 {
        trust.worked_before(Decider::Model, 130, 1);
        trust.worked_before(Decider::Fallback, 100, 1);
    }
    score(&mut trust, 1.0, 1.0);
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    work(&mut trust, 160, 100);
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    work(&mut trust, 400, 100);
    assert_eq!(trust.level(), TrustLevel::Learning);
}

#[test]
fn one_miss_costs_nothing_and_many_cost_a_level() {
    let mut trust = at_recommendation();
    for i in 0..640 {
        trust.deadline(i % 32 != 0);
    }
    assert_eq!(trust.level(), TrustLevel::Recommendation);
    for i in 0..64 {
        trust.deadline(i % 2 == 0);
    }
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Collaboration, "no step up while deadlines are missed");
    (0..64).for_each(|_| trust.deadline(true));
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Recommendation);
}

#[test]
fn without_a_worker_the_fallback_decides() {
    let mut trust = at_recommendation();
    trust.worker(false);
    assert_eq!(trust.level(), TrustLevel::Fallback);
    assert_eq!(trust.assign(0), Decider::Fallback);
    trust.worker(true);
    assert_eq!(trust.level(), TrustLevel::Collaboration, "a crash costs a level");
    trust.model_changed();
    assert_eq!(trust.level(), TrustLevel::Learning, "another model starts anew");
}

#[test]
fn who_owes_goes_back_to_learning_and_rises_no_more_until_it_is_paid() {
    let mut trust = at_recommendation();
    trust.permit(TrustLevel::Learning, true);
    for _ in 0..10 {
        score(&mut trust, 1.0, 2.0);
        assert_eq!(trust.level(), TrustLevel::Learning);
    }
    trust.model_changed();
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Learning, "another model owes the same");
    trust.permit(TrustLevel::Collaboration, true);
    (0..10).for_each(|_| score(&mut trust, 1.0, 2.0));
    assert_eq!(trust.level(), TrustLevel::Collaboration);
    trust.permit(TrustLevel::Recommendation, true);
    score(&mut trust, 1.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Recommendation);
    score(&mut trust, 5.0, 2.0);
    assert_eq!(trust.level(), TrustLevel::Learning, "nothing like what was trusted");
}

#[test]
fn a_model_stopped_for_what_it_cost_needs_more_evidence_the_next_time() {
    let judgements = |has_cost: bool| {
        let mut trust = at_recommendation();
        trust.permit(TrustLevel::Learning, has_cost);
        trust.permit(TrustLevel::Recommendation, has_cost);
        (1..).find(|_| {
            score(&mut trust, 1.0, 2.0);
            trust.level() == TrustLevel::Recommendation
        })
    };
    assert_eq!((judgements(false), judgements(true)), (Some(2), Some(4)));
}

#[test]
fn operations_are_shared_out_by_level() {
    let share = |trust: &Trust| (0..16_000).filter(|&ino| trust.assign(ino) == Decider::Model).count();
    assert_eq!(share(&ready()), 0);
    let mut trust = ready();
    score(&mut trust, 1.0, 2.0);
    assert!((1_800..2_200).contains(&share(&trust)), "{}", share(&trust));
    assert!((14_500..15_500).contains(&share(&at_recommendation())));
}

proptest! {
    #[test]
    fn no_evidence_breaks_it(events in proptest::collection::vec((0u8..6, any::<f64>(), any::<f64>()), 0..2000)) {
        let mut trust = Trust::new(TrustConfig { scored_min: 3, freed_min: 2, deadlines_window: 4, sit_out_min: 5,
                                                 ..TrustConfig::default() });
        for (event, a, b) in events {
            match event {
                0 => trust.scored(Costs { model: a, fallback: b, alike: b }),
                1 => trust.worked(Decider::Model, a.abs() as u64 % 1000, b.abs() as u64 % 3),
                2 => trust.worked(Decider::Fallback, a.abs() as u64 % 1000, b.abs() as u64 % 3),
                3 => trust.deadline(a > 0.0),
                4 => trust.worker(a > 0.0),
                _ => trust.model_changed(),
            }
            prop_assert!(trust.level() == TrustLevel::Fallback || trust.available);
            prop_assert!(trust.efficiency.is_none_or(|e| e >= 0.0));
        }
    }
}
