//! From a spec to a machine that runs.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::File;
use std::os::fd::AsRawFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::supervise::{Stderr, Supervisor, in_words};
use super::{Facts, Files, Machine, MachineOptions};
use crate::accel::{self, Choice};
use crate::cmdline::{Layout, QMP_SOCKET, SERIAL_SOCKET, VNC_SOCKET, network_socket};
use crate::disk;
use crate::error::MachineError;
use crate::input;
use crate::pacer::Pacer;
use crate::qmp::Qmp;
use crate::sandbox::{Host, Isolation, find_program};
use crate::serial::{self, SerialLog};
use crate::settings::MachineSpec;
use crate::spawner;
use crate::vnc::Screen;

/// The oldest QEMU that is supported.
const OLDEST: (u32, u32) = (7, 2);

pub(super) async fn start(
    spec: &MachineSpec,
    dir: &Utf8Path,
    options: MachineOptions,
) -> Result<Machine, MachineError> {
    let missing = || MachineError::QemuMissing { binary: spec.qemu.clone() };
    let qemu = find_program(&spec.qemu).ok_or_else(missing)?;
    let unusable = |e| MachineError::io(format!("the machine's directory {dir} cannot be used"), e);
    fs_err::create_dir_all(dir).map_err(unusable)?;
    let dir = dir.canonicalize_utf8().map_err(unusable)?;
    let disks = async {
        let mut made = BTreeMap::new();
        for (number, disk) in &spec.disks {
            made.insert(*number, disk::create(&options.qemu_img, *number, disk, &dir).await?);
        }
        Ok::<_, MachineError>(made)
    };
    let vars = spec.firmware.as_ref().map(|_| dir.join(disk::VARS_FILE));
    if let (Some(firmware), Some(vars)) = (&spec.firmware, &vars) {
        // Written anew: the host's may be there to be read only.
        let content = fs_err::read(&firmware.vars).map_err(unusable)?;
        fs_err::write(vars, content).map_err(unusable)?;
    }
    let probe = accel::choose(&qemu, spec.no_kvm, options.cache_dir.as_deref());
    let (accelerator, disks) = tokio::join!(probe, disks);
    let disks = disks?;
    let mut files = Files([QMP_SOCKET, VNC_SOCKET, SERIAL_SOCKET].map(|name| dir.join(name)).to_vec());
    if !options.keep_disks {
        files.0.extend(disks.values().cloned());
        files.0.extend(vars.clone());
    }
    files.0.extend(spec.cluster_cards().map(|(card, _)| dir.join(network_socket(card))));
    let layout = Layout { accelerator: accelerator.accelerator, disks, vars, number: options.number };
    let plan = Plan { spec, arguments: spec.arguments(&layout), qemu, dir, accelerator, options };
    let isolation = Host::this().best();
    let mut booted = plan.boot(&isolation).await;
    if let Err(MachineError::DiedAtStart { stderr, .. }) = &booted
        && let Some(lesser) = Host::this().after_failure(&isolation, stderr)
    {
        // Namespaces are not permitted; from now on this process knows.
        booted = plan.boot(&lesser).await;
    }
    booted.map(|machine| Machine { _files: files, ..machine })
}

struct Plan<'a> {
    spec: &'a MachineSpec,
    qemu: Utf8PathBuf,
    arguments: Vec<String>,
    dir: Utf8PathBuf,
    accelerator: Choice,
    options: MachineOptions,
}

/// The sockets that QEMU connects to, made before it is started.
struct Doors {
    /// Sockets are reached through this descriptor: their paths may have 107 bytes only.
    dir: File,
    qmp: UnixListener,
    serial: UnixListener,
    /// For each card in a network of the cluster, and the network's name.
    cards: Vec<(UnixListener, String)>,
}

impl Doors {
    fn open(dir: &Utf8Path, spec: &MachineSpec) -> std::io::Result<Self> {
        let handle = File::open(dir)?;
        for name in [QMP_SOCKET, SERIAL_SOCKET, VNC_SOCKET] {
            // Left by a machine that was killed.
            let _ = fs_err::remove_file(dir.join(name));
        }
        let qmp = UnixListener::bind(Self::path(&handle, QMP_SOCKET))?;
        let serial = UnixListener::bind(Self::path(&handle, SERIAL_SOCKET))?;
        let mut cards = Vec::new();
        for (card, network) in spec.cluster_cards() {
            let name = network_socket(card);
            let _ = fs_err::remove_file(dir.join(&name));
            cards.push((UnixListener::bind(Self::path(&handle, &name))?, network.to_owned()));
        }
        Ok(Self { dir: handle, qmp, serial, cards })
    }

    fn path(dir: &File, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
    }

    async fn screen(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(Self::path(&self.dir, VNC_SOCKET)).await
    }
}

/// What a booted QEMU is reached by.
struct Links {
    qmp: Qmp,
    screen: Screen,
    serial: UnixStream,
    pid: Option<u32>,
}

