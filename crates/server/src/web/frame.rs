//! What every page has: the frame, the assets, the icons, and how times and sizes are written.

pub(crate) use assay_engine::address::encoded as percent_encoded;

use crate::auth::Viewer;
use askama::Template;
use assay_engine::ids::Timestamp;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use serde::Deserialize;

#[derive(Embed)]
#[folder = "assets/"]
struct Assets;

/// The parts of `base.html` that differ from page to page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Where the page hears of changes; `None` if it does not change.
    pub(crate) events: Option<String>,
    pub(crate) now_ms: i64,
    pub(crate) builds: bool,
    pub(crate) home: bool,
    pub(crate) gate: bool,
    pub(crate) version: &'static str,
    /// Who looks at it.
    pub(crate) person: Option<String>,
}

impl Frame {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            events: None,
            now_ms: now.0 / 1000,
            builds: false,
            home: false,
            gate: false,
            version: env!("CARGO_PKG_VERSION"),
            person: Viewer::here().map(|viewer| viewer.name),
        }
    }

    /// The address of an asset; changes with its content, so that browsers may keep it for ever.
    #[expect(clippy::unused_self, reason = "templates call methods, not functions")]
    pub(crate) fn asset(&self, name: &str) -> String {
        let hash =
            Assets::get(name).map(|file| hex::encode(&file.metadata.sha256_hash()[..6])).unwrap_or_default();
        format!("/assets/{name}?v={hash}")
    }
}

#[derive(Deserialize)]
pub(crate) struct AssetQuery {
    v: Option<String>,
}

/// `GET /assets/{name}`
pub(crate) async fn asset(Path(name): Path<String>, Query(query): Query<AssetQuery>) -> Response {
    let Some(file) = Assets::get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let caching = if query.v.is_some() { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, caching)], file.data).into_response()
}

/// A result or state in colour, symbol and word.
#[derive(Debug, Clone, Template, PartialEq, Eq)]
#[template(path = "badge.html")]
pub(crate) struct Badge {
    pub(crate) kind: &'static str,
    pub(crate) big: bool,
}

// The template writes only words of the table below.
impl askama::filters::HtmlSafe for Badge {}

/// Word, what people read, and the symbol as an SVG path in a 24 by 24 box.
const KINDS: [(&str, &str, &str); 35] = [
    ("passed", "passed", "M5 13l4 4 10-11"),
    ("ok", "ok", "M5 13l4 4 10-11"),
    ("softfailed", "softfailed", "M4 12c3-5 6-5 8 0s5 5 8 0"),
    ("softfail", "softfailed", "M4 12c3-5 6-5 8 0s5 5 8 0"),
    ("failed", "failed", "M6 6l12 12M18 6L6 18"),
    ("fail", "failed", "M6 6l12 12M18 6L6 18"),
    ("incomplete", "incomplete", "M12 4v9M12 18.500v.500"),
    ("timeout_exceeded", "timeout exceeded", "M12 3a9 9 0 1 0 .010 0M12 7v5l3 2"),
    ("user_cancelled", "cancelled", "M12 3a9 9 0 1 0 .010 0M6 6l12 12"),
    ("cancelled", "cancelled", "M12 3a9 9 0 1 0 .010 0M6 6l12 12"),
    ("obsoleted", "obsolete", "M5 4h9l5 5v11H5zM9 13h6"),
    ("parallel_failed", "stopped: parallel job failed", "M8 5v14M16 5v14"),
    ("parallel_restarted", "stopped: parallel job restarted", "M8 5v14M16 5v14"),
    ("user_restarted", "restarted", "M12 4a8 8 0 1 1-7.500 5M4 4v5h5"),
    ("skipped", "skipped", "M5 6l7 6-7 6M14 6l6 6-6 6"),
    ("none", "not run", "M6 12h12"),
    ("unknown", "looked", "M3 12c4-7 14-7 18 0-4 7-14 7-18 0M12 10a2 2 0 1 0 .010 0"),
    ("scheduled", "scheduled", "M6 12h.010M12 12h.010M18 12h.010"),
    ("assigned", "assigned", "M4 12h13M12 6l6 6-6 6"),
    ("setup", "setting up", "M12 4a8 8 0 1 1-7.500 5M4 4v5h5"),
    ("running", "running", "M7 5l12 7-12 7z"),
    ("uploading", "uploading", "M12 19V6M6 11l6-6 6 6"),
    ("waiting", "waiting", "M6 12h.010M12 12h.010M18 12h.010"),
    ("queued", "queued", "M4 12h13M12 6l6 6-6 6"),
    ("failing", "failing", "M6 6l12 12M18 6L6 18"),
    ("landing", "landing", "M12 4v12M6 11l6 6 6-6M5 20h14"),
    ("landed", "landed", "M4 13l4 4 8-10M12 17l8-10"),
    ("evicted", "taken out", "M14 5H5v14h9M10 12h10M16 8l4 4-4 4"),
    ("idle", "idle", "M12 8a4 4 0 1 0 .010 0"),
    ("drained", "drained", "M8 5v14M16 5v14"),
    ("info", "info", "M4 12c3-5 6-5 8 0s5 5 8 0"),
    ("needs_inspection", "needs inspection", "M3 12c4-7 14-7 18 0-4 7-14 7-18 0M12 10a2 2 0 1 0 .010 0"),
    ("crashed", "crashed", "M12 4v9M12 18.500v.500"),
    ("missing", "missing", "M6 12h12"),
    ("offline", "offline", "M5 5l14 14M12 3a9 9 0 1 0 .010 0"),
];

