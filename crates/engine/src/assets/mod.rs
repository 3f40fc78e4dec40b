//! Assets: images and other files that jobs read and publish. Which settings name them, what they are called, and in
//! [`retention`] what is removed and why the rest stays.

pub mod retention;

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What an asset is; openQA's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetKind {
    /// An image for a CD drive.
    Iso,
    /// A disk image, or a firmware's.
    Hdd,
    /// A repository.
    Repo,
    /// Anything else: kernels, archives.
    Other,
}

impl AssetKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Iso, Self::Hdd, Self::Repo, Self::Other];

    /// The word that is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Hdd => "hdd",
            Self::Repo => "repo",
            Self::Other => "other",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What a file of this name is, by its ending.
    pub fn of_file(name: &str) -> Self {
        // A compressed disk is a disk.
        let plain = [".xz", ".gz", ".zst", ".bz2"].iter().find_map(|end| name.strip_suffix(end));
        match plain.unwrap_or(name).rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
            Some("iso") => Self::Iso,
            Some("qcow2" | "raw" | "img" | "vhd" | "vhdx" | "vmdk" | "vdi") => Self::Hdd,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for AssetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An asset's name: a plain file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetName(String);

/// What cannot be an asset's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be the name of an asset: {why}")]
pub struct BadAssetName {
    /// The name, shortened.
    pub name: String,
    /// What is wrong and what to do.
    pub why: &'static str,
}

/// Most bytes of a name; with the number of a job before it, it is still a file name.
const MAX_NAME: usize = 240;

impl AssetName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its private twin of a job: only jobs that start after that one find it under the plain name.
    #[must_use]
    pub fn private_of(&self, job: JobId) -> Self {
        Self(format!("{:08}-{}", job.0, self.0))
    }
}

impl fmt::Display for AssetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for AssetName {
    type Err = BadAssetName;
    fn from_str(text: &str) -> Result<Self, BadAssetName> {
        let why = if text.is_empty() {
            "it is empty; give a file name"
        } else if text.len() > MAX_NAME {
            "it has more than 240 bytes; use a shorter one"
        } else if text.contains('/') {
            "it contains a slash; give a plain file name, without folders"
        } else if text.starts_with('.') {
            "it begins with a dot; use another first character"
        } else if text.chars().any(char::is_control) {
            "it contains control characters; use printable ones"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(BadAssetName { name: text.chars().take(80).collect(), why })
    }
}

impl TryFrom<String> for AssetName {
    type Error = BadAssetName;
    fn try_from(text: String) -> Result<Self, BadAssetName> {
        text.parse()
    }
}

impl From<AssetName> for String {
    fn from(name: AssetName) -> Self {
        name.0
    }
}

/// A kind and a name: under it versions are published, and the newest is what a job gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetKey {
    /// The kind.
    pub kind: AssetKind,
    /// The name.
    pub name: AssetName,
}

impl fmt::Display for AssetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// An asset that a job reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The setting that names it.
    pub setting: String,
    /// What it names.
    pub asset: AssetKey,
}

impl Read {
    /// True if a worker fetches it before the job begins. Repositories stay where they are.
    pub fn is_fetched(&self) -> bool {
        self.asset.kind != AssetKind::Repo
    }
}

/// The kind of the asset that a setting of this name holds, if it holds one.
fn kind_of_setting(setting: &str) -> Option<AssetKind> {
    let numbered = |prefix: &str| {
        setting
            .strip_prefix(prefix)
            .is_some_and(|n| !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    Some(match setting {
        "ISO" => AssetKind::Iso,
        "UEFI_PFLASH_CODE" | "UEFI_PFLASH_VARS" => AssetKind::Hdd,
        "KERNEL" | "INITRD" => AssetKind::Other,
        _ if numbered("ISO_") => AssetKind::Iso,
        _ if numbered("HDD_") => AssetKind::Hdd,
        _ if numbered("REPO_") => AssetKind::Repo,
        _ if numbered("ASSET_") => AssetKind::Other,
        _ => return None,
    })
}

/// The assets that a job with these settings reads. A value with a slash is a path on the worker's host and no asset.
pub fn reads<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Read> {
    let read = |(setting, value): (&str, &str)| {
        let kind = kind_of_setting(setting)?;
        let name = value.trim().parse().ok()?;
        Some(Read { setting: setting.to_owned(), asset: AssetKey { kind, name } })
    };
    settings.into_iter().filter_map(read).collect()
}

/// Where a name leads, in this order: to the private asset of a job that this one starts after, then to the public one.
pub fn candidates(asset: &AssetKey, parents: &[JobId]) -> Vec<AssetKey> {
    let private = parents.iter().map(|job| AssetKey { name: asset.name.private_of(*job), ..asset.clone() });
    private.chain([asset.clone()]).collect()
}

/// What of a machine can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// The disk with this number, as in `HDD_1`.
    Disk(u32),
    /// The firmware's variables, as the machine has left them.
    FirmwareVars,
}

/// What a job publishes when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The setting that asks for it.
    pub setting: String,
    /// What.
    pub what: Output,
    /// The name to publish it under.
    pub name: AssetName,
    /// Only for jobs that start after this one.
    pub private: bool,
    /// Also if the job does not pass.
    pub forced: bool,
}

/// The setting with the name under which the firmware's variables are published.
pub const PUBLISH_VARS: &str = "PUBLISH_PFLASH_VARS";

