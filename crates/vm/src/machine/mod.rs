//! A running machine.

mod start;
mod supervise;

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::accel::Choice;
use crate::cmdline::CD_DEVICE;
use crate::error::MachineError;
use crate::frames::{Demand, Frame, FrameObserver, FrameSource};
use crate::input::{Action, Script, Step, TypingPace, press, typing};
use crate::keys::{self, Key};
use crate::qmp::{Qmp, QmpError};
use crate::sandbox::Isolation;
use crate::serial::SerialLog;
use crate::settings::MachineSpec;
use crate::switch::Switch;
use crate::vnc::Screen;

/// What the host gives to a machine.
#[derive(Clone)]
pub struct MachineOptions {
    /// Where to keep what was found out about this host; without it it is found out once a process.
    pub cache_dir: Option<Utf8PathBuf>,
    /// Sees every frame.
    pub observer: Option<FrameObserver>,
    /// Name or path of qemu-img.
    pub qemu_img: String,
    /// Directories of the host that QEMU shall find empty, such as those with tokens and keys; not one that
    /// holds the machine's images. Works in namespaces only; what does not exist is passed over.
    pub hide: Vec<Utf8PathBuf>,
    /// Leave what the guest wrote to its disk where it is, as [`crate::disk_file`] in the machine's directory.
    pub keep_disks: bool,
    /// The networks of the job's cluster by name; the machine is alone in one that is not here.
    pub networks: BTreeMap<String, Switch>,
    /// Different for every machine of a cluster.
    pub number: u16,
    /// Most bytes of the serial log on disk.
    pub serial_limit: u64,
    /// How long QEMU may take until the guest's processor runs.
    pub start_deadline: Duration,
    /// How long a command may take.
    pub call_deadline: Duration,
    /// Between two looks whether QEMU still answers.
    pub ping_interval: Duration,
    /// How long QEMU may be silent before it counts as hanging.
    pub hang_after: Duration,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            observer: None,
            qemu_img: "qemu-img".to_owned(),
            hide: Vec::new(),
            keep_disks: false,
            networks: BTreeMap::new(),
            number: 0,
            serial_limit: 64 << 20,
            start_deadline: Duration::from_secs(30),
            call_deadline: Duration::from_secs(20),
            ping_interval: Duration::from_secs(10),
            hang_after: Duration::from_secs(20),
        }
    }
}

/// How the machine came to be, for its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// For instance `7.2.22 (Debian 1:7.2+dfsg-7)`.
    pub qemu_version: String,
    /// The accelerator and why it was chosen.
    pub accelerator: Choice,
    /// What keeps the guest from the host.
    pub isolation: Isolation,
    /// QEMU and its arguments.
    pub command_line: Vec<String>,
}

/// A change of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Pulls the plug.
    Off,
    /// Starts again after [`Power::Off`] or after the guest shut down.
    On,
    /// Presses the power button; the guest decides.
    Acpi,
    /// Presses the reset button.
    Reset,
}

/// How the guest went off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// By itself; QEMU's word for the reason, for instance `guest-shutdown` or `guest-panic`.
    Guest(String),
    /// By [`Power::Off`].
    Plug,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By [`Machine::stop`].
    Stopped,
    /// Otherwise.
    Failed(MachineError),
}

/// A running machine. Dropping it kills it; [`Machine::stop`] also waits until it is gone.
pub struct Machine {
    qmp: Qmp,
    screen: Screen,
    serial: SerialLog,
    serial_input: mpsc::Sender<Vec<u8>>,
    scripts: mpsc::Sender<Script>,
    shutdown: watch::Sender<Option<Shutdown>>,
    ended: watch::Receiver<Option<Ended>>,
    stopping: CancellationToken,
    kill: CancellationToken,
    facts: Facts,
    qemu_pid: Option<u32>,
    epoch: Instant,
    call_deadline: Duration,
    /// Everything that runs for the machine, QEMU's owner included: ends with this value.
    tasks: JoinSet<()>,
    _files: Files,
}

/// The machine's files that nobody needs after it.
struct Files(Vec<Utf8PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            // Gone already is as good.
            let _ = fs_err::remove_file(path);
        }
    }
}

impl FrameSource for Machine {
    fn frames(&self) -> watch::Receiver<Frame> {
        self.screen.frames()
    }

    fn demand(&self) -> Demand {
        self.screen.demand()
    }
}

impl Machine {
    /// Builds the machine in `dir` (sockets, overlay, `serial0.txt`) and lets its processor run. All of
    /// the screen and of the serial port is seen from the first moment on. Needs a tokio runtime with I/O
    /// and time.
    pub async fn start(
        spec: &MachineSpec,
        dir: &Utf8Path,
        options: MachineOptions,
    ) -> Result<Self, MachineError> {
        start::start(spec, dir, options).await
    }

    /// How it came to be.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The moment that times of frames count from.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// QEMU's process, as this process sees it.
    pub fn qemu_pid(&self) -> Option<u32> {
        self.qemu_pid
    }

    /// What the guest wrote to its serial port.
    pub fn serial(&self) -> &SerialLog {
        &self.serial
    }

