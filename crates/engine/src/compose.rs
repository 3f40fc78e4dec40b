//! Composes and updates: which products are posted for them. Pure; what is mapped to what is configuration.

use crate::rules::{Item, Planned, PlannedEffect, nvr, short_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub use crate::product::SettingsMap;

/// A compose as its metadata describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// For example `Fedora-Rawhide-20261121.n.0`.
    pub id: String,
    /// `Fedora`
    pub short: String,
    /// `Rawhide` or `44`.
    pub version: String,
    /// `production`, `nightly`, `test`, `development`, `ci`
    pub kind: String,
    /// `RC-1.5`, if it is a candidate.
    pub label: Option<String>,
    /// All of them.
    pub images: Vec<Image>,
}

/// An image of a compose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Below the compose.
    pub path: String,
    /// `Server`
    pub subvariant: String,
    /// `dvd`, `boot`, `live`, `qcow2`…
    pub kind: String,
    /// `iso`, `qcow2`, `raw.xz`
    pub format: String,
    /// The architecture.
    pub arch: String,
}

/// Values that are too long break what reads them.
const BUILDS_TOGETHER: usize = 20;

impl Image {
    /// `Silverblue-dvd_ostree-iso`: dashes within a part become underscores.
    pub fn flavor(&self) -> String {
        [&self.subvariant, &self.kind, &self.format].map(|part| part.replace('-', "_")).join("-")
    }
}

impl Compose {
    /// Reads `composeinfo.json` and `images.json`.
    pub fn read(info: &Value, images: &Value) -> Result<Self, String> {
        let payload = &info["payload"];
        let text = |value: &Value, what: &str| {
            let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or_else(|| format!("composeinfo.json has no payload.{what}; it is not a compose's"))
        };
        let id = text(&payload["compose"]["id"], "compose.id")?;
        let other = images["payload"]["compose"]["id"].as_str().unwrap_or_default();
        if other != id {
            return Err(format!(
                "composeinfo.json is of {id}, images.json of {other:?}; they must be of one compose"
            ));
        }
        let all = images["payload"]["images"].as_object();
        let all = all.ok_or("images.json has no payload.images; it is not a compose's")?;
        let mut compose = Self {
            id,
            short: text(&payload["release"]["short"], "release.short")?,
            version: text(&payload["release"]["version"], "release.version")?,
            kind: text(&payload["compose"]["type"], "compose.type")?,
            label: payload["compose"]["label"].as_str().map(str::to_owned),
            images: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        for (variant, arches) in all {
            for (arch, images) in arches.as_object().into_iter().flatten() {
                for image in images.as_array().into_iter().flatten() {
                    let get = |key: &str| image[key].as_str().map(str::to_owned);
                    let Some(path) = get("path") else {
                        return Err(format!("images.json: an image of {variant} {arch} has no path"));
                    };
                    if !seen.insert(path.clone()) {
                        continue;
                    }
                    compose.images.push(Image {
                        path,
                        subvariant: get("subvariant").unwrap_or_else(|| variant.clone()),
                        kind: get("type").unwrap_or_default(),
                        format: get("format").unwrap_or_default(),
                        arch: get("arch").unwrap_or_else(|| arch.clone()),
                    });
                }
            }
        }
        Ok(compose)
    }
}

/// What is scheduled, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Of every post.
    pub settings: SettingsMap,
    /// Releases, the oldest first.
    pub releases: Vec<Release>,
    /// Images that are wanted.
    pub images: Vec<Wanted>,
    /// The setting that gets an image's address, by its format.
    pub url_settings: BTreeMap<String, String>,
    /// Flavors without an image of their own.
    pub extra: Vec<Extra>,
    /// Updates.
    pub updates: Updates,
    /// What is tested as updates are, without being one.
    pub candidates: BTreeMap<CandidateKind, Candidates>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// `F44`
    pub name: String,
    /// `44`
    pub version: String,
    /// Days since 1970 from which on it is no longer rawhide.
    pub branched: Option<i64>,
    /// The day of its release.
    pub released: Option<i64>,
    /// The day from which on it is not maintained.
    pub end: Option<i64>,
}

/// Where a release is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Not branched.
    Rawhide,
    /// Branched, not released.
    Branched,
    /// Maintained.
    Current,
    /// Not maintained.
    Ended,
}

