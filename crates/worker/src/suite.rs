//! The parts of a test directory that are not test code: needles, default settings, and its fingerprint.

use assay_proto::diagnostic::Diagnostic;
use assay_screen::{Needle, NeedleJson};
use assay_script::{Checks, External, Sandbox, Suite};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A needle on disk. Its picture is decoded when it is looked for, because a test directory may hold thousands.
#[derive(Debug, Clone)]
pub struct StoredNeedle {
    /// File name without `.json`, unique in the directory.
    pub name: String,
    /// What the JSON says.
    pub json: NeedleJson,
    /// The JSON as it is on disk.
    pub json_bytes: Vec<u8>,
    /// Where the picture is.
    pub png_path: Utf8PathBuf,
}

/// The needles of a test directory.
#[derive(Debug, Default)]
pub struct NeedleStore {
    needles: Vec<StoredNeedle>,
    /// Needles that could not be read, by name, with the reason.
    broken: BTreeMap<String, String>,
    ready: Mutex<BTreeMap<String, Arc<Needle>>>,
}

/// Decoded needles kept between looks.
const KEEP_READY: usize = 16;

impl NeedleStore {
    /// Reads every `*.json` below `DIR/needles`. What is broken is reported and left out, as openQA does.
    pub fn load(dir: &Utf8Path) -> (Self, Vec<Diagnostic>) {
        Self::load_from(dir, &dir.join("needles"))
    }

    /// The same for needles that are elsewhere.
    pub fn load_from(dir: &Utf8Path, root: &Utf8Path) -> (Self, Vec<Diagnostic>) {
        let mut store = Self::default();
        let mut findings = Vec::new();
        let mut files = Vec::new();
        if root.is_dir() {
            collect(root, &mut files, &mut findings);
        }
        files.retain(|file| file.extension() == Some("json"));
        files.sort();
        for file in files {
            store.add(dir, &file, &mut findings);
        }
        (store, findings)
    }

    fn add(&mut self, dir: &Utf8Path, file: &Utf8Path, findings: &mut Vec<Diagnostic>) {
        let shown = file.strip_prefix(dir).unwrap_or(file).to_string();
        let name = file.file_stem().unwrap_or_default().to_owned();
        let mut refuse = |code: &str, line: u32, column: u32, message: String, help: &str| {
            self.broken.insert(name.clone(), message.clone());
            let help = if help.is_empty() { None } else { Some(help.to_owned()) };
            findings.push(Diagnostic {
                help,
                ..Diagnostic::error(code, shown.clone(), message).at(line, column)
            });
        };
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                return refuse(
                    "unreadable-needle",
                    0,
                    0,
                    format!("cannot be read: {error}"),
                    "check its permissions",
                );
            }
        };
        let json = match NeedleJson::parse(&name, &bytes) {
            Ok(json) => json,
            Err(error) => {
                return refuse("broken-needle", error.line as u32, error.column as u32, error.message, "");
            }
        };
        let png_path = file.with_extension("png");
        if !png_path.is_file() {
            let help = format!(
                "put the screenshot at {}, or remove the needle",
                png_path.file_name().unwrap_or_default()
            );
            return refuse("needle-without-image", 0, 0, format!("needle {name} has no picture"), &help);
        }
        if let Some(other) = self.needles.iter().find(|needle| needle.name == name) {
            let message =
                format!("needle {name} exists twice; the other is {}", other.png_path.with_extension("json"));
            findings.push(Diagnostic::error("duplicate-needle", shown, message).help("rename one of them"));
            return;
        }
        self.needles.push(StoredNeedle { name, json, json_bytes: bytes, png_path });
    }

    /// All that could be read.
    pub fn all(&self) -> &[StoredNeedle] {
        &self.needles
    }

    /// Those that carry every word of one of the tag sets.
    pub fn with_tags(&self, sets: &[String]) -> Vec<&StoredNeedle> {
        let carries = |needle: &StoredNeedle, set: &String| {
            set.split_whitespace().all(|word| needle.json.tags.iter().any(|tag| tag == word))
        };
        self.needles.iter().filter(|needle| sets.iter().any(|set| carries(needle, set))).collect()
    }

    /// Every tag in use.
    pub fn tags(&self) -> std::collections::BTreeSet<&str> {
        self.needles.iter().flat_map(|needle| needle.json.tags.iter().map(String::as_str)).collect()
    }

    /// The needles that could not be read, with the reason.
    pub fn broken(&self) -> &BTreeMap<String, String> {
        &self.broken
    }

    /// Reads and decodes a needle's picture, or takes it from the last looks.
    pub fn ready(&self, stored: &StoredNeedle) -> Result<Arc<Needle>, String> {
        let mut cache = self.ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(ready) = cache.get(&stored.name) {
            return Ok(ready.clone());
        }
        let png_bytes = fs::read(&stored.png_path).map_err(|error| error.to_string())?;
        let needle =
            Needle::parse(&stored.name, &stored.json_bytes, &png_bytes).map_err(|error| error.to_string())?;
        let ready = Arc::new(needle);
        if cache.len() >= KEEP_READY {
            cache.clear();
        }
        cache.insert(stored.name.clone(), ready.clone());
        Ok(ready)
    }
}

