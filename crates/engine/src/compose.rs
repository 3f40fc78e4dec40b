//! Composes and updates: which products are posted for them. Pure; what is mapped to what is configuration.

use crate::rules::{Item, Planned, PlannedEffect, nvr, short_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub use crate::product::SettingsMap;

/// A compose as its metadata describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// What is under test.
    pub item: Item,
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
    /// Variants that can be installed from the net, with the architectures on which they can.
    pub trees: BTreeSet<(String, String)>,
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
            item: Item { kind: "compose".to_owned(), id: id.clone(), revision: String::new() },
            id,
            trees: trees(&payload["variants"]),
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

    /// Reads `meta.json` of a build of Fedora CoreOS, which has no metadata of productmd.
    pub fn read_coreos(meta: &Value) -> Result<Self, String> {
        let text = |key: &str| {
            let text = meta[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or_else(|| format!("meta.json has no {key}; it is not a build's of CoreOS"))
        };
        let (build, arch) = (text("buildid")?, text("coreos-assembler.basearch")?);
        let version = build.split('.').next().unwrap_or_default().to_owned();
        let path = meta["images"]["live-iso"]["path"].as_str();
        let image = |path: &str| Image {
            path: path.to_owned(),
            subvariant: "CoreOS".to_owned(),
            kind: "colive".to_owned(),
            format: "iso".to_owned(),
            arch: arch.clone(),
        };
        Ok(Self {
            id: format!("Fedora-CoreOS-{build}"),
            short: "Fedora-CoreOS".to_owned(),
            version,
            kind: "production".to_owned(),
            label: None,
            trees: BTreeSet::new(),
            images: path.map(image).into_iter().collect(),
            item: Item { kind: "fcosbuild".to_owned(), id: build, revision: arch },
        })
    }
}

fn trees(variants: &Value) -> BTreeSet<(String, String)> {
    let of = |(variant, about): (&String, &Value)| -> Vec<(String, String)> {
        let arches = about["paths"]["os_tree"].as_object();
        arches
            .into_iter()
            .flat_map(|arches| arches.keys())
            .map(|arch| (variant.clone(), arch.clone()))
            .collect()
    };
    variants.as_object().into_iter().flatten().flat_map(of).collect()
}

/// Which composes are meant: what is not said fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// `Fedora`, `Fedora-Cloud`
    pub shorts: Vec<String>,
    /// `Rawhide`, `44`
    pub versions: Vec<String>,
    /// `production`, `nightly`, `test`, `development`, `ci`
    pub kinds: Vec<String>,
    /// Variants of which one can be installed from the net.
    pub trees: Vec<String>,
    /// And not these.
    pub not: Option<Box<Self>>,
}

impl When {
    fn fits(&self, compose: &Compose) -> bool {
        one_of(&self.shorts, &compose.short)
            && one_of(&self.versions, &compose.version)
            && one_of(&self.kinds, &compose.kind)
            && (self.trees.is_empty()
                || compose.trees.iter().any(|(variant, _)| self.trees.contains(variant)))
            && !self.not.as_ref().is_some_and(|not| not.fits(compose))
    }
}

fn one_of(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(value))
}

/// What is scheduled, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Of every post.
    pub settings: SettingsMap,
    /// Of the posts of some composes.
    pub more: Vec<More>,
    /// Settings that get the address of another image of the same architecture.
    pub beside: BTreeMap<String, Wanted>,
    /// What is said on a group's page when a compose is scheduled.
    pub comments: Vec<GroupComment>,
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

/// Settings of the posts of some composes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct More {
    /// Of which.
    pub when: When,
    /// Of their posts.
    pub settings: SettingsMap,
}

/// What is said on a group's page when a compose is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupComment {
    /// For which composes.
    pub when: When,
    /// The group's name or number.
    pub group: String,
    /// `{id}` and `{version}` are the compose's.
    pub text: String,
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
    /// Its updates are made of each build by itself; if nothing is known of it, that is so before it is branched.
    #[serde(default)]
    pub automatic: Option<bool>,
}

/// The version that composes have before they are branched.
const RAWHIDE: &str = "Rawhide";

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
            automatic: None,
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
    /// Of which composes.
    pub when: When,
    /// Of its post.
    pub settings: SettingsMap,
}

