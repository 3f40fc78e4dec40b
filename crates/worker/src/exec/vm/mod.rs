//! A virtual machine and the test modules that drive it.

mod cluster;
mod halt;
mod input;
mod look;
mod modules;
mod recorder;
mod secrets;
mod session;
mod setup;
mod sources;
mod wait;

use super::{Attempt, infrastructure};
use crate::assets;
use crate::networks::Membership;
use assay_engine::assets::Output;
use assay_engine::settings::is_secret_name;
use assay_proto::worker::{Report, WorkPhase};
use assay_vm::{DiskSpec, Frame, FrameSource, Machine, MachineOptions};
use halt::{Halt, HaltSignal};
use recorder::Recorder;
use secrets::Secrets;
use session::Session;
use setup::Setup;
use sources::Sources;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carries an attempt out on a machine.
pub(super) async fn run(attempt: &Attempt) -> Report {
    let limit = match attempt.number_setting("MAX_SETUP_TIME", 3600.0) {
        Ok(seconds) => Duration::from_secs_f64(seconds.min(1e7)),
        Err(report) => return report,
    };
    let setup = tokio::select! {
        setup = prepared(attempt) => setup,
        stop = attempt.stopped() => return super::stopped(&stop),
        () = tokio::time::sleep(limit) => return setup::too_slow(limit),
    };
    match setup {
        Ok(setup) => with_machine(attempt, setup).await,
        Err(report) => report,
    }
}

/// Fetches tests and assets and checks them all.
async fn prepared(attempt: &Attempt) -> Result<Setup, Report> {
    let sources = Sources::fetch(attempt).await?;
    let attempt = Attempt { settings: sources.located(&attempt.settings), ..attempt.clone() };
    setup::prepare(&attempt, sources, assets::fetch(&attempt).await?).await
}

/// Where the machine's sockets and overlays live; gone with the value.
pub(super) struct MachineDir(pub(super) camino::Utf8PathBuf);

impl MachineDir {
    /// A new one, which the machine makes.
    pub(super) fn new(run: &camino::Utf8Path) -> Self {
        Self(run.join(uuid::Uuid::new_v4().simple().to_string()))
    }
}

