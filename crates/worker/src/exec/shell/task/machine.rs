//! A task in a virtual machine of its own (`TASK_MACHINE`).
//!
//! The machine is told what to do at the shell that it has on its first serial port; what the task prints comes from there.
//! The workspace goes in as a tar archive by a port of the machine, and artifacts and results come back by the same one. Both
//! archives are made and taken apart in the sandbox: a machine that a task has broken can send anything.

use super::super::phase::{Ended, quoted};
use super::super::recorder::Recorder;
use super::super::sandbox::{HOME, WORKSPACE};
use super::super::{Deadline, Job};
use super::{ARTIFACTS, RESULTS, item};
use crate::assets;
use crate::exec::vm::MachineDir;
use assay_formats::task_header::{Need, TaskHeader};
use assay_proto::task::{Phase, PhaseName, ShellStep};
use assay_proto::task_run::MACHINE;
use assay_vm::{Class, FrameSource as _, Machine, MachineError, MachineOptions, MachineSpec, SerialLog};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The port's name, as the guest sees it.
const PORT: &str = "assay.task";
/// QEMU's end of it, in the machine's directory.
const SOCKET: &str = "task.sock";
/// The workspace on its way in, and what is kept on its way out, in the sandbox's home.
const IN: &str = "machine-in.tar";
const OUT: &str = "machine-out.tar";
/// The script that runs the task, in the workspace.
const SCRIPT: &str = ".assay-task";
/// A machine that has no shell by then will not have one.
const BOOT: Duration = Duration::from_mins(10);
/// How often the serial port is asked whether there is a shell: a machine that starts takes no notice.
const ASK: Duration = Duration::from_secs(2);
/// Bytes of the serial port that are looked through for an answer.
const TAIL: usize = 64 << 10;
/// What a machine has if nothing says otherwise.
const RAM_MIB: u64 = 2048;

/// Why a machine cannot carry the task out.
enum Broken {
    Usage(String),
    Host(String),
}

impl From<MachineError> for Broken {
    fn from(error: MachineError) -> Self {
        match error.class() {
            Class::Usage => Self::Usage(error.to_string()),
            Class::Infrastructure => Self::Host(error.to_string()),
        }
    }
}

/// A task and the machine for it.
pub(super) struct Guest<'a, 'j> {
    pub(super) job: &'a Job<'j>,
    pub(super) header: &'a TaskHeader,
    /// The task's folder, below the workspace.
    pub(super) path: &'a Utf8Path,
}

impl Guest<'_, '_> {
    /// Runs the task; afterwards what it left is where it would be without a machine.
    pub(super) async fn run(&self, recorder: &mut Recorder<'_>) -> Ended {
        recorder.module_started(PhaseName::Run.word());
        let ended = match self.within(recorder).await {
            Ok(ended) => ended,
            Err(Broken::Usage(why)) => Ended::Breach(why),
            Err(Broken::Host(why)) => Ended::Host(why),
        };
        recorder.quiet();
        recorder.module_ended(super::super::module_result(&ended));
        ended
    }

    async fn within(&self, recorder: &mut Recorder<'_>) -> Result<Ended, Broken> {
        let attempt = self.job.attempt;
        let name = attempt.settings.get(MACHINE).cloned().unwrap_or_default();
        let assets = assets::fetch(attempt)
            .await
            .map_err(|report| Broken::Usage(report.reason.unwrap_or_default()))?;
        let spec = self.spec(&name, &assets.located(&attempt.settings))?;
        self.write_script()?;
        let archive = ["tar --create --exclude=.git --owner=0 --group=0 --numeric-owner", " --file="];
        let pack = format!("{}{}{HOME}/{IN} --directory=/ {}", archive[0], archive[1], &WORKSPACE[1..]);
        match self.helper("pack", &pack, recorder).await {
            Ended::Well => {}
            Ended::Stopped(stop) => return Ok(Ended::Stopped(stop)),
            other => {
                return Err(Broken::Host(format!("the workspace cannot be packed: {}", other.sentence())));
            }
        }
        let home = &self.job.dirs.home;
        let ended = self.boot(&name, &spec, recorder).await?;
        let _ = fs_err::remove_file(home.join(IN));
        if !home.join(OUT).exists() || matches!(ended, Ended::Stopped(_) | Ended::Host(_)) {
            return Ok(ended);
        }
        let unpack = format!(
            "tar --extract --no-same-owner --file={HOME}/{OUT} --directory={WORKSPACE} {RESULTS} {ARTIFACTS}"
        );
        match (self.helper("unpack", &unpack, recorder).await, &ended) {
            (Ended::Stopped(stop), _) => Ok(Ended::Stopped(stop)),
            (Ended::Well, _) | (_, Ended::Timeout(_) | Ended::Breach(_) | Ended::Badly(_)) => Ok(ended),
            (other, _) => {
                Ok(Ended::Badly(format!("what the machine sent back cannot be read: {}", other.sentence())))
            }
        }
    }