impl Plan<'_> {
    async fn boot(&self, isolation: &Isolation) -> Result<Machine, MachineError> {
        let cannot = |e| MachineError::io(format!("the machine's directory {} cannot be used", self.dir), e);
        let doors = Doors::open(&self.dir, self.spec).map_err(cannot)?;
        let (serial, serial_writer) =
            SerialLog::create(&self.dir.join("serial0.txt"), self.options.serial_limit).map_err(cannot)?;
        let mut command = Host::this().command(isolation, &self.qemu, &self.dir, &self.options.hide)?;
        command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawner::spawn(command)
            .await
            .map_err(|e| MachineError::io(format!("{} could not be started", self.qemu), e))?;
        let mut tasks = JoinSet::new();
        let stderr = Stderr::follow(child.stderr.take(), &mut tasks);
        let epoch = Instant::now();
        let deadline = self.options.start_deadline;
        let connect = tokio::time::timeout(deadline, self.connect(&doors, epoch, &mut tasks));
        let links = tokio::select! {
            links = connect => match links {
                Ok(Ok(links)) => links,
                // A connection that breaks at start: QEMU is about to end and to say why.
                Ok(Err(Broken::Link(_))) => return Err(self.died(&mut child, stderr).await),
                Ok(Err(Broken::Other(error))) => return Err(error),
                Err(_) => return Err(MachineError::Hangs { command: "its start".to_owned(), after: deadline }),
            },
            _ = child.wait() => return Err(self.died(&mut child, stderr).await),
        };
        let (serial_input, serial_rx) = mpsc::channel(16);
        tasks.spawn(serial::serve(links.serial, serial_writer, serial_rx));
        let (scripts, scripts_rx) = mpsc::channel(1);
        tasks.spawn(input::perform(scripts_rx, links.screen.actions(), Pacer::new(links.pid)));
        let (shutdown, _) = watch::channel(None);
        let (ended_tx, ended) = watch::channel(None);
        let (stopping, kill) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor {
            child,
            stderr,
            events: links.qmp.events(),
            qmp: links.qmp.clone(),
            screen_lost: links.screen.lost(),
            shutdown: shutdown.clone(),
            ended: ended_tx,
            stopping: stopping.clone(),
            kill: kill.clone(),
            ping_interval: self.options.ping_interval,
            hang_after: self.options.hang_after,
            dir: self.dir.clone(),
        };
        tasks.spawn(supervisor.run());
        let mut command_line = vec![self.qemu.to_string()];
        command_line.extend(self.arguments.iter().cloned());
        let facts = Facts {
            qemu_version: links.qmp.version().to_string(),
            accelerator: self.accelerator.clone(),
            isolation: isolation.clone(),
            command_line,
        };
        let machine = Machine {
            qmp: links.qmp,
            screen: links.screen,
            serial,
            serial_input,
            scripts,
            shutdown,
            ended,
            stopping,
            kill,
            facts,
            qemu_pid: links.pid,
            epoch,
            call_deadline: self.options.call_deadline,
            tasks,
            _files: Files(Vec::new()),
        };
        machine.resume().await?;
        Ok(machine)
    }

    /// Plugs a card into its network; what QEMU says when its end breaks is known elsewhere.
    fn plug(&self, stream: UnixStream, network: &str, tasks: &mut JoinSet<()>) {
        let switch = self.options.networks.get(network).cloned().unwrap_or_default();
        let network = network.to_owned();
        let port = switch.plug();
        tasks.spawn(async move {
            if let Err(error) = port.carry(stream).await {
                tracing::warn!(network, %error, "a network card has lost its network");
            }
        });
    }

    async fn connect(&self, doors: &Doors, epoch: Instant, tasks: &mut JoinSet<()>) -> Result<Links, Broken> {
        let link = |e: &dyn ToString| Broken::Link(e.to_string());
        for (card, network) in &doors.cards {
            let (stream, _) = card.accept().await.map_err(|e| link(&e))?;
            self.plug(stream, network, tasks);
        }
        let (qmp, _) = doors.qmp.accept().await.map_err(|e| link(&e))?;
        let (serial, _) = doors.serial.accept().await.map_err(|e| link(&e))?;
        let pid = qmp.peer_cred().ok().and_then(|c| c.pid()).and_then(|pid| u32::try_from(pid).ok());
        let qmp = Qmp::connect(qmp, self.options.start_deadline, tasks).await.map_err(|e| link(&e))?;
        let version = qmp.version();
        if (version.major, version.minor) < OLDEST {
            return Err(Broken::Other(MachineError::QemuTooOld {
                binary: self.qemu.clone(),
                version: version.to_string(),
            }));
        }
        // QEMU answers on QMP only after it listens for VNC.
        let stream = doors.screen().await.map_err(|e| link(&e))?;
        let screen = Screen::connect(stream, epoch, self.options.observer.clone(), tasks)
            .await
            .map_err(|e| link(&e))?;
        Ok(Links { qmp, screen, serial, pid })
    }

    /// QEMU ends before it could be used: why?
    async fn died(&self, child: &mut Child, stderr: Stderr) -> MachineError {
        let status = match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
            Ok(Ok(status)) => in_words(status),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "it closed its connections but did not end; it was killed".to_owned(),
        };
        if let Some(version) = self.version().await
            && parse_version(&version).is_some_and(|v| v < OLDEST)
        {
            return MachineError::QemuTooOld { binary: self.qemu.clone(), version };
        }
        let blamed = self.spec.unchecked.clone();
        let remedy = if blamed.is_empty() {
            format!("Try it by hand: {} {}", self.qemu, self.arguments.join(" "))
        } else {
            format!("See whether these settings are right: {}.", blamed.join(", "))
        };
        MachineError::DiedAtStart { status, stderr: stderr.finish().await, remedy, blamed }
    }

    /// What `qemu --version` says, for instance `7.2.22`. Only asked after a failure.
    async fn version(&self) -> Option<String> {
        let mut command = Command::new(&self.qemu);
        command.arg("--version").kill_on_drop(true).stdin(Stdio::null());
        let output = tokio::time::timeout(Duration::from_secs(5), command.output()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let after = text.split_once("version ")?.1;
        Some(after.split_whitespace().next()?.to_owned())
    }
}

enum Broken {
    /// A socket failed; the reason is in QEMU's own words.
    Link(#[expect(dead_code, reason = "shown by Debug in tests only")] String),
    Other(MachineError),
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
