//! `assay.toml`: where the gate's sources are, and where its configuration is. Secrets stay in files of their own.

use crate::downloads::settings::DownloadSettings;
use crate::events::settings::{self as event_settings, EventSettings};
use crate::people::oidc::{self, ProviderSettings};
use crate::reporting::settings as report_settings;
use assay_engine::gate::ids::SourceName;
use assay_engine::ids::GroupId;
use assay_engine::sched::limits::{Limit, Limits};
use assay_formats::diagnostic::{Diagnostic, Place, Sink};
use assay_store::SettingsMap;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What `assay.toml` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    /// Sources by name.
    pub(crate) connections: BTreeMap<SourceName, Connection>,
    pub(crate) gate: GateSettings,
    /// How reports by mail are sent.
    pub(crate) mail: Option<MailSettings>,
    /// Whom people can sign in with, by name.
    pub(crate) sign_in: BTreeMap<String, ProviderSettings>,
    /// How many jobs may run at once.
    pub(crate) limits: Limits,
    /// From where files for jobs may be fetched.
    pub(crate) downloads: DownloadSettings,
    /// Tasks, and what their results may be called.
    pub(crate) tasks: crate::tasks::TaskSettings,
    /// What is configured about results, waivers and decisions.
    pub(crate) results: crate::results::ResultsSettings,
    /// Events outside, and the rules for them.
    pub(crate) events: EventSettings,
    /// Changes by a token have to count once.
    pub(crate) once: bool,
    /// Sites that make a job important by leading to its page.
    pub(crate) referers: Vec<String>,
    /// Settings of all jobs of products and of rules; everything else counts more.
    pub(crate) jobs: SettingsMap,
    /// Who is told what was decided.
    pub(crate) reports: crate::reporting::settings::ReportSettings,
}

/// The section `[mail]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MailSettings {
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) tls: MailTls,
    /// The sender of reports that name none.
    pub(crate) from: String,
    /// A name, and the file with its password.
    pub(crate) login: Option<(String, Utf8PathBuf)>,
    /// Certificates to trust besides the system's.
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

/// How a conversation with the mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailTls {
    None,
    StartTls,
    /// From the first byte.
    Always,
}

/// The section `[gate]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GateSettings {
    /// What is gated, and how. None and nothing is.
    pub(crate) config: Option<ConfigSource>,
    /// Where people and workers reach this server; else what it listens on.
    pub(crate) url: Option<String>,
    /// Reporters log instead of sending, and nothing is landed.
    pub(crate) staging: bool,
    /// For so many days events that were dealt with are kept, for history and what-if.
    pub(crate) keep_events: Days,
}

/// A number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days(NonZeroU16);

impl Days {
    pub(crate) fn get(self) -> u16 {
        self.0.get()
    }
}

impl Default for Days {
    fn default() -> Self {
        Self(const { NonZeroU16::new(14).expect("it is not zero") })
    }
}

/// Where the configuration is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConfigSource {
    /// A directory of Assay's YAML.
    Assay(Utf8PathBuf),
    /// Zuul's layout.
    Zuul {
        layout: Utf8PathBuf,
        /// A directory of Assay's YAML that says what the layout's jobs do.
        jobs: Option<Utf8PathBuf>,
        noop_joins: bool,
        /// What parameter functions do, in addition to those that are known.
        functions: Option<Utf8PathBuf>,
    },
}

/// A section `[connection.NAME]` of a Gerrit.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Connection {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) key: Utf8PathBuf,
    /// Host keys that are right; without it the first one seen is.
    pub(crate) known_hosts: Option<Utf8PathBuf>,
    /// REST, if it is to be used.
    pub(crate) url: Option<String>,
    pub(crate) password_file: Option<Utf8PathBuf>,
    pub(crate) token_file: Option<Utf8PathBuf>,
    pub(crate) ca_file: Option<Utf8PathBuf>,
    /// Where repositories are: `{project}` stands for the project's name.
    pub(crate) git: Option<String>,
    /// Other names of it in addresses.
    pub(crate) hosts: Vec<String>,
}

