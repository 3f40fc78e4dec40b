//! How long jobs take, from the latest successes.

/// Successes kept of each job.
pub const KEPT: usize = 50;

/// What a job will take, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Half of the latest successes took no longer.
    pub p50_us: i64,
    /// Nine of ten of them took no longer.
    pub p90_us: i64,
    /// All that is counted has begun. Else it has to wait first, and nobody knows how long.
    pub begun: bool,
}

/// The estimate from `latest_us`; none without history.
pub fn estimate(latest_us: &[i64]) -> Option<Estimate> {
    let mut sorted = latest_us.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| sorted.get((sorted.len().checked_sub(1)? * percent).div_ceil(100)).copied();
    Some(Estimate { p50_us: at(50)?, p90_us: at(90)?, begun: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[7]), Some(Estimate { p50_us: 7, p90_us: 7, begun: false }));
        let ten: Vec<i64> = (1..=10).rev().collect();
        assert_eq!(estimate(&ten), Some(Estimate { p50_us: 6, p90_us: 10, begun: false }));
    }
}
