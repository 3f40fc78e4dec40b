//! The sections `[reports]` and `[reporter.NAME]` of `assay.toml`.

use crate::events::settings::BROKER;
use crate::gate::settings::Reader;
use assay_connect::events::amqp::Broker;
use assay_connect::report::irc::IrcOptions;
use assay_engine::report::Wants;
use assay_engine::report::bus::{Dialect, Speaker};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use toml::de::DeTable;

/// Who is told what.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReportSettings {
    /// Nothing is sent; what would be is logged.
    pub(crate) staging: bool,
    /// For so many days what was told is kept.
    pub(crate) keep_days: Option<u16>,
    /// Who speaks; its address comes with the start.
    pub(crate) speaker: Speaker,
    /// Reporters by name.
    pub(crate) reporters: BTreeMap<String, ReporterSettings>,
    /// Media that builds have to have.
    pub(crate) expect: Vec<Expect>,
    /// What is decided when a build is reported.
    pub(crate) decide: Vec<Decide>,
}

/// Media that builds like these have to have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expect {
    pub(crate) builds: Vec<String>,
    /// `FLAVOR ARCH`
    pub(crate) media: Vec<String>,
}

/// A decision that a report asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decide {
    pub(crate) context: String,
    /// With `{VERSION}` and `{DISTRI}` of the build.
    pub(crate) product_version: String,
}

/// One who is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReporterSettings {
    pub(crate) wants: Wants,
    /// Of builds only bad news.
    pub(crate) errors: bool,
    pub(crate) driver: Driver,
}

/// A secret is a file's first line; what is not secret is here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Driver {
    Amqp { broker: Box<Broker>, mandatory: bool, prefix: String, says: Vec<Dialect> },
    ResultsDb { web: Web, login: Option<Secret>, everything: bool },
    Webhook { web: Web, secret: Utf8PathBuf },
    Mail { to: Vec<String>, from: Option<String> },
    Irc { options: IrcOptions, password: Option<Utf8PathBuf> },
    Matrix { web: Web, room: String, token: Utf8PathBuf },
    Bodhi { web: Web, token: Option<Utf8PathBuf> },
    Wiki { web: Web, login: Option<Secret>, cases: Utf8PathBuf },
}

impl Driver {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Amqp { .. } => "amqp",
            Self::ResultsDb { .. } => "resultsdb",
            Self::Webhook { .. } => "webhook",
            Self::Mail { .. } => "mail",
            Self::Irc { .. } => "irc",
            Self::Matrix { .. } => "matrix",
            Self::Bodhi { .. } => "bodhi",
            Self::Wiki { .. } => "mediawiki",
        }
    }
}

/// An address, and whom to trust there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Web {
    pub(crate) url: String,
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

/// How we are known somewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Secret {
    Password { user: String, file: Utf8PathBuf },
    Token(Utf8PathBuf),
}

const REPORTS: &[&str] = &["mode", "keep-days", "name", "team", "docs", "email", "irc", "expect", "decide"];
const COMMON: &[&str] = &["driver", "events", "match", "not", "only"];
const DRIVERS: [(&str, &[&str]); 8] = [
    ("amqp", &["mandatory", "topic-prefix", "says"]),
    ("resultsdb", &["url", "user", "password-file", "token-file", "ca-file", "everything"]),
    ("webhook", &["url", "secret-file", "ca-file"]),
    ("mail", &["to", "from"]),
    ("irc", &["server", "port", "tls", "ca-file", "nick", "password-file", "channel"]),
    ("matrix", &["url", "room", "token-file", "ca-file"]),
    ("bodhi", &["url", "token-file", "ca-file"]),
    ("mediawiki", &["url", "user", "password-file", "token-file", "ca-file", "cases"]),
];

/// `[reports]`
pub(crate) fn reports(reader: &mut Reader<'_>, table: &DeTable<'_>) -> ReportSettings {
    reader.keys("key of [reports]", table, REPORTS);
    let mut text = |key: &str| reader.text(table, key).unwrap_or_default();
    let speaker = Speaker {
        url: String::new(),
        name: text("name"),
        team: text("team"),
        docs: text("docs"),
        email: text("email"),
        irc: text("irc"),
    };
    ReportSettings {
        staging: reader.staging(table),
        keep_days: reader.number(table, "keep-days", 1, u16::MAX),
        speaker,
        reporters: BTreeMap::new(),
        expect: entries(reader, table, "expect", &["builds", "media"])
            .map(|entry| Expect {
                builds: reader.texts(entry, "builds"),
                media: reader.texts(entry, "media"),
            })
            .collect(),
        decide: entries(reader, table, "decide", &["context", "product-version"])
            .map(|entry| Decide {
                context: reader.text(entry, "context").unwrap_or_default(),
                product_version: reader.text(entry, "product-version").unwrap_or_default(),
            })
            .collect(),
    }
}