const SECTIONS: &[&str] = &[
    "connection",
    "downloads",
    "events",
    "gate",
    "limits",
    "mail",
    "mode",
    "pages",
    "reporter",
    "reports",
    "results",
    "settings",
    "sign-in",
    "source",
    "tasks",
    "tokens",
];
/// What a name stands for in a section of [limits].
type Named = fn(&str) -> Option<Limit>;
const LIMITS: [(&str, Named); 3] = [
    ("classes", |name| Some(Limit::Class(name.to_owned()))),
    ("groups", |name| name.parse().ok().map(|id| Limit::Group(GroupId(id)))),
    ("semaphores", |name| Some(Limit::Semaphore(name.to_owned()))),
];
const MAIL: &[&str] = &["server", "port", "tls", "from", "user", "password-file", "ca-file"];
const GATE: &[&str] = &["config", "layout", "noop-joins", "functions", "url", "mode", "keep-events"];
const CONNECTION: &[&str] = &[
    "driver",
    "host",
    "port",
    "user",
    "key",
    "known-hosts",
    "url",
    "password-file",
    "token-file",
    "ca-file",
    "git",
    "hosts",
];

/// Reads the file; all that is wrong with it at once. Paths in it are relative to the file.
pub(crate) fn read(path: &Utf8Path) -> Result<Settings, Vec<Diagnostic>> {
    read_where(path, Files::AreHere)
}

/// The same, where what the file names need not be: on the machine of somebody who only wants to know what it says.
pub(crate) fn read_elsewhere(path: &Utf8Path) -> Result<Settings, Vec<Diagnostic>> {
    read_where(path, Files::AreElsewhere)
}

fn read_where(path: &Utf8Path, files: Files) -> Result<Settings, Vec<Diagnostic>> {
    match fs_err::read_to_string(path) {
        Ok(text) => parse(&text, path, files),
        Err(error) => Err(unreadable(path, &error.to_string())),
    }
}

/// Whether the files that a configuration names have to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    AreHere,
    AreElsewhere,
}

/// A diagnostic about a file as a whole.
pub(crate) fn unreadable(path: &Utf8Path, why: &str) -> Vec<Diagnostic> {
    let mut sink = Sink::default();
    let file = sink.add_file(path.as_str(), "");
    sink.error("unreadable", Place { file, line: 0, column: 0 }, why);
    sink.finish()
}

fn parse(text: &str, path: &Utf8Path, files: Files) -> Result<Settings, Vec<Diagnostic>> {
    let mut sink = Sink::default();
    let file = sink.add_file(path.as_str(), text);
    let base = path.parent().unwrap_or(Utf8Path::new(""));
    let mut reader = Reader { sink, file, text, base, files, staging: false };
    let settings = match DeTable::parse(text) {
        Ok(root) => reader.root(root.get_ref()),
        Err(error) => {
            let place = reader.place(error.span().map_or(0, |span| span.start));
            reader.sink.error("toml", place, error.message());
            Settings::default()
        }
    };
    if reader.sink.has_errors() { Err(reader.sink.finish()) } else { Ok(settings) }
}

/// Reads sections, and gathers what is wrong with them.
pub(crate) struct Reader<'t> {
    sink: Sink<'t>,
    file: u16,
    text: &'t str,
    base: &'t Utf8Path,
    files: Files,
    /// The whole server only writes down what it would send.
    staging: bool,
}

