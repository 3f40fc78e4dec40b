//! What ends a run before its tests do.

use crate::exec::{self, Attempt, Stop};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_proto::driver::CallError;
use assay_proto::worker::Report;
use assay_vm::Ended;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Why the run ends now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// Somebody stopped it.
    Stopped(Stop),
    /// `MAX_JOB_TIME`, in seconds.
    JobTime(u64),
    /// QEMU has died or hangs.
    MachineLost(String),
    /// The record cannot be written.
    RecordLost(String),
}

impl Halt {
    /// As the answer to a call that is under way.
    pub(super) fn call_error(&self) -> CallError {
        match self {
            Self::Stopped(stop) => CallError::cancelled(stop.sentence()),
            Self::JobTime(_) => CallError::cancelled(self.sentence()),
            Self::MachineLost(_) | Self::RecordLost(_) => CallError::infrastructure(self.sentence()),
        }
    }

    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Stopped(stop) => stop.sentence(),
            Self::JobTime(seconds) => {
                format!(
                    "timeout: test execution exceeded MAX_JOB_TIME={seconds} s; raise it or shorten the test"
                )
            }
            Self::MachineLost(why) => format!("backend died: {why}"),
            Self::RecordLost(why) => why.clone(),
        }
    }

    pub(super) fn report(&self) -> Report {
        match self {
            Self::Stopped(stop) => exec::stopped(stop),
            Self::JobTime(_) => Report {
                outcome: Outcome::TimeoutExceeded,
                class: OutcomeClass::Test,
                reason: Some(self.sentence()),
            },
            Self::MachineLost(_) | Self::RecordLost(_) => exec::infrastructure(self.sentence()),
        }
    }
}

/// Where the halt is written once and read by everybody.
pub(super) type HaltSignal = watch::Receiver<Option<Halt>>;

/// Waits for the first thing that ends the run and announces it.
pub(super) async fn monitor(
    attempt: Attempt,
    mut ended: watch::Receiver<Option<Ended>>,
    max_job_time: Duration,
    announce: watch::Sender<Option<Halt>>,
) {
    let deadline = attempt.began + max_job_time;
    let mut grown = attempt.dir.grown();
    let record_lost = async {
        loop {
            if let Some(why) = attempt.dir.failure() {
                return why;
            }
            if grown.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let machine_lost = async {
        let end = match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => return "the machine is gone".to_owned(),
        };
        match end {
            Some(Ended::Failed(error)) => error.to_string(),
            // The run itself has stopped it.
            Some(Ended::Stopped) | None => std::future::pending().await,
        }
    };
    let halt = tokio::select! {
        stop = attempt.stopped() => Halt::Stopped(stop),
        () = tokio::time::sleep_until(deadline) => Halt::JobTime(max_job_time.as_secs()),
        why = machine_lost => Halt::MachineLost(why),
        why = record_lost => Halt::RecordLost(why),
    };
    attempt.log(&halt.sentence());
    let _ = announce.send(Some(halt));
}

/// Waits until the run has to end, or until `deadline` (then `None`).
pub(super) async fn halted(signal: &mut HaltSignal, deadline: Option<Instant>) -> Option<Halt> {
    let halt = async {
        match signal.wait_for(Option::is_some).await {
            Ok(halt) => Some(halt.clone()),
            Err(_) => None,
        }
    };
    let halt = async {
        match halt.await {
            Some(halt) => halt,
            // The monitor is gone with the run; nobody waits for it any more.
            None => std::future::pending().await,
        }
    };
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, halt).await.unwrap_or(None),
        None => halt.await,
    }
}
