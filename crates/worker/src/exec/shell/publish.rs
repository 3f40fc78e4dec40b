//! What is kept of a workspace when its job is over: artifacts and test results.
//!
//! Nothing of the job is alive by now, so what is looked at here stays as it is.

use super::globs::Globs;
use super::recorder::Recorder;
use super::sandbox::JobDirs;
use crate::exec::Attempt;
use assay_proto::task::Limits;
use assay_records::results::{self, TestCase};
use assay_records::step::{Artifact, FailingCase, ModuleResult, Record, TestCases};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::collections::BTreeMap;
use std::io::Read;

/// The server takes no larger blob.
const LARGEST: u64 = 256 << 20;
/// The most entries of a workspace that are looked at.
const MOST_ENTRIES: usize = 2_000_000;
/// Of what is not published, so many are named one by one.
const MOST_NAMED: u64 = 50;
/// Failing tests that are named in the record; the blob has all.
const MOST_FAILING: usize = 200;
/// Problems of a file of results that are named.
const MOST_PROBLEMS: usize = 20;

/// Publishes what the task's globs mean.
pub(super) async fn publish(
    attempt: &Attempt,
    limits: &Limits,
    dirs: &JobDirs,
    artifacts: &Globs,
    results: &Globs,
    recorder: &mut Recorder<'_>,
) {
    if artifacts.is_empty() && results.is_empty() {
        return;
    }
    recorder.module_started("artifacts");
    let mut publisher = Publisher { attempt, recorder, count: 0, bytes: 0, left_out: 0, limits: *limits };
    let workspace = dirs.workspace.clone();
    let found = tokio::task::spawn_blocking(move || files_below(&workspace)).await.unwrap_or_default();
    for path in &found.files {
        if artifacts.mean(path) || results.mean(path) {
            publisher.file(&dirs.workspace, path);
            tokio::task::yield_now().await;
        }
        if results.mean(path) {
            publisher.results(&dirs.workspace, path).await;
        }
    }
    if found.unreadable > 0 {
        publisher
            .refuse(&format!("{} names in the workspace are not UTF-8 or cannot be read", found.unreadable));
    }
    publisher.finish();
}

struct Publisher<'a, 'b> {
    attempt: &'a Attempt,
    recorder: &'a mut Recorder<'b>,
    count: u64,
    bytes: u64,
    left_out: u64,
    limits: Limits,
}

/// Why a file is not published.
struct Refused(String);

impl Publisher<'_, '_> {
    fn file(&mut self, workspace: &Utf8Path, path: &str) {
        match self.keep(workspace, path) {
            Ok(artifact) => {
                self.count += 1;
                self.bytes += artifact.size;
                self.recorder.record(&Record::Artifact(artifact));
            }
            Err(Refused(why)) => self.refuse(&format!("{path} is not published: {why}")),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.left_out += 1;
        if self.left_out <= MOST_NAMED {
            self.recorder.say(why);
        }
    }

    fn keep(&mut self, workspace: &Utf8Path, path: &str) -> Result<Artifact, Refused> {
        let refused = |why: String| Err(Refused(why));
        if self.count >= self.limits.artifacts {
            return refused(format!("there are more files than limits.artifacts={}", self.limits.artifacts));
        }
        if self.recorder.secrets.are_in(path.as_bytes()) {
            return refused("its name holds a secret".into());
        }
        let (mut file, size) = open_inside(workspace, path)?;
        if size > LARGEST {
            return refused(format!("it has {size} bytes, and {LARGEST} is the most for one file"));
        }
        if self.bytes + size > self.limits.artifact_bytes {
            return refused(format!(
                "all together would have more than limits.artifact_bytes={}",
                self.limits.artifact_bytes
            ));
        }
        let secrets = self.recorder.secrets.clone();
        let mut seam: Vec<u8> = Vec::new();
        let look = |piece: &[u8]| {
            seam.extend_from_slice(piece);
            if secrets.are_in(&seam) {
                return Err(());
            }
            let keep = seam.len().min(secrets.longest());
            seam.drain(..seam.len() - keep);
            Ok(())
        };
        // A file that grows while it is read has no end that anybody could wait for.
        match self.attempt.dir.blob_file(&mut (&mut file).take(LARGEST), look) {
            Err(error) => refused(format!("it cannot be read: {error}")),
            Ok(Err(())) => refused("it holds a secret".into()),
            Ok(Ok((sha256, size))) => Ok(Artifact {
                path: path.to_owned(),
                size,
                sha256,
                content_type: content_type(path).to_owned(),
                at_us: self.recorder.now_us(),
            }),
        }
    }

    /// Reads a file of test results.
    async fn results(&mut self, workspace: &Utf8Path, path: &str) {
        let Ok((file, _)) = open_inside(workspace, path) else { return };
        let name = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_results(file, &name)).await;
        let report = match read {
            Ok(Ok(Some(report))) => report,
            Ok(Ok(None)) => {
                return self.recorder.say(&format!("{path} holds no test results in JUnit, TAP or subunit"));
            }
            Ok(Err(error)) => return self.recorder.say(&format!("{path} cannot be read: {error}")),
            Err(_) => return self.recorder.say(&format!("{path} could not be read; this is a bug in Assay")),
        };
        let cover = |text: &str| self.recorder.secrets.cover(text);
        let cases = cover(&serde_json::to_string(&report.cases).unwrap_or_default());
        let failing = || report.cases.iter().filter(|case| case.status.is_failure());
        let line = |case: &TestCase| FailingCase {
            name: cover(&full_name(case)),
            status: case.status.word().to_owned(),
            duration_us: case.duration_us,
            message: cover(&case.message),
        };
        let mut counts = BTreeMap::new();
        for case in &report.cases {
            *counts.entry(case.status.word().to_owned()).or_default() += 1;
        }
        let record = TestCases {
            file: path.to_owned(),
            format: format_word(report.format).to_owned(),
            failing: failing().take(MOST_FAILING).map(line).collect(),
            failing_left_out: (failing().count() as u64).saturating_sub(MOST_FAILING as u64),
            cases: self.attempt.dir.blob(cases.as_bytes()),
            problems: report.problems.iter().take(MOST_PROBLEMS).map(|one| cover(&one.to_string())).collect(),
            at_us: self.recorder.now_us(),
            counts,
        };
        let counted: Vec<String> =
            record.counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let problems = match record.problems.first() {
            Some(first) => format!("; {first}"),
            None => String::new(),
        };
        self.recorder.say(&format!("{path} ({}): {}{problems}", record.format, counted.join(", ")));
        self.recorder.record(&Record::TestCases(record));
    }