impl Badge {
    pub(crate) fn of(word: &str) -> Self {
        let kind = KINDS.iter().find(|(name, ..)| *name == word).map_or("none", |(name, ..)| name);
        Self { kind, big: false }
    }

    pub(crate) fn big(self) -> Self {
        Self { big: true, ..self }
    }

    pub(crate) fn label(&self) -> &'static str {
        KINDS.iter().find(|(name, ..)| *name == self.kind).map_or("", |(_, label, _)| label)
    }

    pub(crate) fn path(&self) -> &'static str {
        KINDS.iter().find(|(name, ..)| *name == self.kind).map_or("", |(.., path)| path)
    }
}

/// A time for people and for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// RFC 3339, for `datetime`.
    pub(crate) iso: String,
    /// `2026-11-21 00:37:12 UTC`.
    pub(crate) full: String,
    /// `3 min ago`.
    pub(crate) ago: String,
    /// `3 min 2 s`, from then to now.
    pub(crate) span: String,
}

impl Moment {
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        let age = now.micros_since(at);
        Self { iso: rfc3339(at), full: full(at), ago: ago(age), span: span(age) }
    }

    /// Of a time as [`rfc3339`] writes it.
    pub(crate) fn of_text(at: &str, now: Timestamp) -> Self {
        let at = at.parse::<jiff::Timestamp>();
        Self::new(at.map_or(now, |at| Timestamp(at.as_microsecond())), now)
    }
}

/// For example `2026-11-21T00:37:12.5Z`.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map(|at| at.to_string()).unwrap_or_default()
}

fn full(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}

fn ago(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        ..5 => "just now".into(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

/// A length of time: `0.24 s`, `3.1 s`, `41 s`, `2 min 5 s`, `3 h 12 min`, `4 days`.
pub(crate) fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        ..1 => format!("{:.2} s", micros as f64 / 1e6),
        1..10 => format!("{:.1} s", micros as f64 / 1e6),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86400),
    }
}

/// `512 bytes`, `3.4 KiB`, `12 MiB`.
pub(crate) fn bytes(size: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * 1024;
    match size {
        1 => "1 byte".into(),
        ..KIB => format!("{size} bytes"),
        KIB..MIB => format!("{:.1} KiB", size as f64 / 1024.0),
        _ => format!("{:.1} MiB", size as f64 / 1024.0 / 1024.0),
    }
}

/// A similarity as a percentage that never rounds up to a level it does not reach.
pub(crate) fn percent(similarity: f64) -> String {
    let tenths = (similarity.clamp(0.0, 1.0) * 1000.0 + 1e-9).floor();
    if tenths % 10.0 == 0.0 { format!("{:.0} %", tenths / 10.0) } else { format!("{:.1} %", tenths / 10.0) }
}

/// For a path of several segments.
pub(crate) fn percent_encoded_path(path: &str) -> String {
    path.split('/').map(percent_encoded).collect::<Vec<_>>().join("/")
}

/// Bytes of a log or a serial line as readable text: no control sequences, `\r\n` as `\n`.
pub(crate) fn plain_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let lossy = String::from_utf8_lossy(bytes);
    let mut chars = lossy.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence: ESC [ parameters final; or ESC and one character.
            '\x1b' => {
                if chars.next() == Some('[') {
                    while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    chars.next();
                }
            }
            '\n' | '\t' => text.push(c),
            '\r' if chars.peek() != Some(&'\n') => text.push('\n'),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let cases = [
            (0, "0.00 s"),
            (240_000, "0.24 s"),
            (3_140_000, "3.1 s"),
            (41_900_000, "41 s"),
            (125_000_000, "2 min 5 s"),
            (11_520_000_000, "3 h 12 min"),
            (400_000_000_000, "4 days"),
        ];
        for (micros, want) in cases {
            assert_eq!(span(micros), want);
        }
    }

    #[test]
    fn a_similarity_is_not_rounded_up_to_its_level() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.9599), "95.9 %");
        assert_eq!(percent(0.96), "96 %");
        assert_eq!(percent(0.9999), "99.9 %");
        assert_eq!(percent(-3.0), "0 %");
    }

    #[test]
    fn serial_text_is_readable() {
        assert_eq!(plain_text(b"\x1b[1;31mred\x1b[0m\r\nnext\rover\x07\xff\x1b"), "red\nnext\nover\u{fffd}");
        assert_eq!(plain_text(b"\x1b[12"), "");
    }

    #[test]
    fn every_word_of_the_engine_has_a_badge() {
        use assay_engine::{job::StateWord, outcome::Outcome};
        let words = StateWord::ALL.iter().filter(|word| !word.is_final()).map(|word| word.word());
        for word in words.chain(Outcome::ALL.iter().map(|outcome| outcome.openqa())) {
            assert_eq!(Badge::of(word).kind, word);
            assert!(!Badge::of(word).render().expect("renders").contains("not run"), "{word}");
        }
    }
}