/// A setting that asks for a publication that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {error}")]
pub struct BadPublication {
    /// The setting.
    pub setting: String,
    /// What is wrong with its value.
    pub error: BadAssetName,
}

/// What a job with these settings publishes: `PUBLISH_HDD_n`, `FORCE_PUBLISH_HDD_n`, `STORE_HDD_n`,
/// `PUBLISH_PFLASH_VARS`.
pub fn publications(settings: &BTreeMap<String, String>) -> Result<Vec<Publication>, BadPublication> {
    let mut found = Vec::new();
    for (setting, value) in settings {
        let value = value.trim();
        let words = [
            (PUBLISH_VARS, false, false),
            ("PUBLISH_HDD_", false, false),
            ("FORCE_PUBLISH_HDD_", false, true),
            ("STORE_HDD_", true, false),
        ];
        for (prefix, private, forced) in words {
            let what = match setting.strip_prefix(prefix) {
                Some("") if prefix == PUBLISH_VARS => Some(Output::FirmwareVars),
                Some(number) if prefix != PUBLISH_VARS => {
                    number.parse().ok().filter(|number| (1..=9).contains(number)).map(Output::Disk)
                }
                _ => None,
            };
            let Some(what) = what.filter(|_| !value.is_empty()) else { continue };
            let bad = |error| BadPublication { setting: setting.clone(), error };
            let name = value.parse().map_err(bad)?;
            found.push(Publication { setting: setting.clone(), what, name, private, forced });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_assets() {
        let settings = [
            ("ISO", "a.iso"),
            ("ISO_1", " b.iso "),
            ("ISO_MAXSIZE", "9"),
            ("HDD_1", "d.qcow2"),
            ("HDD_2", "/images/d.qcow2"),
            ("HDD_3", "images/d.qcow2"),
            ("HDD_4", ""),
            ("HDDSIZEGB_1", "20"),
            ("HDD_", "x"),
            ("UEFI_PFLASH_VARS", "vars.qcow2"),
            ("UEFI_PFLASH_CODE", "/usr/share/OVMF/OVMF_CODE.fd"),
            ("REPO_0", "repo"),
            ("KERNEL", "linux"),
            ("INITRD", ".initrd"),
            ("ASSET_256", "x.tar"),
            ("PUBLISH_HDD_1", "new.qcow2"),
            ("ISO_URL", "http://host/a.iso"),
        ];
        let found: Vec<_> = reads(settings)
            .into_iter()
            .map(|r| format!("{} {} {}", r.setting, r.asset, r.is_fetched()))
            .collect();
        assert_eq!(
            found,
            [
                "ISO iso/a.iso true",
                "ISO_1 iso/b.iso true",
                "HDD_1 hdd/d.qcow2 true",
                "UEFI_PFLASH_VARS hdd/vars.qcow2 true",
                "REPO_0 repo/repo false",
                "KERNEL other/linux true",
                "ASSET_256 other/x.tar true",
            ]
        );
    }

    #[test]
    fn disks_are_published() {
        let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let found = publications(&settings(&[
            ("FORCE_PUBLISH_HDD_2", "f.qcow2"),
            ("PUBLISH_HDD_1", "p.qcow2"),
            ("PUBLISH_HDD_0", "no.qcow2"),
            ("PUBLISH_HDD_x", "no.qcow2"),
            ("PUBLISH_HDD_3", " "),
            ("PUBLISH_PFLASH_VARS", "v.fd"),
            ("PUBLISH_PFLASH_VARS1", "no.fd"),
            ("STORE_HDD_1", "s.qcow2"),
        ]));
        let found: Vec<_> = found
            .expect("good names")
            .into_iter()
            .map(|p| format!("{:?} {} {} {}", p.what, p.name, p.private, p.forced))
            .collect();
        assert_eq!(
            found,
            [
                "Disk(2) f.qcow2 false true",
                "Disk(1) p.qcow2 false false",
                "FirmwareVars v.fd false false",
                "Disk(1) s.qcow2 true false"
            ]
        );
        let bad = publications(&settings(&[("STORE_HDD_1", "../etc/x")])).expect_err("a path");
        assert_eq!(
            bad.to_string(),
            "STORE_HDD_1: \"../etc/x\" cannot be the name of an asset: it contains a slash; give a plain file name, \
             without folders"
        );
    }

    #[test]
    fn names() {
        for (name, good) in [
            ("a.iso", true),
            ("openSUSE Tumbleweed+1_ü.iso", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a\0b", false),
            ("a\nb", false),
            (&"x".repeat(241), false),
        ] {
            assert_eq!(name.parse::<AssetName>().is_ok(), good, "{name:?}");
        }
        let key = AssetKey { kind: AssetKind::Hdd, name: "d.qcow2".parse().expect("a name") };
        let found: Vec<_> =
            candidates(&key, &[JobId(7), JobId(123)]).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["hdd/00000007-d.qcow2", "hdd/00000123-d.qcow2", "hdd/d.qcow2"]);
        for (name, kind) in [
            ("a.iso", AssetKind::Iso),
            ("a.QCOW2", AssetKind::Hdd),
            ("a.raw.xz", AssetKind::Hdd),
            ("initrd.gz", AssetKind::Other),
            ("x", AssetKind::Other),
        ] {
            assert_eq!(AssetKind::of_file(name), kind, "{name}");
        }
    }
}
