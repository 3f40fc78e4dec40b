//! The section `[downloads]` of `assay.toml`.

use crate::gate::settings::Reader;
use camino::Utf8PathBuf;
use std::time::Duration;
use toml::de::DeTable;

/// Files are no larger than this unless the section says otherwise.
const GIGABYTES: u32 = 100;
/// How long nothing may come.
const PATIENCE: u32 = 60;

/// From where files may be fetched, and how large and slow they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownloadSettings {
    /// Hosts, and all hosts below them. None and nothing may be fetched.
    pub(crate) hosts: Vec<String>,
    /// The most bytes of a file, packed or not.
    pub(crate) most: u64,
    /// How long nothing may come.
    pub(crate) patience: Duration,
    /// Certificates to trust in place of the system's.
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

impl Default for DownloadSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            most: u64::from(GIGABYTES) << 30,
            patience: Duration::from_secs(u64::from(PATIENCE)),
            ca_file: None,
        }
    }
}

impl DownloadSettings {
    /// True if files of this host may be fetched.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.hosts.iter().any(|known| {
            host == *known || host.strip_suffix(known.as_str()).is_some_and(|above| above.ends_with('.'))
        })
    }
}

const KEYS: &[&str] = &["hosts", "max-gigabytes", "patience", "ca-file"];

/// All that the section says; what is wrong goes to the reader.
pub(crate) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>) -> DownloadSettings {
    reader.keys("key of [downloads]", table, KEYS);
    let hosts = reader.hosts(table, "hosts");
    let most = reader.positive(table, "max-gigabytes").unwrap_or(GIGABYTES);
    let patience = reader.positive(table, "patience").unwrap_or(PATIENCE);
    DownloadSettings {
        hosts,
        most: u64::from(most) << 30,
        patience: Duration::from_secs(u64::from(patience)),
        ca_file: reader.path(table, "ca-file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_for_those_below_it() {
        let settings = DownloadSettings {
            hosts: vec!["example.org".into(), "127.0.0.1".into()],
            ..DownloadSettings::default()
        };
        for (host, allowed) in [
            ("example.org", true),
            ("DL.Example.Org", true),
            ("badexample.org", false),
            ("example.org.evil.net", false),
            ("127.0.0.1", true),
            ("", false),
        ] {
            assert_eq!(settings.allows(host), allowed, "{host}");
        }
        assert!(!DownloadSettings::default().allows("example.org"));
    }
}
