//! The sections `[events]` and `[source.NAME]` of `assay.toml`.

use crate::gate::settings::Reader;
use assay_connect::events::amqp::{AmqpOptions, Broker};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::de::DeTable;

/// What is listened to, and by which rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EventSettings {
    /// A file of rules, or a directory of such files.
    pub(crate) rules: Option<Utf8PathBuf>,
    /// How composes and updates are scheduled.
    pub(crate) schedule: Option<Utf8PathBuf>,
    /// Effects are only written down.
    pub(crate) staging: bool,
    /// For so many days messages are kept; what they caused is kept for good.
    pub(crate) keep_days: Option<u16>,
    /// Where Bodhi is asked about updates and releases.
    pub(crate) bodhi: Option<String>,
    /// Where COPR is asked about its projects.
    pub(crate) copr: Option<String>,
    /// Sources by name.
    pub(crate) sources: BTreeMap<String, SourceSettings>,
}

/// A source of events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceSettings {
    /// The source whose messages it brings as well.
    pub(crate) backs: Option<String>,
    pub(crate) kind: SourceKind,
}

/// What it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceKind {
    Amqp(Box<AmqpOptions>),
    Webhook(HookSettings),
    Timer {
        cron: String,
        topic: String,
        body: String,
    },
    Poll {
        every: Duration,
        what: PollKind,
    },
    /// Jobs of this server that end.
    Jobs,
}

/// Who sends, and how it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HookSettings {
    pub(crate) secret_file: Utf8PathBuf,
    pub(crate) signature_header: String,
    pub(crate) id_header: String,
    pub(crate) topic: String,
    /// A header whose value becomes the last word of the topic.
    pub(crate) topic_header: Option<String>,
}

/// What is asked again and again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PollKind {
    Datagrepper { url: String, topics: Vec<String>, overlap: Duration, settle: Duration },
    Composes { url: String, releases: Vec<String>, prefix: String },
    Koji { url: String, prefix: String, tags: Vec<String> },
    Bodhi { url: String, releases: Vec<String>, prefix: String },
    Git { url: String, branches: Vec<String> },
}

const EVENTS: &[&str] = &["rules", "schedule", "mode", "keep-days", "bodhi", "copr"];
const COMMON: &[&str] = &["driver", "backs"];
/// How a broker is reached, by sources and reporters alike.
pub(crate) const BROKER: &[&str] = &["url", "password-file", "ca-file", "cert-file", "key-file", "exchange"];
const DRIVERS: [(&str, &[&str]); 9] = [
    ("amqp", &["queue", "bindings", "passive", "prefetch", "max-body"]),
    ("webhook", &["secret-file", "signature-header", "id-header", "topic", "topic-header"]),
    ("timer", &["cron", "topic", "body"]),
    ("datagrepper", &["url", "topics", "every", "overlap", "settle"]),
    ("composes", &["url", "every", "releases", "topic-prefix"]),
    ("koji", &["url", "every", "topic-prefix", "tags"]),
    ("bodhi", &["url", "every", "releases", "topic-prefix"]),
    ("git", &["url", "every", "branches"]),
    ("jobs", &[]),
];

/// `[events]`
pub(crate) fn events(reader: &mut Reader<'_>, table: &DeTable<'_>) -> EventSettings {
    reader.keys("key of [events]", table, EVENTS);
    let staging = reader.staging(table);
    EventSettings {
        rules: reader.file(table, "rules"),
        schedule: reader.path(table, "schedule"),
        staging,
        keep_days: reader.number(table, "keep-days", 1, u16::MAX),
        bodhi: reader.address(table, "bodhi"),
        copr: reader.address(table, "copr"),
        sources: BTreeMap::new(),
    }
}

