//! How long to wait before the next try.

use std::time::Duration;

/// Waiting times that grow from try to try. The parameters are the caller's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// What each further one is multiplied with.
    pub factor: f64,
    /// Never longer.
    pub most: Duration,
    /// The part of it that is left to chance, 0 to 1, so that not everybody comes back at once.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), factor: 2.0, most: Duration::from_mins(1), jitter: 0.3 }
    }
}

impl Backoff {
    /// The time after `failed` failed tries (1 for the first); `chance` from 0 to 1.
    pub fn delay(&self, failed: u32, chance: f64) -> Duration {
        let power = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let whole = self.first.as_secs_f64() * self.factor.max(1.0).powi(power);
        let whole = whole.min(self.most.as_secs_f64());
        let jitter = self.jitter.clamp(0.0, 1.0);
        Duration::from_secs_f64(whole * (1.0 - jitter * chance.clamp(0.0, 1.0)))
    }

    /// The time after `failed` failed tries, with real chance.
    pub fn draw(&self, failed: u32) -> Duration {
        // Without a source of chance everybody waits the full time, which is still right.
        let chance = getrandom::u32().map_or(0.0, |bits| f64::from(bits) / f64::from(u32::MAX));
        self.delay(failed, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_most() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            factor: 2.0,
            most: Duration::from_secs(10),
            jitter: 0.5,
        };
        for (failed, chance, seconds) in
            [(0, 0.0, 1.0), (1, 0.0, 1.0), (2, 0.0, 2.0), (4, 1.0, 4.0), (5, 0.0, 10.0), (u32::MAX, 1.0, 5.0)]
        {
            assert_eq!(backoff.delay(failed, chance), Duration::from_secs_f64(seconds), "{failed} {chance}");
        }
    }
}
