//! Which settings name files, and which files are downloaded for a job.

use crate::job_settings::JobSettings;
use crate::settings::{Setting, Settings};
use serde::{Deserialize, Serialize};

/// The kinds of files that jobs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Installation media.
    Iso,
    /// Disks.
    Hdd,
    /// Repositories.
    Repo,
    /// Everything else.
    Other,
}

impl FileKind {
    /// openQA's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Hdd => "hdd",
            Self::Repo => "repo",
            Self::Other => "other",
        }
    }
}

/// What kind of file the setting `key` names, if it names one: openQA's rule.
pub fn kind_of(key: &str, value: &str) -> Option<FileKind> {
    let numbered = |prefix: &str| {
        let rest = key.strip_prefix(prefix)?;
        (!rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    if key == "ISO" || numbered("ISO_").is_some() {
        Some(FileKind::Iso)
    } else if numbered("HDD_").is_some() {
        Some(FileKind::Hdd)
    } else if key == "UEFI_PFLASH_CODE" || key == "UEFI_PFLASH_VARS" {
        (!value.starts_with('/')).then_some(FileKind::Hdd)
    } else if numbered("REPO_").is_some() {
        Some(FileKind::Repo)
    } else if numbered("ASSET_").is_some() || key == "KERNEL" || key == "INITRD" {
        Some(FileKind::Other)
    } else {
        None
    }
}

/// A file to fetch before the jobs that want it can start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Download {
    /// From where.
    pub url: String,
    /// The kind of file that it becomes.
    pub kind: FileKind,
    /// The name that it gets.
    pub name: String,
    /// True if it is unpacked on the way.
    pub unpack: bool,
}

/// The setting that `key` downloads for, and whether the file is unpacked.
pub(super) fn target(key: &str) -> Option<(&str, bool)> {
    if let Some(short) = key.strip_suffix("_DECOMPRESS_URL") {
        return Some((short, true));
    }
    key.strip_suffix("_URL").map(|short| (short, false))
}

/// The name that a download gets if nothing else is said: the last part of the path, without the ending of its packing.
pub(super) fn name_from(url: &str, unpack: bool) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, rest) = path.split_once("://")?;
    let (_, name) = rest.rsplit_once('/')?;
    let name = unescaped(name);
    let name = if unpack { name.rsplit_once('.').map_or(name.as_str(), |(name, _)| name) } else { &name };
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// `%41` becomes `A`; whatever is no text then stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (byte, digit(0), digit(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// `ISO_URL` makes `ISO` if nobody else has.
pub(crate) fn name_downloads(settings: &mut Settings) {
    let mut found = Vec::new();
    for (key, setting) in &settings.0 {
        let Some((short, unpack)) = target(key) else { continue };
        let Some(name) = name_from(&setting.value, unpack) else { continue };
        let plain = short.strip_prefix('+').unwrap_or(short);
        if !settings.0.contains_key(short) && kind_of(plain, &name).is_some() {
            found.push((short.to_owned(), Setting::new(name, setting.from.clone())));
        }
    }
    settings.0.extend(found);
}

/// What has to be downloaded for a job that is to be made.
pub(crate) fn downloads(settings: &Settings) -> impl Iterator<Item = Download> {
    let get = |key: &str| settings.get(key);
    settings.0.iter().filter_map(move |(key, setting)| download(key, &setting.value, get))
}

/// What has to be downloaded for a job.
pub fn downloads_of(settings: &JobSettings) -> impl Iterator<Item = Download> {
    let get = |key: &str| settings.get(key);
    settings.iter().filter_map(move |(key, setting)| download(key, &setting.value, get))
}

fn download<'a>(key: &str, url: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<Download> {
    let (short, unpack) = target(key)?;
    let name = get(short)?;
    let kind = kind_of(short, name)?;
    (!url.is_empty()).then(|| Download { url: url.to_owned(), kind, name: name.to_owned(), unpack })
}

/// What is wrong with the names of the files that a job leaves behind.
pub(super) fn bad_output(settings: &Settings) -> Option<String> {
    let bad = settings.0.iter().find(|(key, setting)| is_output(key) && setting.value.contains('/'));
    let (key, setting) = bad?;
    Some(format!(
        "{key}={} has a `/` in it; write a name without folders, the server knows where it goes",
        setting.value
    ))
}

/// True if the setting names a file that the job leaves behind.
pub fn is_output(key: &str) -> bool {
    let disk =
        |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    key == "PUBLISH_PFLASH_VARS" || ["PUBLISH_HDD_", "STORE_HDD_", "FORCE_PUBLISH_HDD_"].into_iter().any(disk)
}