    /// The machine that the settings describe, with as much memory as the task wants, without a network, and with the port.
    fn spec(&self, name: &str, settings: &BTreeMap<String, String>) -> Result<MachineSpec, Broken> {
        if self.header.needs.contains(&Need::Network) {
            return Err(Broken::Usage(format!(
                "the task {} needs the network, and a machine of its own has none; run it on a worker of the class disposable",
                self.header.name
            )));
        }
        let mut settings = settings.clone();
        let ram = self.header.memory.map_or(RAM_MIB, |bytes| bytes.div_ceil(1 << 20));
        settings.entry("QEMURAM".to_owned()).or_insert_with(|| ram.to_string());
        settings.insert("NICMODEL".to_owned(), "none".to_owned());
        let mut spec = MachineSpec::from_settings(&settings, self.job.attempt.dir.path())
            .map_err(|problems| Broken::Usage(format!("the machine {name}: {problems}")))?;
        if spec.disks.is_empty() && spec.kernel.is_none() && spec.iso.is_none() {
            return Err(Broken::Usage(format!(
                "the machine {name} has nothing to start from; give it HDD_1, KERNEL or ISO"
            )));
        }
        let port = [
            "-chardev".to_owned(),
            format!("socket,id=task,path={SOCKET}"),
            "-device".to_owned(),
            "virtio-serial-pci".to_owned(),
            "-device".to_owned(),
            format!("virtserialport,chardev=task,name={PORT}"),
        ];
        spec.extra.extend(port);
        Ok(spec)
    }

    /// What the guest runs: the task, and then what is kept goes out by the port. `$1` is the port, `$2` a word that says that
    /// what follows is the exit code.
    fn write_script(&self) -> Result<(), Broken> {
        let run = &self.header.run;
        let program = if run.contains('/') { run.clone() } else { format!("./{run}") };
        let script = format!(
            "export ASSAY_INPUT={WORKSPACE}/{input} WORKSPACE={WORKSPACE}\ncd {path} && {program} <{WORKSPACE}/{input}\ncode=$?\n\
             cd {WORKSPACE} && tar -c -f \"$1\" {RESULTS} {ARTIFACTS}\necho \"$2 $code\"\n",
            input = item::INPUT,
            path = quoted(&format!("{WORKSPACE}/{}", self.path)),
            program = quoted(&program),
        );
        fs_err::write(self.job.dirs.workspace.join(SCRIPT), script)
            .map_err(|error| Broken::Host(error.to_string()))
    }

    /// A program of the host, in the sandbox.
    async fn helper(&self, name: &str, script: &str, recorder: &mut Recorder<'_>) -> Ended {
        let step = ShellStep { name: Some(name.to_owned()), script: script.to_owned(), shell: None };
        let phase = Phase { steps: vec![step], ..Phase::default() };
        self.job.steps(PhaseName::Run, &phase, "", recorder).await
    }

