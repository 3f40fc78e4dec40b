//! `assay asset …`

use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_engine::assets::{AssetKind, AssetName};
use assay_engine::ids::JobId;
use assay_proto::api::assets::{
    Asset as ApiAsset, AssetDetail, AssetList, Cleanup, CleanupReport, FixAsset, NewUpload, Removed,
    UploadState,
};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::io::{Read, Seek, SeekFrom, Write};

/// Bytes that are sent at once.
const PIECE: usize = 8 * 1024 * 1024;

/// Images and other files that jobs read and publish.
#[derive(clap::Subcommand)]
pub(crate) enum Asset {
    /// Publish a file. Jobs that begin from then on get it; those that have begun keep what they have.
    #[command(
        after_help = "Examples:\n  assay asset upload Fedora-Server-41.iso\n  assay asset upload disk.img --type hdd --name base-41.raw\n  \
                      assay asset upload disk.qcow2 --private 12     for jobs that start after job 12\n  \
                      assay asset upload big.iso --resume 0af1…      goes on where an upload broke off"
    )]
    Upload(Upload),
    /// List assets, the newest first.
    #[command(
        after_help = "Examples:\n  assay asset list\n  assay asset list fedora --type iso\n  assay asset list --versions --json"
    )]
    List(List),
    /// Show an asset: its versions, and the jobs that use it.
    #[command(after_help = "Example:\n  assay asset show hdd/base-41.qcow2")]
    Show {
        /// Kind and name, as `assay asset list` shows them.
        #[arg(value_name = "KIND/NAME")]
        asset: Key,
    },
    /// Fetch an asset's bytes; a file that is there in part is continued.
    #[command(after_help = "Examples:\n  assay asset download hdd/base-41.qcow2\n  \
                            assay asset download hdd/base-41.qcow2 --version 7 --out old.qcow2")]
    Download(Download),
    /// Remove an asset with all its versions, or one of them. What a job needs that has not ended stays.
    #[command(
        after_help = "Examples:\n  assay asset delete iso/old.iso\n  assay asset delete hdd/base-41.qcow2 --version 7"
    )]
    Delete {
        /// Kind and name.
        #[arg(value_name = "KIND/NAME")]
        asset: Key,
        /// Only the version with this number, as `assay asset show` has it.
        #[arg(long, value_name = "NUMBER")]
        version: Option<i64>,
    },
    /// Never clean an asset.
    #[command(after_help = "Example:\n  assay asset fix iso/f43.iso")]
    Fix {
        /// Kind and name.
        #[arg(value_name = "KIND/NAME")]
        asset: Key,
    },
    /// Clean an asset like any other.
    #[command(after_help = "Example:\n  assay asset unfix iso/f43.iso")]
    Unfix {
        /// Kind and name.
        #[arg(value_name = "KIND/NAME")]
        asset: Key,
    },
    /// Remove what has had its time; the server does so every hour by itself.
    #[command(
        after_help = "Example:\n  assay asset cleanup --dry-run     what would go, and why the rest stays"
    )]
    Cleanup {
        /// Remove nothing, only say.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Upload {
    /// The file.
    file: Utf8PathBuf,
    /// iso, hdd, repo or other (default: by the name's ending).
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<AssetKind>,
    /// Another name than the file's.
    #[arg(long)]
    name: Option<AssetName>,
    /// Only for jobs that start after this one.
    #[arg(long, value_name = "JOB")]
    private: Option<i64>,
    /// Go on with an upload that broke off.
    #[arg(long, value_name = "ID", conflicts_with_all = ["kind", "name", "private"])]
    resume: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Only names that contain this.
    text: Option<String>,
    /// Only iso, hdd, repo or other.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<AssetKind>,
    /// Every version, not only the newest of each name.
    #[arg(long)]
    versions: bool,
}

#[derive(clap::Args)]
pub(crate) struct Download {
    /// Kind and name.
    #[arg(value_name = "KIND/NAME")]
    asset: Key,
    /// Another version than the newest: its number, as `assay asset show` has it.
    #[arg(long, value_name = "NUMBER")]
    version: Option<i64>,
    /// Where to (default: the name in this directory).
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

fn kind(word: &str) -> Result<AssetKind, String> {
    AssetKind::from_word(word).ok_or_else(|| "expected iso, hdd, repo or other".to_owned())
}

/// Kind and name.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    kind: AssetKind,
    name: AssetName,
}

impl std::str::FromStr for Key {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (word, name) = text
            .split_once('/')
            .ok_or("write KIND/NAME, for example iso/fedora.iso; kinds are iso, hdd, repo and other")?;
        Ok(Self { kind: kind(word)?, name: name.parse().map_err(|error| format!("{error}"))? })
    }
}

impl Key {
    fn path(&self) -> String {
        format!("{API}/assets/{}/{}", self.kind, encoded(self.name.as_str()))
    }
}

