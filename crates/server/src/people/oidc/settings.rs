//! The sections `[sign-in.NAME]` of `assay.toml`.

use crate::gate::settings::Reader;
use assay_store::UserRole;
use camino::Utf8PathBuf;
use openidconnect::url::Url;
use std::collections::BTreeMap;
use toml::de::DeTable;

/// A provider that people sign in with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProviderSettings {
    /// As the provider writes it in its tokens.
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret_file: Utf8PathBuf,
    /// What people call it.
    pub(crate) title: String,
    /// Beside `openid`.
    pub(crate) scopes: Vec<String>,
    /// The claim that names people.
    pub(crate) name_claim: String,
    /// The claim with their groups.
    pub(crate) groups_claim: String,
    /// By group; who is in none of them is a viewer.
    pub(crate) roles: BTreeMap<String, UserRole>,
    /// Certificates to trust in place of the system's.
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

impl ProviderSettings {
    /// The highest role of these groups.
    pub(crate) fn role(&self, groups: &[String]) -> UserRole {
        let roles = groups.iter().filter_map(|group| self.roles.get(group).copied());
        roles.max().unwrap_or(UserRole::Viewer)
    }

    /// Nothing of the conversation with it is readable on the way, unless it stays on this machine.
    pub(crate) fn is_https(&self) -> bool {
        self.issuer.starts_with("https://")
    }
}

const PROVIDER: &[&str] = &[
    "issuer",
    "client-id",
    "client-secret-file",
    "name",
    "scopes",
    "name-claim",
    "groups-claim",
    "roles",
    "ca-file",
];

/// All that the section says; what is wrong goes to the reader.
pub(crate) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, ProviderSettings> {
    let mut providers = BTreeMap::new();
    for (name, value) in table {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 15 || !name.chars().all(known) {
            let message = format!("{name:?} is no provider's name; use 1 to 15 of a-z, 0-9 and -");
            reader.error("name", at, message);
        }
        let Some(table) = value.get_ref().as_table() else {
            reader.error("type", value.span().start, "a provider is a section: [sign-in.NAME]");
            continue;
        };
        let provider = provider(reader, name, at, table);
        providers.insert(name.to_owned(), provider);
    }
    providers
}

fn provider(reader: &mut Reader<'_>, name: &str, at: usize, table: &DeTable<'_>) -> ProviderSettings {
    reader.keys("key of a provider", table, PROVIDER);
    for key in ["issuer", "client-id", "client-secret-file"] {
        if !table.contains_key(key) {
            reader.error("missing", at, format!("the provider has no {key}"));
        }
    }
    let scopes = match table.get("scopes") {
        Some(_) => reader.texts(table, "scopes"),
        None => vec!["profile".to_owned()],
    };
    let settings = ProviderSettings {
        issuer: reader.text(table, "issuer").unwrap_or_default(),
        client_id: reader.text(table, "client-id").unwrap_or_default(),
        client_secret_file: reader.path(table, "client-secret-file").unwrap_or_default(),
        title: reader.text(table, "name").unwrap_or_else(|| name.to_owned()),
        scopes: scopes.into_iter().filter(|scope| scope != "openid").collect(),
        name_claim: reader.text(table, "name-claim").unwrap_or_else(|| "preferred_username".to_owned()),
        groups_claim: reader.text(table, "groups-claim").unwrap_or_else(|| "groups".to_owned()),
        roles: reader.table(table, "roles").map(|roles| self::roles(reader, roles)).unwrap_or_default(),
        ca_file: reader.path(table, "ca-file"),
    };
    if let Some(value) = table.get("issuer")
        && !settings.issuer.is_empty()
        && !is_safe(&settings.issuer)
    {
        let message = "issuer begins with https://, unless the provider is on this machine";
        reader.error("issuer", value.span().start, message);
    }
    settings
}

fn roles(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeMap<String, UserRole> {
    let mut roles = BTreeMap::new();
    for (group, value) in table {
        if let Some(role) = value.get_ref().as_str().and_then(UserRole::from_word) {
            roles.insert(group.get_ref().as_ref().to_owned(), role);
        } else {
            let message = "the role of a group is \"viewer\", \"operator\" or \"admin\"";
            reader.error("role", value.span().start, message);
        }
    }
    roles
}

fn is_safe(issuer: &str) -> bool {
    let Ok(url) = Url::parse(issuer) else { return false };
    let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    url.host_str().is_some() && (url.scheme() == "https" || (url.scheme() == "http" && here))
}
