//! What is posted: the settings of a product, and the flags that say how it is scheduled.

use super::catalog::SettingsMap;
use serde::{Deserialize, Serialize};

/// What every post must say.
pub const REQUIRED: [&str; 4] = ["DISTRI", "VERSION", "FLAVOR", "ARCH"];

/// A request that cannot be read. `Display` says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Something that every post must say is not said.
    #[error("missing parameters: {}; add them as NAME=VALUE", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// A flag is no number.
    #[error("{key}={value} is no whole number; write for example {key}=50")]
    NoNumber {
        /// The flag.
        key: &'static str,
        /// What it was.
        value: String,
    },
    /// A single scenario is scheduled, and all of an old build would go for it.
    #[error(
        "TEST together with {flag} would take away the whole old build for a few scenarios; leave {flag} out, or add {force}=1 \
         if that is meant"
    )]
    WholeBuild {
        /// The flag.
        flag: &'static str,
        /// What allows it.
        force: &'static str,
    },
}

/// What happens to open jobs of older builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldBuilds {
    /// Nothing.
    #[default]
    Stay,
    /// They end as obsoleted.
    Obsolete,
    /// They step back with every post, and end when they would have to step back beyond the limit.
    Deprioritize {
        /// The highest number that a priority may get.
        limit: i32,
    },
}

/// Which group's templates are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupFilter {
    /// By number.
    Id(i64),
    /// By name.
    Name(String),
}

/// Definitions that the request brings instead of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Definitions {
    /// The text itself.
    Text(String),
    /// The path of a file below the tests.
    File(String),
}

