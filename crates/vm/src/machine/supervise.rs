//! Watches over a running QEMU: its end, its silence, its events.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Ended, Shutdown};
use crate::error::MachineError;
use crate::qmp::{Event, Qmp, QmpError};

/// Bytes of QEMU's messages that are kept.
const LAST_WORDS: usize = 8 * 1024;
/// How long QEMU may live on after a connection to it broke.
const GRACE: Duration = Duration::from_secs(2);

/// The end of what QEMU writes to its standard error.
pub(super) struct Stderr {
    tail: Arc<Mutex<VecDeque<u8>>>,
    finished: oneshot::Receiver<()>,
}

impl Stderr {
    pub(super) fn follow(pipe: Option<ChildStderr>, tasks: &mut JoinSet<()>) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (done, finished) = oneshot::channel();
        let sink = Arc::clone(&tail);
        tasks.spawn(async move {
            let mut buffer = [0; 4096];
            if let Some(mut pipe) = pipe {
                while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
                    let mut tail = sink.lock().unwrap_or_else(PoisonError::into_inner);
                    let surplus = (tail.len() + n).saturating_sub(LAST_WORDS);
                    tail.drain(..surplus);
                    tail.extend(&buffer[..n]);
                }
            }
            // Nobody may be waiting.
            let _ = done.send(());
        });
        Self { tail, finished }
    }

    /// All that was written, once QEMU has ended.
    pub(super) async fn finish(self) -> String {
        // The pipe outlives QEMU by moments only, unless something else holds it.
        let _ = tokio::time::timeout(GRACE, self.finished).await;
        let tail: Vec<u8> =
            self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        String::from_utf8_lossy(&tail).trim().to_owned()
    }
}

/// An exit status for people. Bubblewrap tells of a signal as 128 and its number.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) | (_, Some(137)) => "killed by signal 9".to_owned(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (_, Some(code @ 129..=159)) => format!("ended by signal {}", code - 128),
        (_, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}

pub(super) struct Supervisor {
    pub(super) child: Child,
    pub(super) stderr: Stderr,
    pub(super) qmp: Qmp,
    pub(super) events: broadcast::Receiver<Event>,
    pub(super) screen_lost: watch::Receiver<Option<String>>,
    pub(super) shutdown: watch::Sender<Option<Shutdown>>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) stopping: CancellationToken,
    pub(super) kill: CancellationToken,
    pub(super) ping_interval: Duration,
    pub(super) hang_after: Duration,
    pub(super) dir: Utf8PathBuf,
}

impl Supervisor {
    /// Returns when QEMU is gone.
    pub(super) async fn run(mut self) {
        let fault = self.watch().await;
        if fault.is_some() || self.kill.is_cancelled() {
            // It may have ended by itself meanwhile.
            let _ = self.child.start_kill();
        }
        let status = self.child.wait().await;
        // In its own process namespace QEMU is killed by the kernel moments after the process we waited
        // for; its end of the control connection closes with it.
        let _ = tokio::time::timeout(GRACE, self.qmp.closed()).await;
        let end = match fault {
            Some(error) => Ended::Failed(error),
            None if self.stopping.is_cancelled() => Ended::Stopped,
            None => {
                let status = status.map_or_else(|e| e.to_string(), in_words);
                Ended::Failed(MachineError::Died { status, stderr: self.stderr.finish().await })
            }
        };
        self.ended.send_replace(Some(end));
    }

    /// Until QEMU ended, shall be killed, or has a fault that it will not recover from.
    async fn watch(&mut self) -> Option<MachineError> {
        let pings = ping(self.qmp.clone(), self.ping_interval, self.hang_after);
        tokio::pin!(pings);
        loop {
            tokio::select! {
                _ = self.child.wait() => return None,
                () = self.kill.cancelled() => return None,
                after = &mut pings => {
                    return Some(MachineError::Hangs { command: "query-status".to_owned(), after });
                }
                event = self.events.recv() => match event {
                    Ok(event) => if let Some(fault) = self.event(&event) { return Some(fault) },
                    Err(broadcast::error::RecvError::Lagged(n)) => tracing::warn!("{n} events of QEMU were lost"),
                    Err(broadcast::error::RecvError::Closed) => return self.broken("its control connection closed").await,
                },
                // Nearly always because QEMU ends; its own end tells more.
                why = lost(&mut self.screen_lost) => return self.broken(&why).await,
                why = closed(&self.qmp) => return self.broken(&why).await,
            }
        }
    }

    async fn broken(&mut self, why: &str) -> Option<MachineError> {
        match tokio::time::timeout(GRACE, self.child.wait()).await {
            Ok(_) => None,
            Err(_) => Some(MachineError::ScreenLost { why: why.to_owned() }),
        }
    }

    fn event(&self, event: &Event) -> Option<MachineError> {
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = event.data["reason"].as_str().unwrap_or("unknown");
                self.shutdown.send_replace(Some(Shutdown::Guest(reason.to_owned())));
                None
            }
            "BLOCK_IO_ERROR" if event.data["nospace"] == json!(true) => {
                Some(MachineError::DiskFull { path: self.dir.clone() })
            }
            _ => None,
        }
    }
}

async fn lost(screen: &mut watch::Receiver<Option<String>>) -> String {
    match screen.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "its reader ended".to_owned(),
    }
}

async fn closed(qmp: &Qmp) -> String {
    qmp.closed().await
}

/// Returns how long QEMU did not answer, once it was too long.
async fn ping(qmp: Qmp, interval: Duration, patience: Duration) -> Duration {
    loop {
        tokio::time::sleep(interval).await;
        if let Err(QmpError::Deadline { after, .. }) = qmp.call("query-status", json!({}), patience).await {
            return after;
        }
    }
}