impl Wanted {
    fn fits(&self, image: &Image) -> bool {
        one_of(&self.subvariants, &image.subvariant)
            && one_of(&self.kinds, &image.kind)
            && one_of(&self.formats, &image.format)
            && one_of(&self.arches, &image.arch)
    }
}

/// What the images that an entry may want are called.
fn flavors_of(wanted: &Wanted) -> Vec<String> {
    let image = |subvariant: &String, kind: &String, format: &String| Image {
        path: String::new(),
        subvariant: subvariant.clone(),
        kind: kind.clone(),
        format: format.clone(),
        arch: String::new(),
    };
    let mut all = Vec::new();
    for subvariant in &wanted.subvariants {
        for kind in &wanted.kinds {
            all.extend(wanted.formats.iter().map(|format| image(subvariant, kind, format).flavor()));
        }
    }
    all
}

/// A flavor without an image of its own, posted beside images that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Its name.
    pub flavor: String,
    /// Its architectures.
    pub arches: Vec<String>,
    /// Variants of which one has to be there to be installed on the architecture; without them, an image has to be there.
    pub trees: Vec<String>,
    /// Of which composes.
    pub when: When,
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
    /// Flavors that begin with the release before: left out where that is not maintained any more, or not known.
    pub upgrades: Vec<String>,
    /// Of every post.
    pub settings: SettingsMap,
    /// Of posts of releases whose updates are made of each build by itself; `{version}` is filled in.
    pub automatic: SettingsMap,
}

/// In a list of flavors: all that there are.
const ALL: &str = "all";

impl Updates {
    /// Every flavor that something is mapped to.
    pub fn flavors(&self) -> BTreeSet<String> {
        let all = self.groups.values().chain(self.packages.values()).flatten();
        all.filter(|flavor| *flavor != ALL).cloned().collect()
    }
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
    /// Settings besides: then it is no usual test of the item, and its build says so.
    pub extra: SettingsMap,
}

/// The flavors of updates begin so; whoever chooses them may leave it out.
const OF_UPDATES: &str = "updates-";

impl Choice {
    /// Why its settings cannot be had.
    pub fn refused(&self) -> Option<String> {
        let differ = [("FLAVOR", "flavors"), ("ARCH", "arches")];
        let (key, instead) = differ.into_iter().find(|(key, _)| self.extra.contains_key(*key))?;
        Some(format!(
            "{key} is what the posts differ in, and cannot be set; choose among them with {instead} (--{instead})"
        ))
    }

    fn wants(&self, flavor: &str, arch: &str) -> bool {
        (self.flavors.is_empty() || self.flavors.iter().any(|one| is_flavor(one, flavor)))
            && (self.arches.is_empty() || self.arches.iter().any(|one| one == arch))
    }

    fn key(&self, item: &Item, flavor: &str, arch: &str) -> String {
        let force = self.force.as_ref().map(|force| format!("#{force}")).unwrap_or_default();
        let extra =
            self.extra.iter().fold(String::new(), |text, (key, value)| text + "+" + key + "=" + value);
        let Item { kind, id, revision } = item;
        short_key(format!("schedule/{kind}/{id}/{revision}/{flavor}/{arch}{extra}{force}"))
    }

    /// What is posted besides, and a build that says so: it is not to be reported.
    fn add_extra(&self, settings: &mut SettingsMap) {
        if self.extra.is_empty() {
            return;
        }
        settings.extend(self.extra.clone());
        if let Some(build) = settings.get_mut("BUILD") {
            build.push_str("-EXTRA");
        }
    }
}

/// The setting that says where an image is, and its value. What is a file is not fetched: the worker reads it where it lies,
/// unless it has to be unpacked first.
fn place_of(setting: &str, location: &str, path: &str) -> (String, String) {
    let read = setting.strip_suffix("_URL").filter(|name| !name.ends_with("_DECOMPRESS"));
    match (read, location.strip_prefix("file://")) {
        (Some(read), Some(directory)) => (read.to_owned(), format!("{directory}/{path}")),
        _ => (setting.to_owned(), format!("{location}/{path}")),
    }
}

fn is_flavor(said: &str, flavor: &str) -> bool {
    let same = |name: &str| said.eq_ignore_ascii_case(name);
    same(flavor) || flavor.strip_prefix(OF_UPDATES).is_some_and(same)
}

