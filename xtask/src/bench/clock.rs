//! The real clock: what a benchmark is about.

use std::time::{Duration, Instant, SystemTime};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, to compare with what other programs wrote down.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn unix_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[expect(clippy::disallowed_methods, reason = "a sampler has nothing else to wait for")]
pub(super) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// How long this thread has had a processor: what others do on the machine is not in it.
pub(super) fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// A fixed rate: a turn that took longer than its time is not made up for.
pub(super) struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    pub(super) fn new(every: Duration) -> Self {
        Self { next: now(), every }
    }

    /// Waits until the next turn.
    pub(super) fn wait(&mut self) {
        let now = now();
        self.next = (self.next + self.every).max(now);
        sleep(self.next - now);
    }
}