impl Release {
    /// One of which only its life is known, not its days.
    pub fn in_life(name: &str, version: &str, life: Life) -> Self {
        let since = |least: Life| (life >= least).then_some(i64::MIN);
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            branched: since(Life::Branched),
            released: since(Life::Current),
            end: since(Life::Ended),
        }
    }

    /// Where it is on a day.
    pub fn life(&self, day: i64) -> Life {
        let past = |date: Option<i64>| date.is_some_and(|date| date <= day);
        if past(self.end) {
            Life::Ended
        } else if past(self.released) {
            Life::Current
        } else if past(self.branched) {
            Life::Branched
        } else {
            Life::Rawhide
        }
    }
}

/// Images that are wanted: what is not said fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub subvariants: Vec<String>,
    /// Which.
    pub kinds: Vec<String>,
    /// Which.
    pub formats: Vec<String>,
    /// Which.
    pub arches: Vec<String>,
    /// In place of the one that follows from the image.
    pub flavor: Option<String>,
    /// Of its post.
    pub settings: SettingsMap,
}

impl Wanted {
    fn fits(&self, image: &Image) -> bool {
        let one_of =
            |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
        one_of(&self.subvariants, &image.subvariant)
            && one_of(&self.kinds, &image.kind)
            && one_of(&self.formats, &image.format)
            && one_of(&self.arches, &image.arch)
    }
}

/// A flavor without an image of its own, posted if there is any image of its architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Its name.
    pub flavor: String,
    /// Its architectures.
    pub arches: Vec<String>,
    /// Of its post.
    pub settings: SettingsMap,
}

/// What is scheduled for updates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    /// The architectures.
    pub arches: Vec<String>,
    /// Flavors by group of the critical path.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Flavors by package.
    pub packages: BTreeMap<String, Vec<String>>,
    /// Of every post.
    pub settings: SettingsMap,
}

/// What is tested as updates are, without being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CandidateKind {
    /// What tasks of Koji have built, for example scratch builds.
    KojiTask,
    /// What is in a tag of Koji, for example a side tag.
    KojiTag,
    /// A project of COPR.
    Copr,
}

impl CandidateKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KojiTask, Self::KojiTag, Self::Copr];

    /// The type of the item.
    pub fn word(self) -> &'static str {
        match self {
            Self::KojiTask => "koji_task",
            Self::KojiTag => "koji_tag",
            Self::Copr => "copr",
        }
    }

    /// The reverse of [`Self::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// How candidates of one kind are scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Their flavors; none means all that updates have.
    pub flavors: Vec<String>,
    /// Of every post; `{id}`, `{arch}` and `{version}` are filled in.
    pub settings: SettingsMap,
}

/// Something that is tested as an update is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it is.
    pub kind: CandidateKind,
    /// Numbers of tasks with blanks between them; a tag; `OWNER/PROJECT`.
    pub id: String,
    /// What tells one state of it from another; empty if that is not known.
    pub revision: String,
    /// `F44`
    pub release: String,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only these flavors; none means all.
    pub flavors: Vec<String>,
    /// Only these architectures; none means all.
    pub arches: Vec<String>,
    /// Once more, whatever was done before: tells this time from others.
    pub force: Option<String>,
}

impl Choice {
    fn wants(&self, flavor: &str, arch: &str) -> bool {
        (self.flavors.is_empty() || self.flavors.iter().any(|one| one.eq_ignore_ascii_case(flavor)))
            && (self.arches.is_empty() || self.arches.iter().any(|one| one == arch))
    }

    fn key(&self, item: &Item, flavor: &str, arch: &str) -> String {
        let force = self.force.as_ref().map(|force| format!("#{force}")).unwrap_or_default();
        short_key(format!("schedule/{}/{}/{}/{flavor}/{arch}{force}", item.kind, item.id, item.revision))
    }
}

impl Schedule {
    /// `CURRREL`, `PREVREL` and `RAWREL` of a day.
    pub fn release_settings(&self, day: i64) -> SettingsMap {
        let of = |life: Life| self.releases.iter().rev().filter(move |release| release.life(day) == life);
        let mut settings = SettingsMap::new();
        let mut say = |key: &str, release: Option<&Release>| {
            settings.extend(release.map(|release| (key.to_owned(), release.version.clone())));
        };
        say("CURRREL", of(Life::Current).next());
        say("PREVREL", of(Life::Current).nth(1));
        say("RAWREL", of(Life::Rawhide).next());
        settings
    }