impl Asset {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Upload(upload) => upload.run(common, &client),
            Self::List(list) => list.run(common, &client),
            Self::Show { asset } => {
                let detail: AssetDetail = client.get(&asset.path())?;
                show(common, &detail);
                Ok(Code::Ok)
            }
            Self::Download(download) => download.run(common, &client),
            Self::Delete { asset, version } => {
                let query = version.map(|id| format!("?version={id}")).unwrap_or_default();
                let removed: Removed = client.delete(&format!("{}{query}", asset.path()))?;
                if common.json {
                    ui::print_json(&removed);
                } else {
                    println!("removed {}", versions(&removed.removed));
                    if !removed.kept.is_empty() {
                        println!("kept {}: jobs that have not ended need them", versions(&removed.kept));
                    }
                }
                Ok(if removed.kept.is_empty() { Code::Ok } else { Code::Negative })
            }
            Self::Fix { asset } => fix(common, &client, &asset, true),
            Self::Unfix { asset } => fix(common, &client, &asset, false),
            Self::Cleanup { dry_run } => cleanup(common, &client, "assets/cleanup", dry_run),
        }
    }
}

/// Versions by their numbers, which all names share.
fn versions(ids: &[i64]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("number{} {}", if ids.len() == 1 { "" } else { "s" }, ids.join(", "))
}

fn fix(common: &Common, client: &Client, asset: &Key, fixed: bool) -> Result<Code, CliError> {
    let detail: AssetDetail = client.post(&format!("{}/fix", asset.path()), &FixAsset { fixed })?;
    show(common, &detail);
    Ok(Code::Ok)
}

/// Cleans what is at `path`, and says what becomes of everything.
pub(super) fn cleanup(common: &Common, client: &Client, path: &str, dry_run: bool) -> Result<Code, CliError> {
    let report: CleanupReport = client.post(&format!("{API}/{path}"), &Cleanup { dry_run })?;
    if common.json {
        ui::print_json(&report);
        return Ok(Code::Ok);
    }
    let goes = if dry_run { "would go" } else { "gone" };
    let rows = report.verdicts.iter().map(|verdict| {
        vec![
            verdict.what.clone(),
            verdict.version.map_or_else(|| verdict.part.clone(), |id| format!("number {id}")),
            verdict.bytes.map(size).unwrap_or_default(),
            if verdict.keep { "stays".to_owned() } else { goes.to_owned() },
            verdict.why.clone(),
        ]
    });
    println!("{}", ui::table(&["WHAT", "PART", "SIZE", "VERDICT", "WHY"], rows));
    println!("{} {}", size(report.bytes), if dry_run { "would be freed" } else { "freed" });
    Ok(Code::Ok)
}

fn show(common: &Common, detail: &AssetDetail) {
    if common.json {
        ui::print_json(detail);
        return;
    }
    println!("{}", table(&detail.versions));
    if !detail.jobs.is_empty() {
        let rows = detail
            .jobs
            .iter()
            .map(|used| vec![used.job.to_string(), used.role.clone(), used.setting.clone()]);
        println!("\n{}", ui::table(&["JOB", "", "SETTING"], rows));
    }
}

fn table(assets: &[ApiAsset]) -> comfy_table::Table {
    let rows = assets.iter().map(|asset| {
        let mut notes = Vec::new();
        notes.extend(asset.fixed.then(|| "fixed".to_owned()));
        notes.extend((!asset.newest).then(|| "replaced".to_owned()));
        notes.extend(asset.private_of.map(|job| format!("private of job {job}")));
        notes.extend(asset.published_by.map(|job| format!("by job {job}")));
        vec![
            format!("{}/{}", asset.kind, asset.name),
            asset.id.to_string(),
            size(asset.size),
            asset.created.clone(),
            asset.used.clone().unwrap_or_else(|| "never".to_owned()),
            asset.sha256.chars().take(12).collect(),
            notes.join(", "),
        ]
    });
    ui::table(&["ASSET", "NUMBER", "SIZE", "PUBLISHED", "USED", "SHA256", ""], rows)
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

impl List {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut path = format!("{API}/assets?versions={}", u8::from(self.versions));
        if let Some(kind) = self.kind {
            path = format!("{path}&kind={kind}");
        }
        if let Some(text) = &self.text {
            path = format!("{path}&q={}", encoded(text));
        }
        let list: AssetList = client.get(&path)?;
        if common.json {
            ui::print_json(&list);
        } else {
            println!("{}", table(&list.assets));
        }
        Ok(Code::Ok)
    }
}

/// A bar of bytes, where somebody can see it.
fn bar(common: &Common, what: &str, length: u64) -> ProgressBar {
    if common.json || !ui::can_draw() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(length)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_prefix(what.to_owned())
}