    async fn boot(
        &self,
        name: &str,
        spec: &MachineSpec,
        recorder: &mut Recorder<'_>,
    ) -> Result<Ended, Broken> {
        let attempt = self.job.attempt;
        let host =
            |error: std::io::Error| Broken::Host(format!("the machine's port cannot be made: {error}"));
        let dir = MachineDir::new(&attempt.host.run);
        fs_err::create_dir_all(&dir.0).map_err(host)?;
        let handle = fs_err::File::open(&dir.0).map_err(host)?;
        // By its descriptor: the path of a socket may have 107 bytes only.
        let door =
            UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd())).map_err(host)?;
        let options = MachineOptions {
            cache_dir: Some(attempt.host.cache.clone()),
            hide: attempt.host.hide.clone(),
            ..MachineOptions::default()
        };
        let machine = tokio::select! {
            machine = Machine::start(spec, &dir.0, options) => machine?,
            stop = attempt.stopped() => return Ok(Ended::Stopped(stop)),
        };
        recorder.say(&format!("the machine {name} starts: {}", machine.facts().command_line.join(" ")));
        let tap = || attempt.tap.lock().unwrap_or_else(PoisonError::into_inner);
        *tap() = Some(machine.frames());
        let ended = async {
            let (port, _) = door.accept().await.map_err(host)?;
            self.drive(name, &machine, port, recorder).await
        };
        let ended = ended.await;
        *tap() = None;
        machine.stop().await;
        ended
    }

    /// From the first shell to the exit code.
    async fn drive(
        &self,
        name: &str,
        machine: &Machine,
        port: UnixStream,
        recorder: &mut Recorder<'_>,
    ) -> Result<Ended, Broken> {
        let word = format!("assay-{}", uuid::Uuid::new_v4().simple());
        let mut console = Console { serial: machine.serial().clone(), at: 0, tail: String::new() };
        let stop = self.job.attempt.stopped();
        let mut over = self.job.pace.over(PhaseName::Run, Deadline::Budget, BOOT);
        tokio::pin!(stop);
        let mut ask = tokio::time::interval(ASK);
        // The sum is made by the shell, so that what a terminal repeats of the question is no answer.
        let question = format!("\necho $((40+2))-{word}\n");
        let answer = format!("42-{word}");
        while console.after(&answer).is_none() {
            tokio::select! {
                more = console.read(recorder) => if !more { return Err(ended_early(machine, name).await) },
                _ = ask.tick() => machine.serial_write(question.as_bytes()).await?,
                stop = &mut stop => return Ok(Ended::Stopped(stop)),
                () = &mut over => return Err(Broken::Usage(console.no_shell(name))),
            }
        }
        recorder.say("the machine has a shell on its serial port");
        let (out, mut files) = (self.job.dirs.home.join(OUT), None);
        let carry = carry(port, self.job.dirs.home.join(IN), out, self.job.task.limits.disk_bytes);
        tokio::pin!(carry);
        // Counted, because some programs read an archive to its end, and the port has none.
        let size = fs_err::metadata(self.job.dirs.home.join(IN))
            .map_err(|error| Broken::Host(error.to_string()))?
            .len();
        let order = format!(
            "stty -echo 2>/dev/null; for p in /sys/class/virtio-ports/*; do [ \"$(cat $p/name)\" = {PORT} ] && \
             head -c {size} /dev/${{p##*/}} | tar -x -f - -C / && sh {WORKSPACE}/{SCRIPT} /dev/${{p##*/}} {word}; done\n"
        );
        machine.serial_write(order.as_bytes()).await?;
        let budget = Duration::from_secs(self.header.timeout_s);
        let mut over = self.job.pace.over(PhaseName::Run, Deadline::Budget, budget);
        let code = loop {
            if let Some(code) =
                console.after(&format!("{word} ")).and_then(|rest| rest.lines().next()?.trim().parse().ok())
            {
                break code;
            }
            tokio::select! {
                more = console.read(recorder) => if !more {
                    return Ok(Ended::Badly(format!("the machine {name} ended before the task did")));
                },
                carried = &mut carry, if files.is_none() => match carried {
                    Ok(bytes) => files = Some(bytes),
                    Err(Broken::Usage(why)) => return Ok(Ended::Breach(why)),
                    Err(error) => return Err(error),
                },
                stop = &mut stop => return Ok(Ended::Stopped(stop)),
                () = &mut over => {
                    let why = format!("timeout: run exceeded its budget of {} s", budget.as_secs());
                    return Ok(Ended::Timeout(why));
                }
            }
        };
        // The guest's last write came back when QEMU had passed it on; the end of the machine is the end of the stream.
        let quit = machine.command("quit", serde_json::json!({}));
        let (_, carried) = tokio::join!(quit, async {
            match files {
                Some(bytes) => Ok(bytes),
                None => carry.await,
            }
        });
        if let Err(Broken::Usage(why)) = carried {
            return Ok(Ended::Breach(why));
        }
        Ok(match code {
            0 => Ended::Well,
            code => Ended::Badly(format!("run: {}: exit code {code}", self.header.name)),
        })
    }
}

