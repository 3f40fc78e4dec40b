//! Sets of revisions: what a tree consists of.

use crate::chance::mix;

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(Vec<u64>);

impl Content {
    /// True if `number` is in it.
    pub fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Puts `number` into it.
    pub fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    /// Puts everything of `other` into it.
    pub fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// What is in it and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let words = self.0.iter().enumerate();
        let mut rest: Vec<u64> =
            words.map(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0)).collect();
        while rest.last() == Some(&0) {
            rest.pop();
        }
        Self(rest)
    }

    /// True if something is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// True if everything of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().enumerate().all(|(at, word)| word & !self.0.get(at).copied().unwrap_or(0) == 0)
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let word = *word;
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }

    /// Equal sets have equal hashes.
    pub fn hash(&self, seed: u64) -> u64 {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.fold(mix(seed, 1), |sum, (at, word)| mix(sum ^ at as u64, *word))
    }
}

impl FromIterator<usize> for Content {
    fn from_iter<T: IntoIterator<Item = usize>>(numbers: T) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let a: Content = [1, 70, 3].into_iter().collect();
        let b: Content = [70, 200].into_iter().collect();
        assert_eq!(a.iter().collect::<Vec<_>>(), [1, 3, 70]);
        assert!(a.meets(&b) && !a.covers(&b) && a.has(70) && !a.has(200));
        let mut both = a.clone();
        both.extend(&b);
        assert!(both.covers(&a) && both.covers(&b));
        assert_eq!(both.without(&b), [1, 3].into_iter().collect());
        assert_eq!(both.without(&b).hash(1), [3, 1].into_iter().collect::<Content>().hash(1));
        assert!(both.without(&both).is_empty());
    }
}