fn collect(dir: &Utf8Path, files: &mut Vec<Utf8PathBuf>, findings: &mut Vec<Diagnostic>) {
    match dir.read_dir_utf8() {
        Err(error) => {
            let message = format!("cannot be read: {error}");
            findings.push(
                Diagnostic::error("unreadable-folder", dir.as_str(), message).help("check its permissions"),
            );
        }
        Ok(entries) => {
            for entry in entries.flatten() {
                let path = entry.path().to_owned();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && !entry.file_name().starts_with('.') {
                    collect(&path, files, findings);
                } else if !kind.is_dir() {
                    files.push(path);
                }
            }
        }
    }
}

/// Loads and checks the tests of a directory, with everything that the machine knows about keys and patterns.
pub fn load_tests(
    dir: &Utf8Path,
    schedule: Option<&[String]>,
    client_dir: &Utf8Path,
    unsandboxed: bool,
) -> Result<(Suite, Vec<Diagnostic>), Vec<Diagnostic>> {
    let key = |name: &str| assay_vm::keys::chord(name).map(|_| ()).map_err(|error| error.to_string());
    let pattern = |text: &str| regex::Regex::new(text).map(|_| ()).map_err(|error| error.to_string());
    let checks = Checks { key: Some(key), pattern: Some(pattern) };
    let (suite, warnings) = Suite::load_with(dir, schedule, &checks)?;
    let sandbox = if unsandboxed { Sandbox::Unsandboxed } else { Sandbox::Bubblewrap };
    let suite = suite.external(External { client_dir: Some(client_dir.to_owned()), sandbox });
    let errors = suite.check_external();
    if errors.is_empty() { Ok((suite, warnings)) } else { Err([warnings, errors].concat()) }
}

/// The settings that hold unless the job says otherwise: `DIR/vars.json`, as isotovideo reads it.
pub fn default_settings(dir: &Utf8Path) -> Result<BTreeMap<String, String>, Diagnostic> {
    let file = dir.join("vars.json");
    if !file.exists() {
        return Ok(BTreeMap::new());
    }
    let refuse = |message: String| Diagnostic::error("broken-settings", "vars.json", message);
    let text = fs::read_to_string(&file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let parsed: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).map_err(|error| {
        refuse(format!("is not an object of settings: {error}"))
            .at(error.line() as u32, error.column() as u32)
            .help("write {\"NAME\": \"value\", …}")
    })?;
    let mut settings = BTreeMap::new();
    for (key, value) in parsed {
        let value = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            other => {
                let message = format!("{key} is {other}; a setting is a text or a number");
                return Err(refuse(message).help("put the value in quotes"));
            }
        };
        settings.insert(key.to_uppercase(), value);
    }
    Ok(settings)
}

/// SHA-256 over names and contents of all files of the directory (hidden ones left out), hex: two runs with the same
/// fingerprint had the same tests and needles.
pub fn fingerprint(dir: &Utf8Path) -> std::io::Result<String> {
    let mut files = Vec::new();
    let mut findings = Vec::new();
    collect(dir, &mut files, &mut findings);
    if let Some(finding) = findings.first() {
        return Err(std::io::Error::other(finding.to_string()));
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(dir).unwrap_or(&file);
        if name.file_name().is_some_and(|name| name.starts_with('.')) || name.extension() == Some("pyc") {
            continue;
        }
        let content = fs::read(&file)?;
        hash.update((name.as_str().len() as u64).to_le_bytes());
        hash.update(name.as_str());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hex::encode(hash.finalize()))
}