    /// Queues bytes for the guest's serial port; waits while the guest does not take them.
    pub async fn serial_write(&self, bytes: &[u8]) -> Result<(), MachineError> {
        match self.serial_input.send(bytes.to_vec()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why_ended().await),
        }
    }

    /// Presses a key and holds it.
    pub async fn key_down(&self, key: Key) -> Result<(), MachineError> {
        self.key(key, true).await
    }

    /// Releases a key.
    pub async fn key_up(&self, key: Key) -> Result<(), MachineError> {
        self.key(key, false).await
    }

    async fn key(&self, key: Key, down: bool) -> Result<(), MachineError> {
        let then = TypingPace::default().gap;
        self.perform(vec![Step { action: Action::Key { key, down }, then }]).await
    }

    /// Presses and releases a combination such as `ctrl-alt-f2`.
    pub async fn send_key(&self, chord: &str, pace: TypingPace) -> Result<(), MachineError> {
        self.perform(press(&keys::chord(chord)?, pace)).await
    }

    /// Types a text on a US keyboard. Returns after the last key; if the caller gives up before, typing
    /// stops and no key stays pressed.
    pub async fn type_string(&self, text: &str, pace: TypingPace) -> Result<(), MachineError> {
        self.perform(typing(text, pace)?).await
    }

    /// Places the pointer, in pixels of the screen, with these buttons pressed (bit 0 left, 1 middle,
    /// 2 right, 3 and 4 wheel up and down).
    pub async fn pointer(&self, x: u32, y: u32, buttons: u8) -> Result<(), MachineError> {
        let clamp = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
        let action = Action::Pointer { x: clamp(x), y: clamp(y), buttons };
        self.perform(vec![Step { action, then: Duration::ZERO }]).await
    }

    async fn perform(&self, steps: Vec<Step>) -> Result<(), MachineError> {
        let (done, finished) = oneshot::channel();
        let sent = self.scripts.send(Script { steps, done }).await;
        if sent.is_err() || finished.await.is_err() {
            return Err(self.why_ended().await);
        }
        Ok(())
    }

    /// Changes the power.
    pub async fn power(&self, power: Power) -> Result<(), MachineError> {
        match power {
            Power::Acpi => self.command("system_powerdown", json!({})).await?,
            Power::Reset => self.command("system_reset", json!({})).await?,
            Power::Off => {
                self.command("stop", json!({})).await?;
                self.shutdown.send_replace(Some(Shutdown::Plug));
                Value::Null
            }
            Power::On => {
                self.command("system_reset", json!({})).await?;
                self.shutdown.send_replace(None);
                self.command("cont", json!({})).await?
            }
        };
        Ok(())
    }

    /// Holds how the guest went off, once it did; nothing while it is on.
    pub fn shutdown(&self) -> watch::Receiver<Option<Shutdown>> {
        self.shutdown.subscribe()
    }

    /// Stops the guest's processors.
    pub async fn freeze(&self) -> Result<(), MachineError> {
        self.command("stop", json!({})).await.map(|_| ())
    }

    /// Lets them run again.
    pub async fn resume(&self) -> Result<(), MachineError> {
        self.command("cont", json!({})).await.map(|_| ())
    }

    /// Takes the CD out, even if the guest has locked the drive.
    pub async fn eject_cd(&self) -> Result<(), MachineError> {
        self.command("eject", json!({ "id": CD_DEVICE, "force": true })).await.map(|_| ())
    }

    /// Any QMP command; returns its result.
    pub async fn command(&self, name: &str, arguments: Value) -> Result<Value, MachineError> {
        match self.qmp.call(name, arguments, self.call_deadline).await {
            Ok(value) => Ok(value),
            Err(QmpError::Closed(_)) => Err(self.why_ended().await),
            Err(e) => Err(e.into()),
        }
    }

    /// Holds how the machine ended, once it did. QEMU is gone by then.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }

    /// For a call that found a connection closed: the reason follows within moments.
    async fn why_ended(&self) -> MachineError {
        let mut ended = self.ended.clone();
        let wait = ended.wait_for(Option::is_some);
        match tokio::time::timeout(self.call_deadline, wait).await {
            Ok(Ok(end)) => match &*end {
                Some(Ended::Failed(error)) => error.clone(),
                _ => MachineError::Ended,
            },
            _ => MachineError::Ended,
        }
    }

    /// Ends the machine and waits until nothing of it runs. Its log stays, its sockets and overlay go.
    pub async fn stop(mut self) -> Ended {
        self.stopping.cancel();
        let patience = Duration::from_secs(2);
        // A QEMU that hangs does not answer; then it is killed.
        let asked = self.qmp.call("quit", json!({}), patience).await;
        let mut ended = self.ended.clone();
        if matches!(asked, Err(QmpError::Deadline { .. }))
            || tokio::time::timeout(patience, ended.wait_for(Option::is_some)).await.is_err()
        {
            self.kill.cancel();
        }
        let end = match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ended::Stopped),
            Err(_) => Ended::Stopped,
        };
        self.tasks.shutdown().await;
        end
    }
}