    fn finish(self) {
        let more = self.left_out.saturating_sub(MOST_NAMED);
        if more > 0 {
            self.recorder.say(&format!("{more} more are not published"));
        }
        self.recorder.say(&format!("published {} files, {} bytes", self.count, self.bytes));
        let result = if self.left_out == 0 { ModuleResult::Passed } else { ModuleResult::Softfailed };
        self.recorder.module_ended(result);
    }
}

/// Reads a file as what it looks like; one that is packed is unpacked.
fn read_results(mut file: fs::File, path: &str) -> std::io::Result<Option<results::Report>> {
    let mut bytes = Vec::new();
    let name = if let Some(name) = path.strip_suffix(".gz") {
        let unpacked = flate2::read::MultiGzDecoder::new(file);
        unpacked.take(results::MAX_BYTES as u64).read_to_end(&mut bytes)?;
        name
    } else {
        (&mut file).take(results::MAX_BYTES as u64).read_to_end(&mut bytes)?;
        path
    };
    Ok(results::detect(name, &bytes).map(|format| results::parse(format, &bytes)))
}

fn full_name(case: &TestCase) -> String {
    match &case.classname {
        Some(class) => format!("{class}.{}", case.name),
        None => case.name.clone(),
    }
}

fn format_word(format: results::Format) -> &'static str {
    match format {
        results::Format::Junit => "junit",
        results::Format::Tap => "tap",
        results::Format::SubunitV1 => "subunit-v1",
        results::Format::SubunitV2 => "subunit-v2",
    }
}

/// Opens a file, through links too, as long as it lies within the workspace.
fn open_inside(workspace: &Utf8Path, path: &str) -> Result<(fs::File, u64), Refused> {
    let refused = |why: String| Refused(why);
    let cannot = |error: std::io::Error| refused(format!("it cannot be read: {error}"));
    let top = workspace.canonicalize_utf8().map_err(cannot)?;
    let real = top.join(path).canonicalize_utf8().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refused("it is a link to nothing".into()),
        _ => cannot(error),
    })?;
    if !real.starts_with(&top) {
        return Err(refused("it is a link out of the workspace".into()));
    }
    // A FIFO would never open.
    let meta = fs::symlink_metadata(&real).map_err(cannot)?;
    if !meta.is_file() {
        return Err(refused("it is no plain file".into()));
    }
    Ok((fs::File::open(&real).map_err(cannot)?, meta.len()))
}

/// Names of files below a folder, with `/`, in order.
#[derive(Default)]
struct Found {
    files: Vec<String>,
    unreadable: u64,
}

fn files_below(top: &Utf8Path) -> Found {
    let mut found = Found::default();
    let mut open = vec![Utf8PathBuf::new()];
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        let Ok(entries) = top.join(&dir).read_dir_utf8() else {
            found.unreadable += 1;
            continue;
        };
        for entry in entries {
            seen += 1;
            let Ok(entry) = entry else {
                found.unreadable += 1;
                continue;
            };
            if seen > MOST_ENTRIES {
                return found;
            }
            let path = dir.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(_) => found.files.push(path.into_string()),
                Err(_) => found.unreadable += 1,
            }
        }
    }
    found.files.sort_unstable();
    found
}

/// What a browser is told. Logs are text, whatever they are called.
fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html; charset=utf-8",
        "xml" => "application/xml",
        "json" => "application/json",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "gz" | "tgz" => "application/gzip",
        "xz" => "application/x-xz",
        "bz2" => "application/x-bzip2",
        "zst" => "application/zstd",
        "zip" | "whl" | "jar" => "application/zip",
        "tar" => "application/x-tar",
        "txt" | "log" | "out" | "err" | "tap" | "conf" | "cfg" | "ini" | "yaml" | "yml" | "md" | "rst"
        | "sh" | "py" | "" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
