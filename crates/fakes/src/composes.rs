//! A server of composes, as Pungi leaves them and Apache lists them: STATUS, COMPOSE_ID, productmd's metadata, and the
//! series of composes in the archive of metadata.

use crate::web::{Web, lock};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The server; dropping it ends it.
pub struct FakeComposes {
    web: Web,
    shared: Shared,
}

/// Files by their paths, without the slash at the beginning.
type Shared = Arc<Mutex<BTreeMap<String, String>>>;

/// An image of a compose.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// `Server`
    pub subvariant: &'a str,
    /// `dvd`, `boot`, `live`, `qcow2`
    pub kind: &'a str,
    /// `iso`, `qcow2`, `raw.xz`
    pub format: &'a str,
    /// The architecture.
    pub arch: &'a str,
}

/// What a name such as `Fedora-Rawhide-20261121.n.0` says.
struct Name<'a> {
    short: &'a str,
    version: &'a str,
    date: &'a str,
    kind: &'static str,
    respin: u32,
}

impl<'a> Name<'a> {
    fn read(id: &'a str) -> Option<Self> {
        let mut parts = id.rsplitn(3, '-');
        let (date, version, short) = (parts.next()?, parts.next()?, parts.next()?);
        let mut parts = date.split('.');
        let (date, second, third) = (parts.next()?, parts.next()?, parts.next());
        let kind = match (second, third) {
            ("n", _) => "nightly",
            ("t", _) => "test",
            ("d", _) => "development",
            ("ci", _) => "ci",
            _ => "production",
        };
        Some(Self { short, version, date, kind, respin: third.unwrap_or(second).parse().ok()? })
    }
}

impl FakeComposes {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Shared::default();
        let routes = Router::new().fallback(file).with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT/compose`
    pub fn url(&self) -> String {
        format!("{}/compose", self.web.url())
    }

    /// There is a file, or another one in its place.
    pub fn put(&self, path: &str, text: &str) {
        lock(&self.shared).insert(format!("compose/{path}"), text.to_owned());
    }

    /// A compose such as `Fedora-Rawhide-20261121.n.0` has come into a state, below a directory such as `rawhide`; its
    /// address. Metadata are there once it is finished.
    pub fn compose(&self, dir: &str, id: &str, status: &str, images: &[Image<'_>]) -> anyhow::Result<String> {
        let name = Name::read(id).ok_or_else(|| anyhow::anyhow!("{id} is no compose"))?;
        let base = format!("{dir}/{id}");
        self.put(&format!("{base}/STATUS"), &format!("{status}\n"));
        self.put(&format!("{base}/COMPOSE_ID"), id);
        self.put(&format!("{base}/logs/global/pungi.global.log"), "");
        // What is made is put there from the beginning on.
        self.put(&format!("{base}/compose/Everything/x86_64/os/.discinfo"), "");
        if status.starts_with("FINISHED") {
            let header = |of: &str| json!({"type": format!("productmd.{of}"), "version": "1.2"});
            let compose = json!({"id": id, "date": name.date, "type": name.kind, "respin": name.respin});
            let release = json!({"name": name.short, "short": name.short, "version": name.version, "type": "ga", "internal": false});
            let info = json!({"header": header("composeinfo"), "payload": {"compose": compose, "release": release, "variants": {}}});
            let files = [
                ("composeinfo", info),
                (
                    "images",
                    json!({"header": header("images"), "payload": {"compose": compose, "images": by_variant(images, &name)}}),
                ),
                ("rpms", json!({"header": header("rpms"), "payload": {"compose": compose, "rpms": {}}})),
            ];
            for (file, value) in files {
                self.put(&format!("{base}/compose/metadata/{file}.json"), &value.to_string());
            }
            let series = format!("metadata-archive/series/{}-{}", name.short, name.version.to_lowercase());
            let mut files = lock(&self.shared);
            let series = files.entry(format!("compose/{series}")).or_default();
            series.push_str(id);
            series.push('\n');
        }
        Ok(format!("{}/{base}/compose", self.url()))
    }
}

/// Images as `images.json` has them.
fn by_variant(images: &[Image<'_>], name: &Name<'_>) -> Value {
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
    for Image { subvariant, kind, format, arch } in images {
        let file = format!(
            "Fedora-{subvariant}-{kind}-{arch}-{}-{}.n.{}.{format}",
            name.version, name.date, name.respin
        );
        let image = json!({
            "path": format!("{subvariant}/{arch}/iso/{file}"), "mtime": 1_795_000_000, "size": 1_000_000, "volume_id": null,
            "type": kind, "format": format, "arch": arch, "disc_number": 1, "disc_count": 1,
            "checksums": {"sha256": "0".repeat(64)}, "implant_md5": null, "bootable": true, "subvariant": subvariant,
        });
        all.entry(subvariant).or_default().entry(arch).or_default().push(image);
    }
    json!(all)
}

async fn file(State(shared): State<Shared>, uri: Uri) -> Response {
    let files = lock(&shared);
    let path = uri.path().trim_matches('/');
    if let Some(text) = files.get(path) {
        return text.clone().into_response();
    }
    // The names in a directory; those that are directories end with a slash.
    let below = files.keys().filter_map(|file| file.strip_prefix(path)?.strip_prefix('/'));
    let names: BTreeSet<String> = below
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(name, _)| format!("{name}/")))
        .collect();
    if names.is_empty() {
        return (StatusCode::NOT_FOUND, "Not Found").into_response();
    }
    let rows: Vec<String> = names.iter().map(|name| format!("<a href=\"{name}\">{name}</a>")).collect();
    let rows = rows.join("\n");
    let page = format!(
        "<html><body><pre><a href=\"?C=N;O=D\">Name</a> <a href=\"/\">Parent Directory</a>\n{rows}</pre></body></html>"
    );
    ([(header::CONTENT_TYPE, "text/html")], page).into_response()
}
