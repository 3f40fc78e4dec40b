//! Whether the server at the other end is the one that we mean.

use super::error::GerritError;
use camino::{Utf8Path, Utf8PathBuf};
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyBase64, parse_public_key_base64};

/// How the server's key is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// Only keys in this file are right: lines of OpenSSH's `known_hosts`, or bare public keys.
    Pinned(Utf8PathBuf),
    /// The first key seen is written into this file, and from then on is the right one.
    TrustOnFirstUse(Utf8PathBuf),
}

impl HostKeys {
    fn file(&self) -> &Utf8Path {
        match self {
            Self::Pinned(file) | Self::TrustOnFirstUse(file) => file,
        }
    }

    /// The keys that are right for a server.
    pub(super) fn known(&self, host: &str, port: u16) -> Result<Vec<PublicKey>, GerritError> {
        let file = self.file();
        let untrusted = |why: String| GerritError::Untrusted {
            host: format!("{host}:{port}"),
            why,
            remedy: format!("put its key into {file}, as `ssh-keyscan -p {port} {host}` prints it"),
        };
        let text = match fs_err::read_to_string(file) {
            Ok(text) => text,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && matches!(self, Self::TrustOnFirstUse(_)) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(untrusted(error.to_string())),
        };
        let of_host = known_host_keys_path(host, port, file)
            .map_err(|error| untrusted(format!("{file} cannot be read: {error}")))?;
        let mut keys: Vec<PublicKey> = of_host.into_iter().map(|(_, key)| key).collect();
        if let Self::Pinned(_) = self {
            keys.extend(text.lines().filter_map(bare_key));
            if keys.is_empty() {
                return Err(untrusted(format!("{file} has no key for it")));
            }
        }
        Ok(keys)
    }

    /// Says whether a key is right; remembers it if it is the first.
    pub(super) fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), GerritError> {
        let known = self.known(host, port)?;
        if known.iter().any(|known| known.key_data() == key.key_data()) {
            return Ok(());
        }
        if known.is_empty() {
            return self.learn(host, port, key);
        }
        let file = self.file();
        let known: Vec<String> = known.iter().map(fingerprint).collect();
        Err(GerritError::Untrusted {
            host: format!("{host}:{port}"),
            why: format!("its key is {}, and {file} says {}", fingerprint(key), known.join(" or ")),
            remedy: format!(
                "if its administrators changed the key, correct {file}; otherwise somebody stands between you and it"
            ),
        })
    }

    fn learn(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), GerritError> {
        use std::io::Write;
        let file = self.file();
        let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        let line = format!("{name} {} {}\n", key.algorithm(), key.public_key_base64());
        let write = || {
            if let Some(parent) = file.parent() {
                fs_err::create_dir_all(parent)?;
            }
            let mut out = fs_err::OpenOptions::new().append(true).create(true).open(file)?;
            out.write_all(line.as_bytes())?;
            out.sync_all()
        };
        write().map_err(|error| GerritError::Untrusted {
            host: format!("{host}:{port}"),
            why: format!("its key cannot be recorded: {error}"),
            remedy: format!("make {file} writable"),
        })?;
        tracing::info!(host, port, key = fingerprint(key), %file, "first contact: the server's key is recorded");
        Ok(())
    }
}

fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// `ssh-ed25519 AAAA… comment`
fn bare_key(line: &str) -> Option<PublicKey> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let named = kind.starts_with("ssh-") || kind.starts_with("ecdsa-");
    parse_public_key_base64(words.next().filter(|_| named)?).ok()
}

/// The algorithms to ask for: those of known keys first, so that the server shows the key that is known.
pub(super) fn preferred(known: &[PublicKey], usual: &[Algorithm]) -> Vec<Algorithm> {
    let is_known = |algorithm: &&Algorithm| known.iter().any(|key| key.algorithm() == **algorithm);
    let first = usual.iter().filter(is_known);
    let rest = usual.iter().filter(|algorithm| !is_known(algorithm));
    first.chain(rest).cloned().collect()
}