impl Drop for MachineDir {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

async fn with_machine(attempt: &Attempt, setup: Setup) -> Report {
    let secrets = Secrets::default();
    for (_, value) in setup.settings.iter().filter(|(name, _)| is_secret_name(name)) {
        secrets.add(value);
    }
    let recorder = Recorder::new(attempt.dir.clone(), attempt.began, secrets);
    recorder.plan(setup.plan());
    let dir = MachineDir::new(&attempt.host.run);
    let observer = {
        let recorder = recorder.clone();
        Arc::new(move |frame: &Frame| recorder.journal_frame(frame))
    };
    // Held until the machine is gone.
    let networks: BTreeMap<String, Membership> = attempt
        .cluster
        .iter()
        .flat_map(|cluster| {
            let names = setup.spec.nics.iter().filter_map(|nic| nic.network.clone());
            names.map(|name| (name.clone(), cluster.networks.join(cluster.place.cluster, &name)))
        })
        .collect();
    let options = MachineOptions {
        networks: networks.iter().map(|(name, member)| (name.clone(), member.switch.clone())).collect(),
        number: attempt.cluster.as_ref().map_or(0, |cluster| cluster.place.number),
        cache_dir: Some(attempt.host.cache.clone()),
        observer: Some(observer),
        hide: attempt.host.hide.clone(),
        keep_disks: true,
        ..MachineOptions::default()
    };
    let blank = |disk: &DiskSpec| if let DiskSpec::Blank(gib) = disk { u64::from(*gib) << 30 } else { 0 };
    assets::give_way(attempt, &attempt.host.run, setup.spec.disks.values().map(blank).sum()).await;
    let started = tokio::select! {
        started = Machine::start(&setup.spec, &dir.0, options) => started,
        stop = attempt.stopped() => return super::stopped(&stop),
    };
    let machine = match started {
        Ok(machine) => machine,
        Err(error) if error.class() == assay_vm::Class::Usage => return super::usage(error.to_string()),
        Err(error) => return infrastructure(error.to_string()),
    };
    attempt.dir.phase(WorkPhase::Running);
    let facts = setup.facts(&machine);
    for (name, value) in &facts {
        recorder.log(&format!("{name}: {value}"));
    }
    recorder.environment(facts);
    for (what, commits) in setup.sources().histories() {
        recorder.history(what, commits);
    }
    *attempt.tap.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(machine.frames());
    let settings = setup.settings.clone();
    let disk = |number: &u32| (Output::Disk(*number), dir.0.join(assay_vm::disk_file(*number)));
    let vars = setup.spec.firmware.as_ref().map(|_| (Output::FirmwareVars, dir.0.join(assay_vm::VARS_FILE)));
    let files = setup.spec.disks.keys().map(disk).chain(vars).collect();
    let report = drive(attempt, setup, machine, recorder).await;
    *attempt.tap.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    assets::publish(attempt, &settings, &files, &dir.0, report).await
}

/// Runs the modules with everything around them that watches and records.
async fn drive(attempt: &Attempt, setup: Setup, machine: Machine, recorder: Recorder) -> Report {
    let (announce, halt) = watch::channel::<Option<Halt>>(None);
    let mut around = JoinSet::new();
    around.spawn(halt::monitor(attempt.clone(), machine.ended(), setup.max_job_time, announce));
    let serial = machine.serial().clone();
    let (serial_done, mut copied) = watch::channel(());
    around.spawn(copy_serial(attempt.clone(), serial.clone(), recorder.clone(), serial_done));
    let mut session = Session {
        frames: machine.frames(),
        machine,
        serial,
        serial_at: 0,
        needles: setup.needles.clone(),
        vars: setup.settings.clone(),
        rec: recorder.clone(),
        last_match: None,
        pointer: None,
        references: Vec::new(),
        scale: setup.scale,
        cluster: attempt.cluster.clone(),
    };
    let report = modules::run_all(attempt, &setup, &mut session, &halt).await;
    // The guest's last bytes belong to the record; the port closes with the machine.
    session.machine.stop().await;
    let _ = tokio::time::timeout(Duration::from_secs(2), copied.changed()).await;
    report
}

/// The serial port as a stream of the record. What the guest wrote beyond the machine's own limit is left out there too.
async fn copy_serial(
    attempt: Attempt,
    serial: assay_vm::SerialLog,
    recorder: Recorder,
    done: watch::Sender<()>,
) {
    use assay_proto::worker::Stream;
    use assay_records::journal::Entry;
    let mut length = serial.length();
    let mut at = 0;
    let mut kept = 0_u64;
    loop {
        let total = *length.borrow_and_update();
        while at < total && kept < SERIAL_LIMIT {
            let Ok(chunk) = serial.read_from(at, 256 * 1024) else { break };
            if chunk.bytes.is_empty() {
                break;
            }
            recorder.journal(Entry::Serial { offset: kept, len: chunk.bytes.len() as u64 });
            attempt.dir.append(Stream::Serial0, &chunk.bytes);
            at = chunk.offset + chunk.bytes.len() as u64;
            kept += chunk.bytes.len() as u64;
        }
        if kept >= SERIAL_LIMIT {
            let note = format!(
                "\n[the serial log ends here: the guest wrote more than {} MiB]\n",
                SERIAL_LIMIT >> 20
            );
            attempt.dir.append(Stream::Serial0, note.as_bytes());
            attempt.log(note.trim());
            break;
        }
        if length.changed().await.is_err() {
            break;
        }
    }
    let _ = done.send(());
}

/// The most of the serial port that a record keeps.
const SERIAL_LIMIT: u64 = 64 << 20;

/// Waits for a halt together with the module's own deadline.
async fn halted(signal: &HaltSignal, deadline: Option<tokio::time::Instant>) -> Option<Halt> {
    halt::halted(&mut signal.clone(), deadline).await
}