fn hash_of(mut file: &fs::File, bar: &ProgressBar) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => {
                hash.update(&buffer[..count]);
                bar.inc(count as u64);
            }
        }
    }
}

impl Upload {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let file = fs::File::open(&self.file).map_err(|error| CliError::unreadable(&self.file, &error))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(CliError::usage(format!("{} is no file; an asset is a single file", self.file)));
        }
        let size = metadata.len();
        let state = match &self.resume {
            Some(id) => client.get(&format!("{API}/assets/uploads/{}", encoded(id)))?,
            None => self.begin(common, client, &file, size)?,
        };
        if state.size != size {
            return Err(CliError::usage(format!(
                "{} has {size} bytes, and the upload {} is of {}; give the same file as before",
                self.file, state.id, state.size
            )));
        }
        let id = state.id.clone();
        send(common, client, &file, state).map_err(|error| CliError {
            message: format!("{error}\ngo on later with: assay asset upload {} --resume {id}", self.file),
            help: String::new(),
            ..error
        })?;
        let asset: ApiAsset = client.post(&format!("{API}/assets/uploads/{id}/complete"), &())?;
        if common.json {
            ui::print_json(&asset);
        } else {
            println!("{}/{}: number {}, sha256 {}", asset.kind, asset.name, asset.id, asset.sha256);
        }
        Ok(Code::Ok)
    }

    fn begin(
        &self,
        common: &Common,
        client: &Client,
        file: &fs::File,
        size: u64,
    ) -> Result<UploadState, CliError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => file_name(&self.file)?,
        };
        let reading = bar(common, "reading", size);
        let sha256 = hash_of(file, &reading)?;
        reading.finish_and_clear();
        let new = NewUpload {
            name,
            kind: self.kind,
            size,
            sha256: Some(sha256),
            private_of: self.private.map(JobId),
            job: None,
            setting: None,
        };
        client.post(&format!("{API}/assets/uploads"), &new)
    }
}

fn file_name(file: &Utf8Path) -> Result<AssetName, CliError> {
    let name = file.file_name().unwrap_or_default();
    name.parse().map_err(|error| CliError::usage(format!("{error}; or give another one with --name")))
}

/// Sends what the server does not have yet.
fn send(
    common: &Common,
    client: &Client,
    mut file: &fs::File,
    mut state: UploadState,
) -> Result<(), CliError> {
    let sending = bar(common, state.name.as_str(), state.size);
    while state.offset < state.size {
        sending.set_position(state.offset);
        file.seek(SeekFrom::Start(state.offset))?;
        let mut piece = vec![0; PIECE.min((state.size - state.offset) as usize)];
        file.read_exact(&mut piece)?;
        state = client.piece(&format!("{API}/assets/uploads/{}", state.id), state.offset, piece)?;
    }
    sending.finish_and_clear();
    Ok(())
}

impl Download {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let detail: AssetDetail = client.get(&self.asset.path())?;
        let wanted = |version: &&ApiAsset| self.version.is_none_or(|id| version.id == id);
        let Some(version) = detail.versions.iter().find(wanted) else {
            return Err(CliError::not_found(
                "there is no such version; `assay asset show` lists those that there are",
            ));
        };
        let out = self.out.clone().unwrap_or_else(|| self.asset.name.as_str().into());
        let part = Utf8PathBuf::from(format!("{out}.part"));
        let mut file = fs::OpenOptions::new().create(true).append(true).read(true).open(&part)?;
        let fetching = bar(common, version.name.as_str(), version.size);
        let have = file.metadata()?.len();
        if have < version.size {
            fetching.set_position(have);
            let path = format!("{}/content?version={}", self.asset.path(), version.id);
            client.fetch(&path, have, |bytes| {
                fetching.inc(bytes.len() as u64);
                file.write_all(bytes)
            })?;
        }
        fetching.finish_and_clear();
        file.seek(SeekFrom::Start(0))?;
        let found = hash_of(&file, &ProgressBar::hidden())?;
        if found != version.sha256 {
            fs::remove_file(&part)?;
            return Err(CliError::infrastructure(format!(
                "what came has SHA-256 {found} and not {}; it was another version's part, or was damaged: try again",
                version.sha256
            )));
        }
        fs::rename(&part, &out)?;
        if common.json {
            ui::print_json(version);
        } else {
            println!("{out}: number {}, {}", version.id, size(version.size));
        }
        Ok(Code::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!([0, 999, 1000, 4_700_000_000].map(size), ["0 B", "999 B", "1.0 kB", "4.7 GB"]);
        for (text, good) in [("iso/a.iso", true), ("a.iso", false), ("cd/a.iso", false), ("iso/a/b", false)] {
            assert_eq!(text.parse::<Key>().is_ok(), good, "{text}");
        }
    }
}