type Value<'t> = Spanned<DeValue<'t>>;

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { file: self.file, line: line as u32, column: column as u32 }
    }

    pub(crate) fn error(&mut self, code: &'static str, at: usize, message: impl Into<String>) {
        let place = self.place(at);
        self.sink.error(code, place, message);
    }

    /// Refuses keys that are none of `known`.
    pub(crate) fn keys(&mut self, what: &str, table: &DeTable<'_>, known: &[&'static str]) {
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                let place = self.place(key.span().start);
                let message = format!("there is no {what} `{}`", key.get_ref());
                self.sink.unknown("unknown-key", place, message, key.get_ref(), known.iter().copied());
            }
        }
    }

    fn root(&mut self, root: &DeTable<'_>) -> Settings {
        let mut settings = Settings::default();
        self.keys("section", root, SECTIONS);
        // What all sections are unless they say otherwise, also those that are not there.
        self.staging = self.staging(root);
        settings.gate.staging = self.staging;
        settings.events.staging = self.staging;
        settings.reports.staging = self.staging;
        if let Some(connections) = self.table(root, "connection") {
            for (name, value) in connections {
                let Some(table) = value.get_ref().as_table() else {
                    self.error("type", value.span().start, "a connection is a section: [connection.NAME]");
                    continue;
                };
                let connection = self.connection(name.span().start, table);
                settings.connections.insert(name.get_ref().as_ref().into(), connection);
            }
        }
        if let Some(gate) = self.table(root, "gate") {
            settings.gate = self.gate(gate);
        }
        if let (Some(mail), Some(value)) = (self.table(root, "mail"), root.get("mail")) {
            settings.mail = Some(self.mail(value.span().start, mail));
        }
        if let Some(limits) = self.table(root, "limits") {
            settings.limits = self.limits(limits);
        }
        if let Some(downloads) = self.table(root, "downloads") {
            settings.downloads = crate::downloads::settings::read(self, downloads);
        }
        if let Some(tokens) = self.table(root, "tokens") {
            self.keys("key of [tokens]", tokens, &["once"]);
            settings.once = self.flag(tokens, "once");
        }
        if let Some(pages) = self.table(root, "pages") {
            self.keys("key of [pages]", pages, &["recognized-referers"]);
            settings.referers = self.hosts(pages, "recognized-referers");
        }
        if let Some(table) = self.table(root, "settings") {
            settings.jobs = self.jobs(table);
        }
        if let Some(sign_in) = self.table(root, "sign-in") {
            settings.sign_in = oidc::settings::read(self, sign_in);
        }
        if let Some(tasks) = self.table(root, "tasks") {
            settings.tasks = crate::tasks::read(self, tasks);
        }
        if let Some(results) = self.table(root, "results") {
            settings.results = crate::results::settings::read(self, results);
        }
        if let Some(events) = self.table(root, "events") {
            settings.events = event_settings::events(self, events);
        }
        if let Some(sources) = self.table(root, "source") {
            settings.events.sources = event_settings::sources(self, sources);
        }
        if let Some(reports) = self.table(root, "reports") {
            settings.reports = report_settings::reports(self, reports);
        }
        if let (Some(reporters), Some(value)) = (self.table(root, "reporter"), root.get("reporter")) {
            settings.reports.reporters = report_settings::reporters(self, reporters);
            let mails = settings.reports.reporters.values().any(|one| one.driver.word() == "mail");
            if mails && settings.mail.is_none() {
                self.error(
                    "mail",
                    value.span().start,
                    "a reporter writes mails, and there is no mail server; add [mail]",
                );
            }
        }
        settings
    }

    pub(crate) fn table<'a, 't>(&mut self, table: &'a DeTable<'t>, key: &str) -> Option<&'a DeTable<'t>> {
        let value = table.get(key)?;
        let inner = value.get_ref().as_table();
        if inner.is_none() {
            self.error("type", value.span().start, format!("{key} is a section"));
        }
        inner
    }

    pub(crate) fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        let text = value.get_ref().as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if text.is_none() {
            self.error("type", value.span().start, format!("{key} is a text in quotes that is not empty"));
        }
        text
    }

    pub(crate) fn flag(&mut self, table: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = table.get(key) else { return false };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.error("type", value.span().start, format!("{key} is true or false"));
        }
        flag.unwrap_or(false)
    }

    pub(crate) fn path(&mut self, table: &DeTable<'_>, key: &str) -> Option<Utf8PathBuf> {
        let text = self.text(table, key)?;
        Some(self.base.join(text))
    }

    /// The same of something without which the server does not start.
    pub(crate) fn file(&mut self, table: &DeTable<'_>, key: &str) -> Option<Utf8PathBuf> {
        let path = self.path(table, key)?;
        if self.files == Files::AreHere
            && let Err(error) = fs_err::metadata(&path)
        {
            let at = table.get(key).map_or(0, |value| value.span().start);
            self.error("unreadable", at, format!("{key}: {error}"));
        }
        Some(path)
    }

    /// Names of hosts, in small letters.
    pub(crate) fn hosts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<String> {
        let hosts: Vec<String> =
            self.texts(table, key).into_iter().map(|host| host.to_ascii_lowercase()).collect();
        let at = table.get(key).map_or(0, |value| value.span().start);
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._:[]".contains(c));
        if let Some(wrong) = hosts.iter().find(|host| host.is_empty() || host.contains(odd)) {
            let message = format!("{wrong:?} is no host; write its name alone, for example \"example.org\"");
            self.error("host", at, message);
        }
        hosts
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number<T>(&mut self, table: &DeTable<'_>, key: &str, least: T, most: T) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let value = table.get(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| (&least..=&most).contains(&number));
        if number.is_none() {
            let message = format!("{key} is a number from {least} to {most}");
            self.error("type", value.span().start, message);
        }
        number
    }

    /// `NAME = "value"`; numbers may stand without quotes.
    fn jobs(&mut self, table: &DeTable<'_>) -> SettingsMap {
        let mut jobs = SettingsMap::new();
        for (name, value) in table {
            let (key, at) = (name.get_ref(), name.span().start);
            let letters = key.strip_prefix('+').unwrap_or(key);
            let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if letters.is_empty()
                || !letters.chars().all(fits)
                || letters.starts_with(|c: char| c.is_ascii_digit())
            {
                let message =
                    format!("{key:?} is no name of a setting; expected capital letters, digits and `_`");
                self.error("setting-name", at, message);
                continue;
            }
            let text = match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
                _ => None,
            };
            match text {
                Some(text) => drop(jobs.insert(key.to_string(), text)),
                None => self.error(
                    "type",
                    value.span().start,
                    format!("{key} is a text in quotes or a whole number"),
                ),
            }
        }
        jobs
    }

    /// `running = N`, `disk-gigabytes = N`, and sections by class, number of a group, and semaphore.
    fn limits(&mut self, table: &DeTable<'_>) -> Limits {
        self.keys(
            "key of [limits]",
            table,
            &["running", "classes", "groups", "semaphores", "disk-gigabytes"],
        );
        let mut limits = BTreeMap::new();
        limits.extend(self.positive(table, "running").map(|most| (Limit::Running, most)));
        for (section, limit) in LIMITS {
            let Some(inner) = self.table(table, section) else { continue };
            for (name, _) in inner {
                let most = self.positive(inner, name.get_ref());
                match limit(name.get_ref()) {
                    Some(limit) => limits.extend(most.map(|most| (limit, most))),
                    None => self.error(
                        "group",
                        name.span().start,
                        format!("{:?} is no group; write its number, as its address has it", name.get_ref()),
                    ),
                }
            }
        }
        let gigabytes: u64 = self.number(table, "disk-gigabytes", 0, 1_000_000).unwrap_or(0);
        Limits { jobs: limits, disk_floor: gigabytes << 30 }
    }

    /// A number of which there has to be one at least.
    pub(crate) fn positive(&mut self, table: &DeTable<'_>, key: &str) -> Option<u32> {
        self.number(table, key, 1, 1_000_000)
    }

    fn days(&mut self, value: &Value<'_>) -> Days {
        let number = value.get_ref().as_integer();
        let days = number.and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        if let Some(days) = days.and_then(NonZeroU16::new) {
            return Days(days);
        }
        self.error("type", value.span().start, "keep-events is a number of days from 1 to 65535");
        Days::default()
    }

    fn connection(&mut self, at: usize, table: &DeTable<'_>) -> Connection {
        self.keys("key of a connection", table, CONNECTION);
        match self.text(table, "driver").as_deref() {
            Some("gerrit") => {}
            Some(other) => self.error(
                "driver",
                at,
                format!("there is no driver {other:?}; the one there is is \"gerrit\""),
            ),
            None => self.error("missing", at, "the connection has no driver; add driver = \"gerrit\""),
        }
        let connection = Connection {
            host: self.text(table, "host").unwrap_or_default(),
            port: self.number(table, "port", 1, u16::MAX).unwrap_or(29418),
            user: self.text(table, "user").unwrap_or_default(),
            key: self.path(table, "key").unwrap_or_default(),
            known_hosts: self.path(table, "known-hosts"),
            url: self.text(table, "url"),
            password_file: self.path(table, "password-file"),
            token_file: self.path(table, "token-file"),
            ca_file: self.path(table, "ca-file"),
            git: self.text(table, "git"),
            hosts: self.texts(table, "hosts"),
        };
        for key in ["host", "user", "key"] {
            if !table.contains_key(key) {
                self.error("missing", at, format!("the connection has no {key}"));
            }
        }
        if connection.git.as_ref().is_some_and(|git| !git.contains("{project}")) {
            self.error(
                "git",
                at,
                "git is the address of a repository, with {project} for the project's name",
            );
        }
        connection
    }

    fn mail(&mut self, at: usize, table: &DeTable<'_>) -> MailSettings {
        self.keys("key of [mail]", table, MAIL);
        for key in ["server", "from"].into_iter().filter(|key| !table.contains_key(*key)) {
            self.error("missing", at, format!("[mail] has no {key}"));
        }
        let (tls, usual) = match self.text(table, "tls").as_deref() {
            None | Some("starttls") => (MailTls::StartTls, 587),
            Some("always") => (MailTls::Always, 465),
            Some("none") => (MailTls::None, 25),
            Some(other) => {
                let message = format!("tls is \"starttls\", \"always\" or \"none\", not {other:?}");
                self.error("tls", at, message);
                (MailTls::StartTls, 587)
            }
        };
        let login = match (self.text(table, "user"), self.path(table, "password-file")) {
            (Some(user), Some(file)) => Some((user, file)),
            (None, None) => None,
            _ => {
                self.error("login", at, "user and password-file belong together");
                None
            }
        };
        if login.is_some() && tls == MailTls::None {
            self.error("tls", at, "a password is not sent without TLS");
        }
        MailSettings {
            server: self.text(table, "server").unwrap_or_default(),
            port: self.number(table, "port", 1, u16::MAX).unwrap_or(usual),
            tls,
            from: self.text(table, "from").unwrap_or_default(),
            login,
            ca_file: self.path(table, "ca-file"),
        }
    }

    pub(crate) fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<String> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let texts = value.get_ref().as_array().map(|array| {
            array.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        if let Some(Some(texts)) = texts {
            return texts;
        }
        self.error("type", value.span().start, format!("{key} is a list of texts"));
        Vec::new()
    }

    /// `mode = "staging"`
    pub(crate) fn staging(&mut self, table: &DeTable<'_>) -> bool {
        match self.text(table, "mode").as_deref() {
            Some("staging") => true,
            None => self.staging,
            Some("live") => false,
            Some(other) => {
                let at = table.get("mode").map_or(0, |value| value.span().start);
                self.error("mode", at, format!("{other:?} is no mode; use \"live\" or \"staging\""));
                true
            }
        }
    }

    fn gate(&mut self, table: &DeTable<'_>) -> GateSettings {
        self.keys("key of [gate]", table, GATE);
        let directory = self.path(table, "config");
        let layout = self.path(table, "layout");
        let functions = self.path(table, "functions");
        let noop_joins = self.flag(table, "noop-joins");
        let of_layout = ["noop-joins", "functions"].into_iter().find(|key| table.contains_key(*key));
        if let (None, Some(key)) = (&layout, of_layout)
            && let Some(value) = table.get(key)
        {
            self.error(
                "without-layout",
                value.span().start,
                format!("{key} is about a layout, and there is none"),
            );
        }
        let staging = self.staging(table);
        let config = match (directory, layout) {
            (jobs, Some(layout)) => Some(ConfigSource::Zuul { layout, jobs, noop_joins, functions }),
            (directory, None) => directory.map(ConfigSource::Assay),
        };
        let url = self.text(table, "url").map(|url| url.trim_end_matches('/').to_owned());
        if url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            let at = table.get("url").map_or(0, |value| value.span().start);
            self.error("url", at, "url begins with http:// or https://");
        }
        let keep_events = table.get("keep-events").map_or_else(Days::default, |value| self.days(value));
        GateSettings { config, url, staging, keep_events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_store::UserRole;

    const GOOD: &str = r#"
[connection.gerrit]
driver = "gerrit"
host = "review.example.org"
user = "assay"
key = "keys/gerrit"
url = "https://review.example.org"
password-file = "/run/secrets/gerrit"
git = "https://review.example.org/a/{project}"
hosts = ["old.example.org"]

[gate]
layout = "layout.yaml"
config = "jobs"
noop-joins = true
url = "http://ci.example.org:8484/"
mode = "staging"
keep-events = 30

[mail]
server = "mail.example.org"
from = "ci@example.org"
user = "ci"
password-file = "keys/mail"

[sign-in.fedora]
issuer = "https://id.example.org/"
client-id = "assay"
client-secret-file = "keys/fedora"
name = "Fedora"
scopes = ["openid", "profile", "groups"]
[sign-in.fedora.roles]
qa-admins = "admin"
qa = "operator"

[sign-in.here]
issuer = "http://localhost:8080/realms/a"
client-id = "assay"
client-secret-file = "/run/secrets/here"
name-claim = "email"
groups-claim = "roles"
ca-file = "ca.pem"
"#;

    fn parse(text: &str, path: &Utf8Path) -> Result<Settings, Vec<Diagnostic>> {
        super::parse(text, path, Files::AreElsewhere)
    }

    #[test]
    fn a_whole_file() {
        let settings = parse(GOOD, Utf8Path::new("/etc/assay/assay.toml")).unwrap();
        let gerrit = &settings.connections[&SourceName::from("gerrit")];
        assert_eq!((gerrit.port, gerrit.key.as_str()), (29418, "/etc/assay/keys/gerrit"));
        assert_eq!(gerrit.password_file.as_deref(), Some(Utf8Path::new("/run/secrets/gerrit")));
        assert_eq!(settings.gate.url.as_deref(), Some("http://ci.example.org:8484"));
        assert!(settings.gate.staging);
        let mail = settings.mail.unwrap();
        assert_eq!((mail.port, mail.tls), (587, MailTls::StartTls));
        assert_eq!(mail.login, Some(("ci".to_owned(), "/etc/assay/keys/mail".into())));
        let fedora = &settings.sign_in["fedora"];
        assert_eq!((fedora.title.as_str(), fedora.issuer.as_str()), ("Fedora", "https://id.example.org/"));
        assert_eq!(fedora.client_secret_file, "/etc/assay/keys/fedora");
        assert_eq!(fedora.scopes, ["profile", "groups"]);
        assert_eq!(
            (fedora.name_claim.as_str(), fedora.groups_claim.as_str()),
            ("preferred_username", "groups")
        );
        let role = |groups: &[&str]| fedora.role(&groups.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!((role(&["x"]), role(&["x", "qa"])), (UserRole::Viewer, UserRole::Operator));
        assert_eq!(role(&["qa", "qa-admins"]), UserRole::Admin);
        let here = &settings.sign_in["here"];
        assert_eq!((here.title.as_str(), here.name_claim.as_str()), ("here", "email"));
        assert_eq!(
            (here.groups_claim.as_str(), here.ca_file.as_deref()),
            ("roles", Some("/etc/assay/ca.pem".into()))
        );
        assert_eq!((settings.gate.keep_events.get(), Days::default().get()), (30, 14));
        let layout = "/etc/assay/layout.yaml".into();
        let jobs = Some("/etc/assay/jobs".into());
        let zuul = ConfigSource::Zuul { layout, jobs, noop_joins: true, functions: None };
        assert_eq!(settings.gate.config, Some(zuul));
        assert_eq!(parse("", Utf8Path::new("assay.toml")), Ok(Settings::default()));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text = "[connection.gerrit]\ndriver = \"gerit\"\nhost = \"a\"\nuser = 5\nport = 70000\nkei = \"k\"\n\
                    git = \"ssh://a/b\"\n[gate]\nconfig = \"a\"\nlayout = \"b\"\nurl = \"ci\"\nmode = \"stage\"\nkeep-events = 0\n[mail]\ntls = \"none\"\nuser = \"u\"\npassword-file = \"p\"\n[gates]\n\
                    [sign-in.Fe_dora]\nissuer = \"http://id.example.org\"\nclient-id = 7\nclaim = \"x\"\nroles = { qa = \"boss\" }\n";
        let found = parse(text, Utf8Path::new("assay.toml")).unwrap_err();
        let said: Vec<_> = found.iter().map(ToString::to_string).collect();
        let all = said.join("\n");
        for expected in [
            "assay.toml:6:1: error: ",
            "did you mean `key`?",
            "there is no driver \"gerit\"",
            "assay.toml:4:8: error: user is a text",
            "assay.toml:5:8: error: port is a number from 1 to 65535",
            "the connection has no key",
            "with {project} for the project's name",
            "url begins with http://",
            "\"stage\" is no mode",
            "keep-events is a number of days",
            "[mail] has no server",
            "[mail] has no from",
            "a password is not sent without TLS",
            "did you mean `gate`?",
            "\"Fe_dora\" is no provider's name",
            "issuer begins with https://",
            "client-id is a text",
            "there is no key of a provider `claim`",
            "the provider has no client-secret-file",
            "the role of a group is \"viewer\"",
        ] {
            assert!(all.contains(expected), "{expected} is not in\n{all}");
        }
        let torn = parse("[gate", Utf8Path::new("assay.toml")).unwrap_err();
        assert_eq!((torn.len(), torn[0].line), (1, 1), "{torn:?}");
        let absent = read(Utf8Path::new("/nonexistent/assay.toml")).unwrap_err();
        assert!(absent[0].to_string().contains("/nonexistent/assay.toml"), "{absent:?}");
    }

    #[test]
    fn settings_of_all_jobs() {
        let text = "[settings]\nCASEDIR = \"https://example.org/tests.git\"\nTIMEOUT_SCALE = 3\n\"+QEMURAM\" = \"2048\"\n";
        let settings = parse(text, Utf8Path::new("assay.toml")).expect("good");
        let jobs: Vec<_> = settings.jobs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(jobs, ["+QEMURAM=2048", "CASEDIR=https://example.org/tests.git", "TIMEOUT_SCALE=3"]);
        let wrong = "[settings]\ncasedir = \"x\"\nA = true\nB = [1]\n1A = \"x\"\nC = 0x10\n\"+\" = \"x\"\n";
        let found = parse(wrong, Utf8Path::new("assay.toml")).expect_err("wrong");
        let lines: Vec<u32> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7], "{found:?}");
    }

    #[test]
    fn one_word_makes_all_of_it_staging() {
        let staging = |text: &str| {
            let settings = parse(text, Utf8Path::new("assay.toml")).expect("good");
            [settings.gate.staging, settings.events.staging, settings.reports.staging]
        };
        assert_eq!(staging(""), [false; 3]);
        assert_eq!(staging("mode = \"staging\"\n"), [true; 3]);
        assert_eq!(
            staging("mode = \"staging\"\n[reports]\nmode = \"live\"\n[events]\n"),
            [true, true, false]
        );
        assert_eq!(staging("[reports]\nmode = \"staging\"\n"), [false, false, true]);
    }

    #[test]
    fn reports_are_wanted_as_they_can_be() {
        let mail = "[mail]\nserver = \"mail.example.org\"\nfrom = \"a@example.org\"\n";
        let reporter = |more: &str| {
            format!("{mail}[reporter.team]\ndriver = \"mail\"\nto = [\"qa@example.org\"]\n{more}")
        };
        let text = reporter(
            "only = \"errors\"\nmatch = { BUILD = \"Fedora-*\", FLAVOR = [\"Server-*\", \"Cloud-*\"] }\n\
             [[reports.expect]]\nbuilds = [\"Fedora-Rawhide-*\"]\nmedia = [\"Server-dvd-iso x86_64\"]\n\
             [[reports.decide]]\ncontext = \"rawhide\"\nproduct-version = \"fedora-{VERSION}\"\n",
        );
        let settings = parse(&text, Utf8Path::new("assay.toml")).expect("good").reports;
        assert!(settings.reporters["team"].errors);
        assert_eq!((settings.expect[0].media.len(), settings.decide[0].context.as_str()), (1, "rawhide"));
        for (more, wanted) in [
            ("match = { user = \"ann\" }\n", "no event of build.done has \"user\""),
            ("only = \"passes\"\n", "expected \"errors\""),
            ("[[reports.expect]]\nbuilds = [\"a\"]\n", "[[reports.expect]] has no media"),
            ("[[reports.decide]]\ncontxt = \"a\"\n", "did you mean `context`?"),
        ] {
            let found = parse(&reporter(more), Utf8Path::new("assay.toml")).expect_err("wrong");
            assert!(found.iter().any(|one| one.to_string().contains(wanted)), "{wanted}: {found:?}");
        }
    }

    #[test]
    fn tasks_and_their_namespaces() {
        let text = "[tasks]\nkoji-topurl = \"https://koji.example.org/\"\n[tasks.repository.rpmlint]\nurl = \"https://git.example.org/checks\"\n\
                    [[tasks.namespace]]\nprefix = \"dist\"\nrepositories = [\"https://git.example.org/*\"]\n";
        let settings = parse(text, Utf8Path::new("assay.toml")).expect("good");
        assert_ne!(settings.tasks, crate::tasks::TaskSettings::default());
        let machine = "[tasks.repository.a]\nurl = \"https://h/a\"\nmachine = \"fedora\"\n[tasks.machine.fedora]\nHDD_1 = \"f44.qcow2\"\n";
        parse(machine, Utf8Path::new("assay.toml")).expect("good");
        for (from, to, wanted) in [
            ("machine.fedora]", "machine.fedra]", "there is no section [tasks.machine.fedora]"),
            ("HDD_1", "QEMURAM", "nothing to start from"),
            ("HDD_1", "QEMU", "there is no variable"),
        ] {
            let found = parse(&machine.replace(from, to), Utf8Path::new("assay.toml")).expect_err("wrong");
            assert!(found.iter().any(|one| one.to_string().contains(wanted)), "{wanted}: {found:?}");
        }
        let wrong = "[tasks]\nkoji-hub = \"koji\"\n[tasks.repository.a]\nurll = \"https://h/a\"\n[[tasks.namespace]]\nprefix = \"x\"\n";
        let found = parse(wrong, Utf8Path::new("assay.toml")).expect_err("wrong");
        let lines: Vec<u32> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [2, 3, 4, 5], "{found:?}");
    }

    /// What the server could not start with is said with all the rest.
    #[test]
    fn files_and_addresses_of_events_have_to_be_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Utf8Path::from_path(dir.path()).expect("UTF-8").join("assay.toml");
        let text = "[events]\nrules = \"rules\"\n[source.hook]\ndriver = \"webhook\"\nsecret-file = \"secret\"\n\
                    [source.koji]\ndriver = \"koji\"\nurl = \"notaurl\"\n\
                    [source.composes]\ndriver = \"composes\"\nurl = \"file:///srv\"\n\
                    [source.git]\ndriver = \"git\"\nurl = \"git@host:a/b\"\n";
        let found = |files| -> Vec<String> {
            let found = super::parse(text, &file, files).expect_err("wrong");
            found.iter().map(ToString::to_string).collect()
        };
        let all = found(Files::AreHere);
        assert_eq!(all.len(), 3, "{all:#?}");
        for (one, wanted) in
            all.iter().zip(["rules: ", "secret-file: ", "url is \"notaurl\"; for the driver koji"])
        {
            assert!(one.contains(wanted), "{wanted}: {all:#?}");
        }
        assert_eq!(found(Files::AreElsewhere).len(), 1, "who only reads it has no secrets");
    }

    #[test]
    fn limits_and_downloads() {
        let text = "[limits]\nrunning = 9\ndisk-gigabytes = 6\n[limits.classes]\ntap = 2\n[limits.groups]\n3 = 4\n[limits.semaphores]\na = 5\n\
                    [downloads]\nhosts = [\"Example.org\"]\nmax-gigabytes = 2\n\
                    [pages]\nrecognized-referers = [\"Bugs.example.org\"]\n";
        let settings = parse(text, Utf8Path::new("assay.toml")).expect("good");
        let wanted = [
            (Limit::Running, 9),
            (Limit::Class("tap".into()), 2),
            (Limit::Group(GroupId(3)), 4),
            (Limit::Semaphore("a".into()), 5),
        ];
        let wanted = Limits { jobs: wanted.into_iter().collect(), disk_floor: 6 << 30 };
        assert_eq!(settings.limits, wanted);
        assert_eq!((settings.downloads.hosts[0].as_str(), settings.downloads.most), ("example.org", 2 << 30));
        assert_eq!(settings.referers, ["bugs.example.org"]);
        let wrong = "[limits]\nrunning = 0\nrun = 1\ndisk-gigabytes = -1\n[limits.groups]\nx = 1\n[downloads]\nhosts = [\"http://x/\"]\n";
        let found = parse(wrong, Utf8Path::new("assay.toml")).expect_err("wrong");
        let lines: Vec<u32> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [2, 3, 4, 6, 8], "{found:?}");
    }
}