/// The tables of `[[reports.KEY]]`, each of which has all of these keys.
fn entries<'a, 't>(
    reader: &mut Reader<'_>,
    table: &'a DeTable<'t>,
    key: &str,
    keys: &'static [&'static str],
) -> std::vec::IntoIter<&'a DeTable<'t>> {
    let mut found = Vec::new();
    let Some(value) = table.get(key) else { return found.into_iter() };
    let list = value.get_ref().as_array().map(|array| array.iter().collect::<Vec<_>>());
    for entry in list.unwrap_or_else(|| vec![value]) {
        let at = entry.span().start;
        let Some(inner) = entry.get_ref().as_table() else {
            reader.error("type", at, format!("{key} is a section: [[reports.{key}]]"));
            continue;
        };
        reader.keys("key of this section", inner, keys);
        for missing in keys.iter().filter(|key| !inner.contains_key(**key)) {
            reader.error("missing", at, format!("[[reports.{key}]] has no {missing}"));
        }
        found.push(inner);
    }
    found.into_iter()
}

/// `[reporter]`
pub(crate) fn reporters(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, ReporterSettings> {
    let mut reporters = BTreeMap::new();
    for (name, value) in table {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            reader.error("name", at, format!("{name:?} is no reporter's name; use a-z, 0-9, - and _"));
        }
        let Some(table) = value.get_ref().as_table() else {
            reader.error("type", at, "a reporter is a section: [reporter.NAME]");
            continue;
        };
        if let Some(driver) = driver(reader, at, table) {
            let wants = wants(reader, at, table, &driver);
            let errors = only_errors(reader, at, table);
            reporters.insert(name.to_owned(), ReporterSettings { wants, errors, driver });
        }
    }
    reporters
}

