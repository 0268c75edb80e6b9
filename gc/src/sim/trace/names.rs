//! Numbers for names, in the order of first appearance.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, u64>);

impl Names {
    pub(super) fn number(&mut self, name: &str) -> u64 {
        if let Some(&number) = self.0.get(name) {
            return number;
        }
        let number = self.0.len() as u64;
        self.0.insert(name.into(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_by_first_appearance() {
        let mut names = Names::default();
        assert_eq!(["b", "a", "b", "c"].map(|n| names.number(n)), [0, 1, 0, 2]);
    }
}
