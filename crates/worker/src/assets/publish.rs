//! Publishes what a job has made: its disks (`PUBLISH_HDD_n`, `FORCE_PUBLISH_HDD_n`, `STORE_HDD_n`) and the variables of
//! its firmware (`PUBLISH_PFLASH_VARS`).

use super::{AssetError, Door};
use crate::exec::{Attempt, stopped};
use assay_engine::assets::{AssetKind, Output, Publication, publications};
use assay_proto::api::assets::{Asset, NewUpload};
use assay_proto::worker::{Report, WorkPhase};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Bytes that are sent at once.
const PIECE: usize = 8 * 1024 * 1024;
/// How long an upload may bring nothing.
const PATIENCE: Duration = Duration::from_mins(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes what the settings ask for, if the job came to what they want, and says how the attempt ends. `files` are
/// those that took the machine's changes; `room` is where images are made.
pub(crate) async fn publish(
    attempt: &Attempt,
    settings: &BTreeMap<String, String>,
    files: &BTreeMap<Output, Utf8PathBuf>,
    room: &Utf8Path,
    report: Report,
) -> Report {
    let Some(door) = &attempt.assets else { return report };
    if attempt.stop.borrow().is_some() {
        return report;
    }
    // A bad name was refused before the machine started.
    let wanted = publications(settings).unwrap_or_default();
    let wanted: Vec<_> = wanted.into_iter().filter(|one| one.forced || report.outcome.is_ok()).collect();
    if wanted.is_empty() {
        return report;
    }
    attempt.dir.phase(WorkPhase::Uploading);
    let work = async {
        for one in &wanted {
            let published = publish_one(attempt, door, settings, one, files, room).await;
            published.map_err(|error| (one, error))?;
        }
        Ok::<(), (&Publication, AssetError)>(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        stop = attempt.stopped() => return stopped(&stop),
    };
    match ended {
        Ok(()) => report,
        Err((one, error)) => {
            let failed = error.report();
            let reason = format!("{}={} could not be published: {error}", one.setting, one.name);
            attempt.log(&reason);
            // What was wrong with the product before is worth more than what is wrong with the disk.
            if report.outcome.is_ok() { Report { reason: Some(reason), ..failed } } else { report }
        }
    }
}

async fn publish_one(
    attempt: &Attempt,
    door: &Door,
    settings: &BTreeMap<String, String>,
    one: &Publication,
    files: &BTreeMap<Output, Utf8PathBuf>,
    room: &Utf8Path,
) -> Result<(), AssetError> {
    let file = files.get(&one.what).ok_or_else(|| {
        AssetError::Usage(match one.what {
            Output::Disk(number) => {
                format!("the machine has no disk HDD_{number}; set it, or remove the setting")
            }
            Output::FirmwareVars => {
                "the machine has no firmware with variables; set UEFI=1, or remove the setting".to_owned()
            }
        })
    })?;
    let began = Instant::now();
    let published = match one.what {
        Output::Disk(number) => {
            let image = room.join(format!("publish-{number}"));
            let compress = settings.get("QEMU_COMPRESS_QCOW2").is_none_or(|v| v != "0");
            flatten(file, &image, one.name.as_str(), compress).await?;
            let published = upload(door, one, &image).await;
            let _ = fs::remove_file(&image);
            published?
        }
        Output::FirmwareVars => upload(door, one, file).await?,
    };
    attempt.log(&format!(
        "{}: published as {}/{}, version {}, {} bytes, sha256 {} after {:.1} s",
        one.setting,
        published.kind,
        published.name,
        published.id,
        published.size,
        published.sha256,
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// One image of the disk and all that it lies over; the name's ending says of which format.
async fn flatten(disk: &Utf8Path, image: &Utf8Path, name: &str, compress: bool) -> Result<(), AssetError> {
    let raw = matches!(Utf8Path::new(name).extension(), Some("raw" | "img"));
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-q", "-f", "qcow2", "-O", if raw { "raw" } else { "qcow2" }]);
    if compress && !raw {
        command.arg("-c");
    }
    command.args([disk.as_str(), image.as_str()]).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        AssetError::Image(format!("qemu-img could not be started: {error}; install qemu-utils"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let _ = fs::remove_file(image);
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No space left on device") {
        return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
    }
    Err(AssetError::Image(said.lines().map(str::trim).collect::<Vec<_>>().join("; ")))
}

async fn upload(door: &Door, one: &Publication, image: &Utf8Path) -> Result<Asset, AssetError> {
    let path = image.to_owned();
    let (sha256, size) =
        tokio::task::spawn_blocking(move || hash_of(&path)).await.map_err(std::io::Error::other)??;
    let new = NewUpload {
        name: one.name.clone(),
        kind: Some(AssetKind::Hdd),
        size,
        sha256: Some(sha256),
        private_of: one.private.then(|| door.job()),
        job: Some(door.job()),
        setting: Some(one.setting.clone()),
    };
    let mut state = door.begin(&new).await?;
    let mut file = fs::File::open(image)?;
    let mut heard = Instant::now();
    let mut pause = Duration::from_millis(100);
    while state.offset < size {
        file.seek(SeekFrom::Start(state.offset))?;
        let mut piece = vec![0; PIECE.min((size - state.offset) as usize)];
        file.read_exact(&mut piece)?;
        match door.append(&state.id, state.offset, piece.into()).await {
            Ok(next) => (state, heard, pause) = (next, Instant::now(), Duration::from_millis(100)),
            Err(AssetError::Unreachable(why)) if heard.elapsed() < PATIENCE => {
                tracing::warn!(job = %door.job(), why, "a piece of an asset did not arrive; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                state = door.progress(&state.id).await?;
            }
            Err(error) => return Err(error),
        }
    }
    door.complete(&state.id).await
}

fn hash_of(path: &Utf8Path) -> std::io::Result<(String, u64)> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(hash.finalize()), size)),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}