    /// The releases to upgrade from: `UP1REL` and `UP2REL`.
    fn upgrade_settings(&self, version: &str, day: i64) -> SettingsMap {
        let at = self.releases.iter().position(|release| release.version == version);
        let at = at.or_else(|| self.releases.iter().rposition(|release| release.life(day) == Life::Rawhide));
        let before = |count: usize| Some(self.releases.get(at?.checked_sub(count)?)?.version.clone());
        let both = [("UP1REL", before(1)), ("UP2REL", before(2))];
        both.into_iter().filter_map(|(key, version)| Some((key.to_owned(), version?))).collect()
    }

    /// What is posted for a compose. `day` is today.
    pub fn compose(&self, compose: &Compose, location: &str, choice: &Choice, day: i64) -> Vec<Planned> {
        let item = Item { kind: "compose".to_owned(), id: compose.id.clone(), revision: String::new() };
        let location = location.trim_end_matches('/');
        let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
        let mut base = self.settings.clone();
        base.extend(self.release_settings(day));
        base.extend(self.upgrade_settings(&compose.version, day));
        base.insert("VERSION".to_owned(), compose.version.clone());
        base.insert("BUILD".to_owned(), compose.id.clone());
        base.insert("LOCATION".to_owned(), location.to_owned());
        base.extend(compose.label.clone().map(|label| ("LABEL".to_owned(), label)));
        base.entry("DISTRI".to_owned()).or_insert_with(|| compose.short.to_lowercase());
        let mut add = |flavor: &str, arch: &str, more: SettingsMap| {
            let key = choice.key(&item, flavor, arch);
            let mut settings = base.clone();
            settings.insert("FLAVOR".to_owned(), flavor.to_owned());
            settings.insert("ARCH".to_owned(), arch.to_owned());
            settings.extend(more);
            planned.entry(key.clone()).or_insert_with(|| product(key, &item, settings));
        };
        let mut arches = BTreeSet::new();
        for image in &compose.images {
            let Some(wanted) = self.images.iter().find(|wanted| wanted.fits(image)) else { continue };
            arches.insert(image.arch.clone());
            let flavor = wanted.flavor.clone().unwrap_or_else(|| image.flavor());
            if !choice.wants(&flavor, &image.arch) {
                continue;
            }
            let mut settings = SettingsMap::from([
                ("SUBVARIANT".to_owned(), image.subvariant.clone()),
                ("IMAGETYPE".to_owned(), image.kind.clone()),
            ]);
            if let Some(setting) = self.url_settings.get(&image.format) {
                settings.insert(setting.clone(), format!("{location}/{}", image.path));
            }
            settings.extend(wanted.settings.clone());
            add(&flavor, &image.arch, settings);
        }
        for extra in &self.extra {
            for arch in extra.arches.iter().filter(|arch| arches.contains(*arch)) {
                if choice.wants(&extra.flavor, arch) {
                    add(&extra.flavor, arch, extra.settings.clone());
                }
            }
        }
        planned.into_values().collect()
    }

    /// The version of a release, also of one that is not in the table.
    fn version_of<'a>(&'a self, release: &'a str) -> &'a str {
        let known = self.releases.iter().find(|known| known.name == release);
        known.map_or_else(
            || release.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
            |known| known.version.as_str(),
        )
    }

    /// The settings of all posts of what is tested as an update.
    fn update_settings(&self, version: &str, day: i64) -> SettingsMap {
        let mut base = self.settings.clone();
        base.extend(self.release_settings(day));
        base.extend(self.upgrade_settings(version, day));
        base.extend(self.updates.settings.clone());
        base.insert("VERSION".to_owned(), version.to_owned());
        base.entry("DISTRI".to_owned()).or_insert_with(|| "fedora".to_owned());
        base
    }

    /// Why nothing of a release can be scheduled by its name.
    pub fn refuses_release(&self, release: &str, day: i64) -> Option<String> {
        if self.releases.is_empty() {
            return None;
        }
        match self.releases.iter().find(|known| known.name == release) {
            None => {
                let names: Vec<&str> = self.releases.iter().map(|known| known.name.as_str()).collect();
                Some(format!("there is no release {release:?}; there are {}", names.join(", ")))
            }
            Some(known) if known.life(day) == Life::Ended => {
                Some(format!("the release {release} has ended; force it to be scheduled all the same"))
            }
            Some(_) => None,
        }
    }

