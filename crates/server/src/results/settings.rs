//! The section `[results]` of `assay.toml`.

use crate::gate::settings::Reader;
use assay_engine::decision::{Policies, wrong_template};
use assay_formats::policy::{KnownTests, LoadedPolicies};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// Outcomes that ResultsDB always has.
pub(crate) const PRESET: [&str; 4] = ["PASSED", "INFO", "FAILED", "NEEDS_INSPECTION"];
/// Further ones unless the configuration says others.
const ADDITIONAL: [&str; 4] = ["QUEUED", "RUNNING", "CRASHED", "ERROR"];

/// Who may waive which test cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MayWaive {
    pub(crate) name: String,
    /// `*` stands for anything.
    pub(crate) testcases: Vec<String>,
    pub(crate) users: Vec<String>,
}

/// What is configured about results.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResultsSettings {
    /// Outcomes besides [`PRESET`].
    pub(crate) additional: Vec<String>,
    /// Where the policies are: a file or a directory.
    pub(crate) policies: Option<Utf8PathBuf>,
    /// Without an entry, every operator may waive everything.
    pub(crate) may_waive: Vec<MayWaive>,
    /// Who may waive for somebody else.
    pub(crate) proxies: Vec<String>,
    /// Where people reach this server, for links; empty until it is known.
    pub(crate) url: String,
    /// Where people see updates, for links.
    pub(crate) bodhi: String,
    /// For so long a post that repeats another one is taken for it.
    pub(crate) repeats: Duration,
    /// As read.
    pub(crate) decisions: Arc<Policies>,
    /// Where files of rules that packages bring are: templates of addresses by the kind of the subject; `*` for others.
    pub(crate) remote: BTreeMap<String, Vec<String>>,
}

impl Default for ResultsSettings {
    fn default() -> Self {
        Self {
            additional: ADDITIONAL.map(str::to_owned).to_vec(),
            policies: None,
            may_waive: Vec::new(),
            proxies: Vec::new(),
            url: String::new(),
            bodhi: "https://bodhi.fedoraproject.org".to_owned(),
            repeats: REPEATS,
            decisions: Arc::default(),
            remote: BTreeMap::new(),
        }
    }
}

impl ResultsSettings {
    /// Every outcome that a result may have.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &str> {
        PRESET.into_iter().chain(self.additional.iter().map(String::as_str))
    }
}

/// What a file, or all `.yaml` files of a directory, say of policies; with `known`, also which tests nobody knows.
pub(super) fn load(path: &Utf8Path, known: Option<&KnownTests>) -> std::io::Result<LoadedPolicies> {
    let sources = crate::events::yaml_texts(path)?;
    let texts: Vec<(&str, &str)> =
        sources.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(assay_formats::policy::load(&texts, known))
}

/// The policies of a file, or of all `.yaml` files of a directory; or everything that is wrong. Which tests there are is not
/// known where settings are read: [`super::known`] says the rest when they are in force.
fn policies(path: &Utf8Path) -> Result<Policies, Vec<String>> {
    let unreadable = |error: std::io::Error| vec![format!("the policies cannot be read: {error}")];
    let loaded = load(path, None).map_err(unreadable)?;
    let lines = loaded.diagnostics.iter().filter(|found| found.is_error()).map(ToString::to_string).collect();
    loaded.policies.ok_or(lines)
}

/// `[results.remote-rules]`: an address or several for a kind of subjects.
fn remote_rules(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (kind, value) in table {
        let key = kind.get_ref().as_ref();
        let templates = match value.get_ref().as_str() {
            Some(one) => vec![one.to_owned()],
            None => reader.texts(table, key),
        };
        for why in templates.iter().filter_map(|template| wrong_template(template)) {
            reader.error("url", value.span().start, why);
        }
        found.insert(key.to_owned(), templates);
    }
    found
}

/// A client that tries a post three times, with pauses that grow from one second, has given up by then.
const REPEATS: Duration = Duration::from_mins(1);

const KEYS: &[&str] =
    &["outcomes", "policies", "may-waive", "proxies", "bodhi-url", "repeats", "remote-rules"];

/// Reads the section.
pub(crate) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>) -> ResultsSettings {
    reader.keys("key of [results]", table, KEYS);
    let mut settings = ResultsSettings::default();
    if table.contains_key("outcomes") {
        let outcomes = reader.texts(table, "outcomes");
        let word = |text: &String| {
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        };
        if let Some(wrong) = outcomes.iter().find(|text| !word(text)) {
            let at = table.get("outcomes").map_or(0, |value| value.span().start);
            reader.error("value", at, format!("{wrong:?} is no outcome; use capitals and _, at most 32"));
        }
        settings.additional = outcomes.into_iter().filter(|one| !PRESET.contains(&one.as_str())).collect();
    }
    if let Some(url) = reader.text(table, "bodhi-url") {
        url.trim_end_matches('/').clone_into(&mut settings.bodhi);
    }
    if let Some(seconds) = reader.number(table, "repeats", 0, 3_600) {
        settings.repeats = Duration::from_secs(seconds);
    }
    if let Some(entries) = reader.table(table, "remote-rules") {
        settings.remote = remote_rules(reader, entries);
    }
    settings.policies = reader.path(table, "policies");
    if let Some(path) = &settings.policies {
        let at = table.get("policies").map_or(0, |value| value.span().start);
        match policies(path) {
            Ok(decisions) => {
                if let Err(why) = super::remote::can_be_found(&settings.remote, decisions.rules()) {
                    reader.error("remote-rules", at, why);
                }
                settings.decisions = Arc::new(decisions);
            }
            Err(found) => {
                for line in found {
                    reader.error("policies", at, line);
                }
            }
        }
    }
    settings.proxies = reader.texts(table, "proxies");
    if let Some(entries) = reader.table(table, "may-waive") {
        for (name, value) in entries {
            let Some(entry) = value.get_ref().as_table() else {
                reader.error("type", value.span().start, "an entry is a section: [results.may-waive.NAME]");
                continue;
            };
            reader.keys("key of [results.may-waive.NAME]", entry, &["testcases", "users"]);
            settings.may_waive.push(MayWaive {
                name: name.get_ref().to_string(),
                testcases: reader.texts(entry, "testcases"),
                users: reader.texts(entry, "users"),
            });
        }
    }
    settings
}
