//! Chance without randomness: everything is a function of a seed and of what it is asked about.

/// One well-mixed number out of two.
pub fn mix(a: u64, b: u64) -> u64 {
    // SplitMix64's finaliser over a sum that no simple pattern of `a` and `b` cancels.
    let mut z = a.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(b).wrapping_add(0xD1B5_4A32_D192_ED03);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number out of bytes.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = mix(seed, bytes.len() as u64);
    bytes.chunks(8).fold(start, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(sum, u64::from_le_bytes(word))
    })
}

/// True in `per_mille` of thousand cases.
pub fn happens(number: u64, per_mille: u32) -> bool {
    number % 1_000 < u64::from(per_mille)
}

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, thrown: 0 }
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.thrown += 1;
        mix(self.seed, self.thrown)
    }

    /// A number from 0 to below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.throw().checked_rem(end).unwrap_or(0)
    }

    /// True in `per_mille` of thousand throws.
    pub fn happens(&mut self, per_mille: u32) -> bool {
        happens(self.throw(), per_mille)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_and_repeatable() {
        let mut dice = Dice::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[dice.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        let again: Vec<u64> = std::iter::repeat_with({
            let mut dice = Dice::new(7);
            move || dice.throw()
        })
        .take(3)
        .collect();
        let mut first = Dice::new(7);
        assert_eq!(again, [first.throw(), first.throw(), first.throw()]);
        assert_ne!(hash(1, b"a"), hash(1, b"a\0"));
        assert!((0..1_000).filter(|n| happens(mix(3, *n), 100)).count().abs_diff(100) < 35);
    }
}
