//! `assay doctor`: can this host run machines?

use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_vm::{Accelerator, Isolation, Machine, MachineOptions, MachineSpec};
use camino::Utf8Path;
use fs_err as fs;
use serde::Serialize;
use std::collections::BTreeMap;

/// How well one thing is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Fine,
    Limited,
    Broken,
}

/// One thing that was looked at.
struct Check {
    what: String,
    health: Health,
    found: String,
    remedy: Option<String>,
}

impl Check {
    fn new(what: &str, health: Health, found: impl Into<String>, remedy: Option<&str>) -> Self {
        Self { what: what.to_owned(), health, found: found.into(), remedy: remedy.map(str::to_owned) }
    }
}

#[derive(Serialize)]
struct Findings {
    checks: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    what: String,
    health: &'static str,
    found: String,
    remedy: Option<String>,
}

/// Looks at everything that a run needs and says what to do about what is missing.
pub(crate) fn run(common: &Common) -> Result<Code, CliError> {
    let data = paths::data_dir(common)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut checks = runtime.block_on(machine(&data));
    checks.push(python());
    checks.push(data_directory(&data));
    checks.push(server(common, &data));
    let sick = checks.iter().any(|check| check.health == Health::Broken);
    let lines = checks
        .into_iter()
        .map(|check| Line {
            what: check.what,
            health: word(check.health),
            found: check.found,
            remedy: check.remedy,
        })
        .collect();
    show(common, &Findings { checks: lines });
    Ok(if sick { Code::Infrastructure } else { Code::Ok })
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Fine => "fine",
        Health::Limited => "limited",
        Health::Broken => "broken",
    }
}

/// Boots a machine without a disk: what it says of itself is the best examination of QEMU, accelerator and isolation.
async fn machine(data: &Utf8Path) -> Vec<Check> {
    let host = paths::host_options(data, false);
    let spec = match MachineSpec::from_settings(&BTreeMap::new(), data) {
        Ok(spec) => spec,
        Err(problems) => return vec![Check::new("machine", Health::Broken, problems.to_string(), None)],
    };
    let options = MachineOptions { cache_dir: Some(host.cache.clone()), ..MachineOptions::default() };
    let started = Machine::start(&spec, &host.run, options).await;
    let checks = match started {
        Err(error) => vec![Check::new("machine", Health::Broken, error.to_string(), None)],
        Ok(machine) => {
            let facts = machine.facts().clone();
            machine.stop().await;
            let accelerator = match facts.accelerator.accelerator {
                Accelerator::Kvm => Check::new("accelerator", Health::Fine, facts.accelerator.why, None),
                Accelerator::Tcg => Check::new(
                    "accelerator",
                    Health::Limited,
                    format!("emulation: {}", facts.accelerator.why),
                    Some("machines run, but slowly; give timeouts room with TIMEOUT_SCALE"),
                ),
            };
            let isolation = match facts.isolation {
                Isolation::Namespaces => Check::new(
                    "isolation",
                    Health::Fine,
                    "machines get network, process and IPC namespaces",
                    None,
                ),
                Isolation::RestrictedNetwork { why } => Check::new(
                    "isolation",
                    Health::Limited,
                    why,
                    Some(
                        "install bubblewrap and permit user namespaces; until then only QEMU's restricted network stands between guest and host",
                    ),
                ),
            };
            vec![Check::new("qemu", Health::Fine, facts.qemu_version, None), accelerator, isolation]
        }
    };
    let _ = fs::remove_dir_all(&host.run);
    checks
}

fn python() -> Check {
    let version = std::process::Command::new("python3").arg("--version").output();
    match version {
        Ok(output) if output.status.success() => {
            Check::new("python", Health::Fine, String::from_utf8_lossy(&output.stdout).trim(), None)
        }
        _ => Check::new(
            "python",
            Health::Limited,
            "python3 is not installed",
            Some("only tests written in Python need it: apt-get install python3"),
        ),
    }
}

fn data_directory(data: &Utf8Path) -> Check {
    let what = "data directory".to_owned();
    let probe = data.join(".doctor");
    let tried = fs::create_dir_all(data)
        .and_then(|()| fs::write(&probe, b"x"))
        .and_then(|()| fs::remove_file(&probe));
    match tried {
        Err(error) => Check {
            what,
            health: Health::Broken,
            found: error.to_string(),
            remedy: Some("make it writable, or choose another with --data".into()),
        },
        Ok(()) => match rustix::fs::statvfs(data.as_std_path()) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
                let little = free < 2048;
                Check {
                    what,
                    health: if little { Health::Limited } else { Health::Fine },
                    found: format!("{data}, {free} MiB free"),
                    remedy: little
                        .then(|| "free some space: runs keep pictures, logs and disk overlays".into()),
                }
            }
            Err(error) => Check { what, health: Health::Limited, found: error.to_string(), remedy: None },
        },
    }
}

fn server(common: &Common, data: &Utf8Path) -> Check {
    let what = "server".to_owned();
    let answer = crate::client::Client::new(common).and_then(|client| {
        client
            .get::<assay_proto::api::WorkerList>("/api/assay/v1/workers")
            .map(|workers| (client.url().to_owned(), workers))
    });
    match answer {
        Ok((url, workers)) => {
            let online = workers.workers.iter().filter(|worker| worker.online).count();
            let remedy = (online == 0).then(|| "start a worker: assay worker".to_owned());
            let health = if online == 0 { Health::Limited } else { Health::Fine };
            let online = ui::count(online, "worker");
            Check { what, health, found: format!("{url}, {online} online"), remedy }
        }
        Err(error) => Check {
            what,
            health: Health::Limited,
            found: format!("none answers for {data}: {error}"),
            remedy: Some("`assay run` needs none; start one with `assay up`".into()),
        },
    }
}

fn show(common: &Common, findings: &Findings) {
    if common.json {
        ui::print_json(findings);
        return;
    }
    let rows = findings.checks.iter().map(|line| {
        let sign = match line.health {
            "fine" => "✔ fine",
            "limited" => "◐ limited",
            _ => "✘ broken",
        };
        vec![line.what.clone(), sign.to_owned(), line.found.clone(), line.remedy.clone().unwrap_or_default()]
    });
    println!("{}", ui::table(&["WHAT", "HEALTH", "FOUND", "REMEDY"], rows));
}