/// A post of a product.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of openQA's request, and they do not depend on each other"
)]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Request {
    /// Everything as it was posted, by names in capital letters.
    pub posted: SettingsMap,
    /// What jobs get, by names in capital letters.
    pub settings: SettingsMap,
    /// What stays with the product: `__X`.
    pub product_only: SettingsMap,
    /// Parameters that nothing is done with, because a post cannot set them.
    pub ignored: SettingsMap,
    /// `TEST`: the scenarios; none means all.
    pub tests: Vec<String>,
    /// `MACHINE`: the machines; none means all.
    pub machines: Vec<String>,
    /// `_OBSOLETE`, `_DEPRIORITIZEBUILD`, `_DEPRIORITIZE_LIMIT`
    pub old_builds: OldBuilds,
    /// `_ONLY_OBSOLETE_SAME_BUILD`
    pub only_same_build: bool,
    /// `_SKIP_CHAINED_DEPS`: nothing is chained, only parallel parents come along.
    pub skip_chained: bool,
    /// `_INCLUDE_CHILDREN`: what depends on the chosen scenarios comes along.
    pub include_children: bool,
    /// `_GROUP`, `_GROUP_ID`
    pub group: Option<GroupFilter>,
    /// `_PRIORITY`
    pub priority: Option<i32>,
    /// `_FAIL_IF_NO_JOBS`
    pub fail_if_no_jobs: bool,
    /// `SCENARIO_DEFINITIONS_YAML`, `SCENARIO_DEFINITIONS_YAML_FILE`
    pub definitions: Option<Definitions>,
    /// What outside it is posted for, for example `gh:pr:12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// What openQA gives when `_DEPRIORITIZE_LIMIT` is not said.
pub const DEPRIORITIZE_LIMIT: i32 = 100;

/// Flags that are on or off.
const SWITCHES: [&str; 9] = [
    "_OBSOLETE",
    "_DEPRIORITIZEBUILD",
    "_FORCE_OBSOLETE",
    "_FORCE_DEPRIORITIZEBUILD",
    "_NOOBSOLETEBUILD",
    "_ONLY_OBSOLETE_SAME_BUILD",
    "_SKIP_CHAINED_DEPS",
    "_INCLUDE_CHILDREN",
    "_FAIL_IF_NO_JOBS",
];

/// Flags with a value.
const VALUED: [&str; 4] = ["_DEPRIORITIZE_LIMIT", "_PRIORITY", "_GROUP_ID", "_GROUP"];

/// What the template or the server decides, whatever is posted.
const NOT_POSTED: [&str; 5] = ["BACKEND", "TEST_SUITE_NAME", "PRIO", "GROUP_ID", "NAME"];

impl Request {
    /// Reads names and values as they are posted. Names count in capital letters; of a name that comes twice the last
    /// value counts.
    pub fn parse<K: AsRef<str>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BadRequest> {
        let mut all: SettingsMap =
            pairs.into_iter().map(|(key, value)| (key.as_ref().to_uppercase(), value.into())).collect();
        let missing: Vec<&'static str> =
            REQUIRED.into_iter().filter(|key| all.get(*key).is_none_or(String::is_empty)).collect();
        if !missing.is_empty() {
            return Err(BadRequest::Missing(missing));
        }
        let mut request = Self { posted: all.clone(), ..Self::default() };
        request.take_flags(&mut all)?;
        for (key, value) in all {
            if key.starts_with("__") {
                request.product_only.insert(key, value);
            } else if NOT_POSTED.contains(&key.as_str()) {
                request.ignored.insert(key, value);
            } else {
                request.settings.insert(key, value);
            }
        }
        if let Some(distri) = request.settings.get_mut("DISTRI") {
            *distri = distri.to_lowercase();
        }
        Ok(request)
    }

    fn take_flags(&mut self, all: &mut SettingsMap) -> Result<(), BadRequest> {
        let list = |text: Option<String>| -> Vec<String> {
            let text = text.unwrap_or_default();
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        self.tests = list(all.remove("TEST"));
        self.machines = list(all.remove("MACHINE"));
        let mut flag = |key: &str| is_true(all.remove(key).as_deref());
        let (obsolete, deprioritize) = (flag("_OBSOLETE"), flag("_DEPRIORITIZEBUILD"));
        let forced = [flag("_FORCE_OBSOLETE"), flag("_FORCE_DEPRIORITIZEBUILD")].contains(&true);
        flag("_NOOBSOLETEBUILD");
        self.only_same_build = flag("_ONLY_OBSOLETE_SAME_BUILD");
        self.skip_chained = flag("_SKIP_CHAINED_DEPS");
        self.include_children = flag("_INCLUDE_CHILDREN");
        self.fail_if_no_jobs = flag("_FAIL_IF_NO_JOBS");
        let limit = number(all, "_DEPRIORITIZE_LIMIT")?.unwrap_or(DEPRIORITIZE_LIMIT);
        self.priority = number(all, "_PRIORITY")?;
        let (id, name) = (number::<i64>(all, "_GROUP_ID")?, all.remove("_GROUP"));
        let name = name.filter(|name| !name.is_empty()).map(GroupFilter::Name);
        self.group = id.map(GroupFilter::Id).or(name);
        // The path stays among the settings, as a record of where the job comes from; the text does not.
        let file = all.get("SCENARIO_DEFINITIONS_YAML_FILE").filter(|path| !path.is_empty()).cloned();
        let text = all.remove("SCENARIO_DEFINITIONS_YAML").filter(|text| !text.is_empty());
        self.definitions = text.map(Definitions::Text).or(file.map(Definitions::File));
        self.old_builds = match (deprioritize, obsolete) {
            (true, _) => OldBuilds::Deprioritize { limit },
            (false, true) => OldBuilds::Obsolete,
            (false, false) => OldBuilds::Stay,
        };
        let whole = match self.old_builds {
            OldBuilds::Stay => return Ok(()),
            OldBuilds::Obsolete => ("_OBSOLETE", "_FORCE_OBSOLETE"),
            OldBuilds::Deprioritize { .. } => ("_DEPRIORITIZEBUILD", "_FORCE_DEPRIORITIZEBUILD"),
        };
        if !self.tests.is_empty() && !forced {
            return Err(BadRequest::WholeBuild { flag: whole.0, force: whole.1 });
        }
        Ok(())
    }

    /// What was probably meant otherwise: a flag with a typing error is a setting, and any word switches a flag on.
    pub(super) fn doubtful_flags(&self) -> Vec<String> {
        /// Letters that may be wrong.
        const WRONG: usize = 2;
        /// Bytes. With so few wrong letters no flag becomes longer.
        const LONGEST: usize = 28;
        /// So many names are compared with all flags, which takes long.
        const COMPARED: usize = 100;
        let known = || SWITCHES.into_iter().chain(VALUED);
        let misspelt =
            |key: &&String| key.starts_with('_') && key.len() <= LONGEST && known().all(|flag| flag != *key);
        let meant = |key: &String| {
            let alike = known().map(|flag| (strsim::osa_distance(flag, key), flag));
            let (_, flag) = alike.min().filter(|(wrong, _)| *wrong <= WRONG)?;
            Some(format!("{key} is no flag and becomes a setting of the jobs (did you mean {flag}?)"))
        };
        let compared = self.settings.keys().filter(misspelt).take(COMPARED);
        let mut notes: Vec<String> = compared.filter_map(meant).collect();
        for key in SWITCHES {
            if let Some(value) =
                self.posted.get(key).filter(|value| !matches!(value.as_str(), "" | "0" | "1"))
            {
                notes.push(format!("{key}={value} counts as {key}=1; only 0 or nothing switches it off"));
            }
        }
        notes
    }

    /// One of the settings.
    pub fn get(&self, key: &str) -> &str {
        self.settings.get(key).map_or("", String::as_str)
    }
}

/// As Perl sees it: everything but nothing and `0`.
fn is_true(value: Option<&str>) -> bool {
    !matches!(value, None | Some("" | "0"))
}

fn number<T: std::str::FromStr>(all: &mut SettingsMap, key: &'static str) -> Result<Option<T>, BadRequest> {
    let Some(value) = all.remove(key).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| BadRequest::NoNumber { key, value })
}