/// Why nothing of a release is scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRelease {
    /// Nobody knows it.
    #[error("there is no release {name:?}; there are {known}")]
    Unknown {
        /// As it was named.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It is not maintained any more.
    #[error("the release {name} has ended; force it to be scheduled all the same")]
    Ended {
        /// Which.
        name: String,
    },
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
        // Others that are not branched come after it.
        say("RAWREL", of(Life::Rawhide).next_back());
        settings
    }

    /// The place of a version among the releases. Composes that are not branched have a name in its place.
    fn position(&self, version: &str, day: i64) -> Option<usize> {
        let is_rawhide = |release: &Release| release.life(day) == Life::Rawhide;
        let named =
            || version.eq_ignore_ascii_case(RAWHIDE).then(|| self.releases.iter().position(is_rawhide));
        self.releases.iter().position(|release| release.version == version).or_else(|| named()?)
    }

    /// The releases to upgrade from: `UP1REL` and `UP2REL`.
    fn upgrade_settings(&self, version: &str, day: i64) -> SettingsMap {
        let at = self.position(version, day);
        let before = |count: usize| Some(self.releases.get(at?.checked_sub(count)?)?.version.clone());
        let both = [("UP1REL", before(1)), ("UP2REL", before(2))];
        both.into_iter().filter_map(|(key, version)| Some((key.to_owned(), version?))).collect()
    }

    /// False if the release before is not maintained any more, or is not known.
    fn upgrades_to(&self, version: &str, day: i64) -> bool {
        let before = || self.releases.get(self.position(version, day)?.checked_sub(1)?);
        self.releases.is_empty() || before().is_some_and(|before| before.life(day) != Life::Ended)
    }

    /// The settings of all posts of a compose.
    fn compose_settings(&self, compose: &Compose, location: &str, day: i64) -> SettingsMap {
        let mut base = self.settings.clone();
        base.extend(self.release_settings(day));
        base.extend(self.upgrade_settings(&compose.version, day));
        base.insert("VERSION".to_owned(), compose.version.clone());
        base.insert("BUILD".to_owned(), compose.id.clone());
        base.insert("LOCATION".to_owned(), location.to_owned());
        base.extend(compose.label.clone().map(|label| ("LABEL".to_owned(), label)));
        base.entry("DISTRI".to_owned()).or_insert_with(|| compose.short.to_lowercase());
        for more in self.more.iter().filter(|more| more.when.fits(compose)) {
            base.extend(more.settings.clone());
        }
        base
    }

    /// Addresses of other images of an architecture.
    fn beside(&self, compose: &Compose, location: &str, arch: &str) -> SettingsMap {
        let of_arch = || compose.images.iter().filter(|image| image.arch == arch);
        let one = |(key, wanted): (&String, &Wanted)| {
            let image = of_arch().find(|image| wanted.when.fits(compose) && wanted.fits(image))?;
            Some((key.clone(), format!("{location}/{}", image.path)))
        };
        self.beside.iter().filter_map(one).collect()
    }

    /// What is posted for a compose, and what is said of it. `day` is today.
    pub fn compose(&self, compose: &Compose, location: &str, choice: &Choice, day: i64) -> Vec<Planned> {
        let item = &compose.item;
        let location = location.trim_end_matches('/');
        let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
        let base = self.compose_settings(compose, location, day);
        let mut add = |flavor: &str, arch: &str, more: SettingsMap| {
            let key = choice.key(item, flavor, arch);
            let mut settings = base.clone();
            settings.insert("FLAVOR".to_owned(), flavor.to_owned());
            settings.insert("ARCH".to_owned(), arch.to_owned());
            settings.extend(more);
            choice.add_extra(&mut settings);
            planned.entry(key.clone()).or_insert_with(|| product(key, item, settings));
        };
        let mut arches = BTreeSet::new();
        let mut any = false;
        for image in &compose.images {
            let fits = |wanted: &&Wanted| wanted.when.fits(compose) && wanted.fits(image);
            let Some(wanted) = self.images.iter().find(fits) else { continue };
            arches.insert(image.arch.as_str());
            let flavor = wanted.flavor.clone().unwrap_or_else(|| image.flavor());
            if !choice.wants(&flavor, &image.arch) {
                continue;
            }
            let mut settings = SettingsMap::from([
                ("SUBVARIANT".to_owned(), image.subvariant.clone()),
                ("IMAGETYPE".to_owned(), image.kind.clone()),
            ]);
            if let Some(setting) = self.url_settings.get(&image.format) {
                settings.extend([place_of(setting, location, &image.path)]);
            }
            settings.extend(self.beside(compose, location, &image.arch));
            settings.extend(wanted.settings.clone());
            add(&flavor, &image.arch, settings);
            any = true;
        }
        // Nobody wants what goes with images by itself, unless it is all that they ask for.
        let is_extra = |said: &String| self.extra.iter().any(|extra| is_flavor(said, &extra.flavor));
        any |= !choice.flavors.is_empty() && choice.flavors.iter().all(is_extra);
        for extra in self.extra.iter().filter(|extra| any && extra.when.fits(compose)) {
            let tree = |arch: &str| {
                compose.trees.iter().any(|(variant, on)| on == arch && extra.trees.contains(variant))
            };
            let there = |arch: &&String| {
                if extra.trees.is_empty() { arches.contains(arch.as_str()) } else { tree(arch) }
            };
            for arch in extra.arches.iter().filter(there).filter(|arch| choice.wants(&extra.flavor, arch)) {
                add(&extra.flavor, arch, extra.settings.clone());
            }
        }
        let mut all: Vec<Planned> = planned.into_values().collect();
        if !all.is_empty() && choice.extra.is_empty() {
            all.extend(self.said_of(compose));
        }
        all
    }

    /// What is said of a compose on groups' pages, once.
    fn said_of(&self, compose: &Compose) -> Vec<Planned> {
        let Item { kind, id, .. } = &compose.item;
        let comments = self.comments.iter().filter(|comment| comment.when.fits(compose));
        let one = |comment: &GroupComment| {
            let text = comment.text.replace("{id}", &compose.id).replace("{version}", &compose.version);
            let key = short_key(format!("schedule/{kind}/{id}/comment/{}/{text}", comment.group));
            planned(key, &compose.item, PlannedEffect::Comment { group: comment.group.clone(), text })
        };
        comments.map(one).collect()
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
    fn update_settings(&self, version: &str, automatic: Option<bool>, day: i64) -> SettingsMap {
        let mut base = self.settings.clone();
        base.extend(self.release_settings(day));
        base.extend(self.upgrade_settings(version, day));
        base.extend(self.updates.settings.clone());
        let release = self.releases.iter().find(|release| release.version == version);
        let of_release =
            || release.map(|release| release.automatic.unwrap_or(release.life(day) == Life::Rawhide));
        if automatic.or_else(of_release).unwrap_or(false) {
            let filled = |(key, text): (&String, &String)| (key.clone(), text.replace("{version}", version));
            base.extend(self.updates.automatic.iter().map(filled));
        }
        base.insert("VERSION".to_owned(), version.to_owned());
        base.entry("DISTRI".to_owned()).or_insert_with(|| "fedora".to_owned());
        base
    }

    /// Why nothing of a release can be scheduled by its name.
    pub fn refuses_release(&self, release: &str, day: i64) -> Option<NoRelease> {
        let name = release.to_owned();
        match self.releases.iter().find(|known| known.name == release) {
            _ if self.releases.is_empty() => None,
            None => {
                let known: Vec<&str> = self.releases.iter().map(|known| known.name.as_str()).collect();
                Some(NoRelease::Unknown { name, known: known.join(", ") })
            }
            Some(known) if known.life(day) == Life::Ended => Some(NoRelease::Ended { name }),
            Some(_) => None,
        }
    }

    /// A flavor that somebody chose and that no compose is ever posted as. What entries leave open is only known of the images
    /// of `compose`.
    pub fn misspelt_of<'c>(&self, compose: &Compose, choice: &'c Choice) -> Option<&'c str> {
        let parts = |wanted: &Wanted| match &wanted.flavor {
            Some(flavor) => vec![flavor.clone()],
            None => flavors_of(wanted),
        };
        let mut all: BTreeSet<String> = self.images.iter().flat_map(parts).collect();
        all.extend(self.extra.iter().map(|extra| extra.flavor.clone()));
        let wanted = |image: &&Image| self.images.iter().any(|wanted| wanted.fits(image));
        all.extend(compose.images.iter().filter(wanted).map(Image::flavor));
        choice.flavors.iter().map(String::as_str).find(|said| !all.iter().any(|one| is_flavor(said, one)))
    }

    /// A flavor that somebody chose and that nothing is ever posted as.
    pub fn misspelt<'c>(&self, choice: &'c Choice) -> Option<&'c str> {
        let all = self.updates.flavors();
        let all = || all.iter().chain(self.candidates.values().flat_map(|how| &how.flavors));
        let is_one = |said: &str| all().any(|flavor| is_flavor(said, &format!("{OF_UPDATES}{flavor}")));
        choice.flavors.iter().map(String::as_str).find(|said| !is_one(said))
    }

    /// What is posted for something that is tested as an update is.
    pub fn candidate(&self, candidate: &Candidate, choice: &Choice, day: i64) -> Vec<Planned> {
        let Candidate { kind, id, revision, release } = candidate;
        let item = Item { kind: kind.word().to_owned(), id: id.clone(), revision: revision.clone() };
        let version = self.version_of(release);
        let usual = Candidates::default();
        let how = self.candidates.get(kind).unwrap_or(&usual);
        let mut base = self.update_settings(version, None, day);
        // These are about updates.
        base.remove("UPDATE_OR_TAG_REPO");
        let build = match kind {
            CandidateKind::KojiTask => {
                // Of several, the tests take the numbers apart at these.
                let ids = id.replace(' ', "_");
                base.insert("KOJITASK".to_owned(), ids.clone());
                format!("Kojitask-{ids}")
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
        base.insert("ADVISORY_OR_TASK".to_owned(), id.replace(' ', "_"));
        let mut all = if how.flavors.is_empty() {
            self.updates.flavors()
        } else {
            how.flavors.iter().cloned().collect()
        };
        self.leave_out(&mut all, version, day);
        let mut planned = Vec::new();
        for flavor in all {
            let flavor = format!("{OF_UPDATES}{flavor}");
            for arch in self.updates.arches.iter().filter(|arch| choice.wants(&flavor, arch)) {
                let filled = |text: &String| {
                    text.replace("{arch}", arch).replace("{version}", version).replace("{id}", id)
                };
                let mut settings = base.clone();
                settings.extend(how.settings.iter().map(|(key, text)| (key.clone(), filled(text))));
                settings.insert("FLAVOR".to_owned(), flavor.clone());
                settings.insert("ARCH".to_owned(), arch.clone());
                choice.add_extra(&mut settings);
                planned.push(product(choice.key(&item, &flavor, arch), &item, settings));
            }
        }
        planned
    }

    /// Upgrades from a release that has ended are not tested.
    fn leave_out(&self, flavors: &mut BTreeSet<String>, version: &str, day: i64) {
        if !self.upgrades_to(version, day) {
            flavors.retain(|flavor| !self.updates.upgrades.contains(flavor));
        }
    }

    /// What is posted for an update. A critical path without groups means all flavors.
    pub fn update(&self, update: &Update, choice: &Choice, day: i64) -> Vec<Planned> {
        let mut builds = update.builds.clone();
        builds.sort();
        builds.dedup();
        let item =
            Item { kind: "bodhi_update".to_owned(), id: update.id.clone(), revision: builds.join(" ") };
        let version = self.version_of(&update.release);
        let mut base = self.update_settings(version, update.automatic, day);
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
        // Whoever names flavors wants these, whatever the update is made of.
        let mut flavors = if choice.flavors.is_empty() {
            self.update_flavors(update, &builds)
        } else {
            self.updates.flavors()
        };
        self.leave_out(&mut flavors, version, day);
        let mut planned = Vec::new();
        for flavor in flavors {
            let flavor = format!("{OF_UPDATES}{flavor}");
            for arch in self.updates.arches.iter().filter(|arch| choice.wants(&flavor, arch)) {
                let mut settings = base.clone();
                settings.insert("FLAVOR".to_owned(), flavor.clone());
                settings.insert("ARCH".to_owned(), arch.clone());
                choice.add_extra(&mut settings);
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
        if flavors.contains(ALL) { self.updates.flavors() } else { flavors }
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
    /// Groups of the critical path; none if it is not on it, empty for all.
    pub groups: Option<Vec<String>>,
    /// Updates of its release are made of each build by itself; none if that is not said.
    pub automatic: Option<bool>,
}

fn product(key: String, item: &Item, mut settings: SettingsMap) -> Planned {
    item.say_in(&mut settings);
    planned(key, item, PlannedEffect::Product { settings })
}

fn planned(key: String, item: &Item, effect: PlannedEffect) -> Planned {
    Planned {
        key,
        rule: format!("schedule {}", item.kind),
        item: Some(item.clone()),
        batch: None,
        limit: None,
        force: None,
        effect,
    }
}