/// `only = "errors"`
fn only_errors(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> bool {
    let word = reader.text(table, "only");
    if let Some(word) = word.as_ref().filter(|word| *word != "errors") {
        let at = table.get("only").map_or(at, |value| value.span().start);
        reader.error(
            "only",
            at,
            format!("only is {word:?}; expected \"errors\": reports of builds where something failed"),
        );
    }
    word.is_some()
}

fn usual(driver: &Driver) -> Vec<String> {
    let events: Vec<&str> = match driver {
        Driver::Amqp { says, .. } => says.iter().flat_map(|dialect| dialect.events()).copied().collect(),
        Driver::ResultsDb { .. } => vec!["result.new"],
        Driver::Webhook { .. } => vec!["*"],
        Driver::Mail { .. } | Driver::Irc { .. } | Driver::Matrix { .. } => vec!["build.done"],
        Driver::Bodhi { .. } => vec!["decision.update", "waiver.new"],
        Driver::Wiki { .. } => vec!["job.done"],
    };
    events.into_iter().map(str::to_owned).collect()
}

fn wants(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, driver: &Driver) -> Wants {
    let events = if table.contains_key("events") { reader.texts(table, "events") } else { usual(driver) };
    let wants =
        Wants { events, matching: patterns(reader, table, "match"), without: patterns(reader, table, "not") };
    for key in wants.strange_keys() {
        let of = if wants.matching.contains_key(key) { "match" } else { "not" };
        let at = table.get(of).map_or(at, |value| value.span().start);
        let events = wants.events.join(", ");
        reader.error(
            of,
            at,
            format!("no event of {events} has {key:?}: nothing would ever be told; see docs/reporting.md"),
        );
    }
    let strange: Vec<String> = wants.strange().map(str::to_owned).collect();
    let kinds: Vec<&str> = assay_engine::report::FactKind::ALL.iter().map(|kind| kind.word()).collect();
    let at = table.get("events").map_or(at, |value| value.span().start);
    for pattern in strange {
        reader.error("events", at, format!("no event is like {pattern:?}; there are {}", kinds.join(", ")));
    }
    wants
}

/// `match` and `not`: keys, and what values are like.
fn patterns(reader: &mut Reader<'_>, table: &DeTable<'_>, of: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    if let Some(inner) = reader.table(table, of) {
        for (key, value) in inner {
            let key = key.get_ref().as_ref();
            let patterns = match value.get_ref().as_str() {
                Some(text) => vec![text.to_owned()],
                None => reader.texts(inner, key),
            };
            found.insert(key.to_owned(), patterns);
        }
    }
    found
}

fn web(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Web {
    let url = must(reader, at, table, "url");
    if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
        let at = table.get("url").map_or(at, |value| value.span().start);
        reader.error("url", at, "url begins with https:// or http://");
    }
    Web { url, ca_file: reader.path(table, "ca-file") }
}

fn must(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, key: &str) -> String {
    if !table.contains_key(key) {
        reader.error("missing", at, format!("the reporter has no {key}"));
    }
    reader.text(table, key).unwrap_or_default()
}

fn must_path(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, key: &str) -> Utf8PathBuf {
    if !table.contains_key(key) {
        reader.error("missing", at, format!("the reporter has no {key}"));
    }
    reader.path(table, key).unwrap_or_default()
}

fn login(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Option<Secret> {
    let (user, file) = (reader.text(table, "user"), reader.path(table, "password-file"));
    match (user, file, reader.path(table, "token-file")) {
        (Some(user), Some(file), None) => Some(Secret::Password { user, file }),
        (None, None, token) => token.map(Secret::Token),
        _ => {
            reader.error("login", at, "give user and password-file, or token-file");
            None
        }
    }
}

fn driver(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Option<Driver> {
    let names: Vec<&str> = DRIVERS.iter().map(|(name, _)| *name).collect();
    let Some(driver) = reader.text(table, "driver") else {
        reader.error("missing", at, format!("the reporter has no driver; there are {}", names.join(", ")));
        return None;
    };
    let Some((_, keys)) = DRIVERS.iter().find(|(name, _)| *name == driver) else {
        reader.error("driver", at, format!("there is no driver {driver:?}; there are {}", names.join(", ")));
        return None;
    };
    let broker: &[&str] = if driver == "amqp" { BROKER } else { &[] };
    let known: Vec<&'static str> = COMMON.iter().chain(broker).chain(*keys).copied().collect();
    reader.keys("key of this reporter", table, &known);
    Some(match driver.as_str() {
        "amqp" => amqp(reader, at, table),
        "resultsdb" => Driver::ResultsDb {
            web: web(reader, at, table),
            login: login(reader, at, table),
            everything: reader.flag(table, "everything"),
        },
        "webhook" => Driver::Webhook {
            web: web(reader, at, table),
            secret: must_path(reader, at, table, "secret-file"),
        },
        "mail" => mail(reader, at, table),
        "irc" => irc(reader, at, table),
        "matrix" => Driver::Matrix {
            web: web(reader, at, table),
            room: must(reader, at, table, "room"),
            token: must_path(reader, at, table, "token-file"),
        },
        "bodhi" => Driver::Bodhi { web: web(reader, at, table), token: reader.path(table, "token-file") },
        _ => Driver::Wiki {
            web: web(reader, at, table),
            login: login(reader, at, table),
            cases: must_path(reader, at, table, "cases"),
        },
    })
}

fn amqp(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Driver {
    let url = must(reader, at, table, "url");
    let broker = reader.broker(at, table, &url);
    let words = if table.contains_key("says") {
        reader.texts(table, "says")
    } else {
        ["openqa", "ci", "resultsdb", "waiverdb", "greenwave"].map(str::to_owned).to_vec()
    };
    let mut says = Vec::new();
    for word in words {
        if let Some(dialect) = Dialect::from_word(&word) {
            says.push(dialect);
        } else {
            let at = table.get("says").map_or(at, |value| value.span().start);
            let all: Vec<&str> = Dialect::ALL.iter().map(|dialect| dialect.word()).collect();
            reader.error("says", at, format!("nobody says {word:?}; there are {}", all.join(", ")));
        }
    }
    let prefix = reader.text(table, "topic-prefix").unwrap_or_else(|| "org.fedoraproject.prod".to_owned());
    Driver::Amqp {
        broker: Box::new(broker),
        mandatory: reader.flag(table, "mandatory"),
        prefix: prefix.trim_end_matches('.').to_owned(),
        says,
    }
}

fn mail(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Driver {
    let to = reader.texts(table, "to");
    if to.is_empty() {
        reader.error("to", at, "the reporter has nobody to write to: to = [\"qa@example.org\"]");
    }
    let from = reader.text(table, "from");
    for (key, address) in to.iter().map(|to| ("to", to)).chain(from.iter().map(|from| ("from", from))) {
        if let Err(why) = address.parse::<lettre::message::Mailbox>() {
            let at = table.get(key).map_or(at, |value| value.span().start);
            reader.error(key, at, format!("{address:?} is no address: {why}"));
        }
    }
    Driver::Mail { to, from }
}

fn irc(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>) -> Driver {
    let tls = !table.contains_key("tls") || reader.flag(table, "tls");
    let options = IrcOptions {
        server: must(reader, at, table, "server"),
        port: reader.number(table, "port", 1, u16::MAX).unwrap_or(if tls { 6697 } else { 6667 }),
        tls,
        ca_file: reader.path(table, "ca-file"),
        nick: reader.text(table, "nick").unwrap_or_else(|| "assay".to_owned()),
        password: None,
        channel: must(reader, at, table, "channel"),
    };
    for (key, text) in [("nick", &options.nick), ("channel", &options.channel)] {
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',' || c == ':') {
            let at = table.get(key).map_or(at, |value| value.span().start);
            reader.error(key, at, format!("{text:?} has characters that IRC does not take"));
        }
    }
    Driver::Irc { options, password: reader.path(table, "password-file") }
}