/// `[source]`
pub(crate) fn sources(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, SourceSettings> {
    let mut sources = BTreeMap::new();
    for (name, value) in table {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let good = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        if !good {
            reader.error("name", at, format!("{name:?} is no source's name; use a-z, 0-9, - and _"));
        }
        let Some(table) = value.get_ref().as_table() else {
            reader.error("type", at, "a source is a section: [source.NAME]");
            continue;
        };
        if let Some(kind) = kind(reader, at, table, name) {
            sources.insert(name.to_owned(), SourceSettings { backs: reader.text(table, "backs"), kind });
        }
    }
    let wrong: Vec<_> = sources
        .iter()
        .filter_map(|(name, source)| {
            let backs =
                source.backs.as_ref().filter(|backs| !sources.contains_key(*backs) || *backs == name)?;
            Some((name.clone(), backs.clone()))
        })
        .collect();
    for (name, backs) in wrong {
        let at = table.get(name.as_str()).map_or(0, |value| value.span().start);
        reader.error("backs", at, format!("source {name} backs {backs:?}, which is no other source"));
    }
    sources
}

fn kind(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, name: &str) -> Option<SourceKind> {
    let names: Vec<&str> = DRIVERS.iter().map(|(name, _)| *name).collect();
    let Some(driver) = reader.text(table, "driver") else {
        reader.error("missing", at, format!("the source has no driver; there are {}", names.join(", ")));
        return None;
    };
    let Some((_, keys)) = DRIVERS.iter().find(|(name, _)| *name == driver) else {
        reader.error("driver", at, format!("there is no driver {driver:?}; there are {}", names.join(", ")));
        return None;
    };
    let broker: &[&str] = if driver == "amqp" { BROKER } else { &[] };
    let known: Vec<&'static str> = COMMON.iter().chain(broker).chain(*keys).copied().collect();
    reader.keys("key of this source", table, &known);
    let must = |reader: &mut Reader<'_>, key: &str| {
        if !table.contains_key(key) {
            reader.error("missing", at, format!("the source has no {key}"));
        }
        reader.text(table, key).unwrap_or_default()
    };
    let every = |reader: &mut Reader<'_>| reader.number(table, "every", 1, u32::MAX).unwrap_or(300);
    Some(match driver.as_str() {
        "amqp" => {
            let (url, queue) = (must(reader, "url"), must(reader, "queue"));
            let broker = reader.broker(at, table, &url);
            amqp(reader, at, table, AmqpOptions::new(broker, &queue))
        }
        "webhook" => {
            must(reader, "secret-file");
            let or = |reader: &mut Reader<'_>, key: &str, usual: &str| {
                reader.text(table, key).unwrap_or_else(|| usual.to_owned())
            };
            SourceKind::Webhook(HookSettings {
                secret_file: reader.file(table, "secret-file").unwrap_or_default(),
                signature_header: or(reader, "signature-header", "x-hub-signature-256"),
                id_header: or(reader, "id-header", "x-github-delivery"),
                topic: or(reader, "topic", &format!("hook.{name}")),
                topic_header: reader.text(table, "topic-header"),
            })
        }
        "timer" => timer(reader, at, table, name),
        "jobs" => SourceKind::Jobs,
        poll => {
            let url = must(reader, "url");
            reader.poller(table, poll, &url);
            let every = Duration::from_secs(u64::from(every(reader)));
            let seconds = |reader: &mut Reader<'_>, key: &str, usual: u32| {
                Duration::from_secs(u64::from(reader.number(table, key, 0, u32::MAX).unwrap_or(usual)))
            };
            let usual = "org.fedoraproject.prod";
            let prefix = reader.text(table, "topic-prefix").unwrap_or_else(|| usual.to_owned());
            let what = match poll {
                "datagrepper" => PollKind::Datagrepper {
                    url,
                    topics: reader.texts(table, "topics"),
                    overlap: seconds(reader, "overlap", 600),
                    settle: seconds(reader, "settle", 60),
                },
                "composes" => PollKind::Composes { url, releases: reader.texts(table, "releases"), prefix },
                "koji" => PollKind::Koji { url, prefix, tags: reader.texts(table, "tags") },
                "bodhi" => PollKind::Bodhi { url, releases: reader.texts(table, "releases"), prefix },
                _ => PollKind::Git { url, branches: reader.texts(table, "branches") },
            };
            SourceKind::Poll { every, what }
        }
    })
}

fn timer(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, name: &str) -> SourceKind {
    let cron = reader.text(table, "cron").unwrap_or_default();
    if let Err(why) = crate::gate::timers::parse(&cron) {
        reader.error(
            "cron",
            at,
            format!("cron {cron:?} cannot be read: {why}; write for example \"0 6 * * *\""),
        );
    }
    let body = reader.text(table, "body").unwrap_or_else(|| "{}".to_owned());
    if let Err(why) = serde_json::from_str::<serde_json::Value>(&body) {
        reader.error("body", at, format!("body is not JSON: {why}"));
    }
    let topic = reader.text(table, "topic").unwrap_or_else(|| format!("timer.{name}"));
    SourceKind::Timer { cron, topic, body }
}

impl Reader<'_> {
    /// The address that is polled is of the kind that its driver asks.
    fn poller(&mut self, table: &DeTable<'_>, driver: &str, url: &str) {
        let schemes: &[&str] = match driver {
            // Whatever git takes.
            "git" => return,
            "composes" => &["http://", "https://", "file:///"],
            _ => &["http://", "https://"],
        };
        if let Some(value) = table.get("url").filter(|_| !url.is_empty())
            && !schemes.iter().any(|scheme| url.starts_with(scheme))
        {
            let message =
                format!("url is {url:?}; for the driver {driver} it begins with {}", schemes.join(" or "));
            self.error("url", value.span().start, message);
        }
    }

    /// The address of a web server, without a slash at its end.
    pub(crate) fn address(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let url = self.text(table, key)?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let at = table.get(key).map_or(0, |value| value.span().start);
            self.error("url", at, format!("{key} begins with http:// or https://"));
        }
        Some(url.trim_end_matches('/').to_owned())
    }

    /// Where a broker is, and who we are there.
    pub(crate) fn broker(&mut self, at: usize, table: &DeTable<'_>, url: &str) -> Broker {
        let mut broker = Broker::new(url);
        if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
            self.error(
                "url",
                at,
                "url begins with amqp:// or amqps://, for example amqp://user@host:5672/%2Fpubsub",
            );
        }
        broker.password_file = self.path(table, "password-file");
        broker.ca_file = self.path(table, "ca-file");
        broker.identity = match (self.path(table, "cert-file"), self.path(table, "key-file")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.error("identity", at, "cert-file and key-file belong together");
                None
            }
        };
        if let Some(exchange) = self.text(table, "exchange") {
            broker.exchange = exchange;
        }
        broker
    }
}

fn amqp(reader: &mut Reader<'_>, at: usize, table: &DeTable<'_>, mut options: AmqpOptions) -> SourceKind {
    options.bindings = reader.texts(table, "bindings");
    options.passive = reader.flag(table, "passive");
    if let Some(prefetch) = reader.number(table, "prefetch", 1, u16::MAX) {
        options.prefetch = prefetch;
    }
    if let Some(most) = reader.number(table, "max-body", 1, 1_u32 << 30) {
        options.max_body = most as usize;
    }
    if options.bindings.is_empty() && !options.passive {
        reader.error("bindings", at, "the source has no bindings; name topics, for example [\"org.fedoraproject.#\"], or say passive = true");
    }
    SourceKind::Amqp(Box::new(options))
}
