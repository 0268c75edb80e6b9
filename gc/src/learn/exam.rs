//! What a choice of classes is worth, on writes that came after whatever chose was made.
//!
//! Blocks of a class share a segment, and what they cost is how unlike their lifetimes are: the squared distance of log2 of each lifetime to the mean of its class.
//! Whatever a class is called, two ways to choose can so be compared on the same writes.

use super::watched::Lesson;

/// Classes of a decider, at most.
const CLASSES: usize = 256;
/// Fewer writes show nothing.
pub const EXAMPLES_MIN: usize = 300;

/// What was spent on the same writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exam {
    pub examples: usize,
    /// Cost of the candidate over that of what it is compared with; below 1 it is better.
    pub ratio: f64,
}

/// Compares two choices on the lessons for which both are known; nothing if these are too few.
pub fn compare(
    lessons: &[Lesson],
    candidate: impl Fn(&Lesson) -> Option<u8>,
    other: impl Fn(&Lesson) -> Option<u8>,
) -> Option<Exam> {
    let both: Vec<(f32, u8, u8)> =
        lessons.iter().filter_map(|lesson| Some((lesson.sample.label, candidate(lesson)?, other(lesson)?))).collect();
    if both.len() < EXAMPLES_MIN {
        return None;
    }
    let ours = spread(both.iter().map(|&(label, class, _)| (label, class)));
    let theirs = spread(both.iter().map(|&(label, _, class)| (label, class)));
    let ratio = if ours == theirs { 1.0 } else { ours / theirs.max(f64::MIN_POSITIVE) };
    Some(Exam { examples: both.len(), ratio })
}

/// Sum of the squared distances of labels to the mean of their class.
fn spread(chosen: impl Iterator<Item = (f32, u8)>) -> f64 {
    let mut classes = [(0u64, 0.0, 0.0); CLASSES];
    for (label, class) in chosen {
        let (count, sum, squares) = &mut classes[usize::from(class)];
        let label = f64::from(label);
        (*count, *sum, *squares) = (*count + 1, *sum + label, *squares + label * label);
    }
    classes.iter().filter(|c| c.0 > 0).map(|(count, sum, squares)| (squares - sum * sum / *count as f64).max(0.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::PlacementRow;
    use crate::placement::Opinions;
    use crate::sim::Sample;

    fn lessons() -> Vec<Lesson> {
        let lesson = |n: u64| Lesson {
            sample: Sample { row: PlacementRow::default(), label: if n.is_multiple_of(3) { -6.0 } else { 0.5 } },
            opinions: Opinions { model: None, rule: Some((n % 2) as u8) },
            since: n,
        };
        (0..900).map(lesson).collect()
    }

    #[test]
    fn whoever_knows_the_lifetimes_pays_nothing_whatever_the_classes_are_called() {
        let lessons = lessons();
        let knows = |l: &Lesson| Some(if l.sample.label < -1.0 { 200 } else { 0 });
        let exam = compare(&lessons, knows, |l| l.opinions.rule).unwrap();
        assert_eq!((exam.examples, exam.ratio), (900, 0.0));
        let same = compare(&lessons, |l| l.opinions.rule, |l| l.opinions.rule).unwrap();
        assert_eq!(same.ratio, 1.0);
        assert!(compare(&lessons, |_| Some(0), |l| l.opinions.rule).unwrap().ratio > 0.99);
        assert_eq!(compare(&lessons, knows, |l| l.opinions.model), None, "nobody chose");
    }
}
