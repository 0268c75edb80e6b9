//! Makes a failing list shorter: halves, quarters and so on down to single items are left out while it still fails.

/// A shorter list that still fails, and how it does. `fails` is asked at most `tries` times.
pub fn shrink<T: Clone, F>(items: Vec<T>, failure: F, tries: usize, fails: impl Fn(&[T]) -> Option<F>) -> (Vec<T>, F) {
    let (mut items, mut failure, mut left) = (items, failure, tries);
    let mut size = items.len().div_ceil(2).max(1);
    loop {
        let before = items.len();
        let mut start = 0;
        while start < items.len() && left > 0 {
            let end = (start + size).min(items.len());
            let shorter = [&items[..start], &items[end..]].concat();
            left -= 1;
            match fails(&shorter) {
                Some(why) => (items, failure) = (shorter, why),
                None => start = end,
            }
        }
        if left == 0 || (size == 1 && items.len() == before) {
            return (items, failure);
        }
        size = if size > 1 { size.div_ceil(2) } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let fails = |items: &[u32]| (items.contains(&17) && items.contains(&80)).then_some(items.len());
        let (items, len) = shrink((0..100).collect(), 100, 1000, fails);
        assert_eq!((items, len), (vec![17, 80], 2));
    }

    #[test]
    fn tries_are_limited() {
        let asked = std::cell::Cell::new(0);
        let fails = |_: &[u32]| {
            asked.set(asked.get() + 1);
            None::<()>
        };
        assert_eq!(shrink(vec![1, 2, 3], (), 4, fails).0, [1, 2, 3]);
        assert_eq!(asked.get(), 4);
    }
}