/// Why a machine is gone before anything ran on it.
async fn ended_early(machine: &Machine, name: &str) -> Broken {
    let mut ended = machine.ended();
    let why = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    Broken::Usage(match why {
        Some(assay_vm::Ended::Failed(error)) => format!("the machine {name} ended: {error}"),
        _ => format!("the machine {name} switched itself off before it had a shell on its serial port"),
    })
}

/// Sends the workspace in, and keeps what comes out, until the machine is gone.
async fn carry(port: UnixStream, from: Utf8PathBuf, to: Utf8PathBuf, most: u64) -> Result<u64, Broken> {
    let host = |error: std::io::Error| Broken::Host(format!("the workspace cannot be carried: {error}"));
    let (mut back, mut there) = port.into_split();
    let mut workspace = fs_err::tokio::File::open(&from).await.map_err(host)?;
    let mut kept = fs_err::tokio::File::create(&to).await.map_err(host)?;
    let send = async {
        // A machine that takes no more has its reasons, and its console tells them.
        let _ = tokio::io::copy(&mut workspace, &mut there).await;
        // Kept open: the port is one connection for both ways.
        Ok::<_, Broken>(there)
    };
    let receive = async {
        let (mut bytes, mut chunk) = (0_u64, vec![0; 256 << 10]);
        loop {
            let count = back.read(&mut chunk).await.unwrap_or(0);
            if count == 0 {
                break;
            }
            bytes += count as u64;
            if bytes > most {
                return Err(Broken::Usage(format!(
                    "the task left more than {most} bytes of results and artifacts"
                )));
            }
            kept.write_all(&chunk[..count]).await.map_err(host)?;
        }
        kept.flush().await.map_err(host)?;
        Ok(bytes)
    };
    let (_, bytes) = tokio::try_join!(send, receive)?;
    Ok(bytes)
}

/// The machine's first serial port.
struct Console {
    serial: SerialLog,
    at: u64,
    tail: String,
}

impl Console {
    /// Waits for more, and passes it on; false if there is no more.
    async fn read(&mut self, recorder: &mut Recorder<'_>) -> bool {
        let mut length = self.serial.length();
        if length.wait_for(|length| *length > self.at).await.is_err() {
            return false;
        }
        let Ok(chunk) = self.serial.read_from(self.at, TAIL) else { return false };
        self.at = chunk.offset + chunk.bytes.len() as u64;
        let plain: Vec<u8> = chunk.bytes.into_iter().filter(|byte| *byte != b'\r').collect();
        recorder.printed(&plain);
        self.tail.push_str(&String::from_utf8_lossy(&plain));
        let surplus = self.tail.len().saturating_sub(TAIL);
        let cut = (surplus..=self.tail.len()).find(|at| self.tail.is_char_boundary(*at)).unwrap_or(0);
        self.tail.drain(..cut);
        true
    }

    /// What came behind a text, if that came, and whole lines of it only.
    fn after(&self, text: &str) -> Option<&str> {
        let (_, rest) = self.tail.rsplit_once(text)?;
        rest.contains('\n').then_some(rest)
    }

    fn no_shell(&self, name: &str) -> String {
        let asks = self.tail.trim_end().ends_with("login:");
        let asks = if asks { "; it asks who logs in" } else { "" };
        format!(
            "the machine {name} has no shell of root on its first serial port after {} s{asks}; docs/tasks.md says how an image gets one",
            BOOT.as_secs()
        )
    }
}