    /// What is posted for something that is tested as an update is.
    pub fn candidate(&self, candidate: &Candidate, choice: &Choice, day: i64) -> Vec<Planned> {
        let Candidate { kind, id, revision, release } = candidate;
        let item = Item { kind: kind.word().to_owned(), id: id.clone(), revision: revision.clone() };
        let version = self.version_of(release);
        let usual = Candidates::default();
        let how = self.candidates.get(kind).unwrap_or(&usual);
        let mut base = self.update_settings(version, day);
        // These are about updates.
        base.remove("UPDATE_OR_TAG_REPO");
        let build = match kind {
            CandidateKind::KojiTask => {
                base.insert("KOJITASK".to_owned(), id.clone());
                format!("Kojitask-{}", id.replace(' ', "-"))
            }
            CandidateKind::KojiTag => {
                base.insert("TAG".to_owned(), id.clone());
                format!("TAG_{id}")
            }
            CandidateKind::Copr => {
                base.insert("COPR".to_owned(), id.clone());
                format!("COPR_{id}")
            }
        };
        // The end says that it is not to be reported anywhere.
        base.insert("BUILD".to_owned(), format!("{build}-NOREPORT"));
        base.insert("ADVISORY_OR_TASK".to_owned(), id.clone());
        let all: BTreeSet<&String> = if how.flavors.is_empty() {
            self.updates.groups.values().chain(self.updates.packages.values()).flatten().collect()
        } else {
            how.flavors.iter().collect()
        };
        let mut planned = Vec::new();
        for flavor in all {
            let flavor = format!("updates-{flavor}");
            for arch in self.updates.arches.iter().filter(|arch| choice.wants(&flavor, arch)) {
                let filled = |text: &String| {
                    text.replace("{arch}", arch).replace("{version}", version).replace("{id}", id)
                };
                let mut settings = base.clone();
                settings.extend(how.settings.iter().map(|(key, text)| (key.clone(), filled(text))));
                settings.insert("FLAVOR".to_owned(), flavor.clone());
                settings.insert("ARCH".to_owned(), arch.clone());
                planned.push(product(choice.key(&item, &flavor, arch), &item, settings));
            }
        }
        planned
    }

    /// What is posted for an update. A critical path without groups means all flavors.
    pub fn update(&self, update: &Update, choice: &Choice, day: i64) -> Vec<Planned> {
        let mut builds = update.builds.clone();
        builds.sort();
        builds.dedup();
        let item =
            Item { kind: "bodhi_update".to_owned(), id: update.id.clone(), revision: builds.join(" ") };
        let mut base = self.update_settings(self.version_of(&update.release), day);
        for (key, value) in [
            ("BUILD", &format!("Update-{}", update.id)),
            ("ADVISORY", &update.id),
            ("ADVISORY_OR_TASK", &update.id),
        ] {
            base.insert(key.to_owned(), value.clone());
        }
        for (number, chunk) in builds.chunks(BUILDS_TOGETHER).enumerate() {
            base.insert(format!("ADVISORY_NVRS_{}", number + 1), chunk.join(" "));
        }
        let mut planned = Vec::new();
        for flavor in self.update_flavors(update, &builds) {
            let flavor = format!("updates-{flavor}");
            for arch in self.updates.arches.iter().filter(|arch| choice.wants(&flavor, arch)) {
                let mut settings = base.clone();
                settings.insert("FLAVOR".to_owned(), flavor.clone());
                settings.insert("ARCH".to_owned(), arch.clone());
                planned.push(product(choice.key(&item, &flavor, arch), &item, settings));
            }
        }
        planned
    }

    fn update_flavors(&self, update: &Update, builds: &[String]) -> BTreeSet<String> {
        let mut flavors: BTreeSet<String> = BTreeSet::new();
        let groups: Vec<&String> = match &update.groups {
            Some(groups) if groups.is_empty() => self.updates.groups.keys().collect(),
            Some(groups) => groups.iter().collect(),
            None => Vec::new(),
        };
        for group in groups {
            flavors.extend(self.updates.groups.get(group).into_iter().flatten().cloned());
        }
        for build in builds {
            let (name, ..) = nvr(build);
            flavors.extend(self.updates.packages.get(name).into_iter().flatten().cloned());
        }
        flavors
    }
}

/// An update as it is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// `FEDORA-2026-0a1b2c3d4e`
    pub id: String,
    /// `F44`
    pub release: String,
    /// Its builds.
    pub builds: Vec<String>,
    /// Groups of the critical path; none if it is not on it.
    pub groups: Option<Vec<String>>,
}

fn product(key: String, item: &Item, mut settings: SettingsMap) -> Planned {
    item.say_in(&mut settings);
    Planned {
        key,
        rule: format!("schedule {}", item.kind),
        item: Some(item.clone()),
        batch: None,
        limit: None,
        effect: PlannedEffect::Product { settings },
    }
}
