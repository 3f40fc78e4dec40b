//! Where things are on this machine.

use crate::Common;
use crate::exit::CliError;
use assay_worker::exec::{ASSET_LIMIT, HostOptions};
use camino::{Utf8Path, Utf8PathBuf};

/// The data directory: `--data`, `$ASSAY_DATA`, `$XDG_DATA_HOME/assay`, `~/.local/share/assay`.
pub(crate) fn data_dir(common: &Common) -> Result<Utf8PathBuf, CliError> {
    if let Some(dir) = &common.data {
        return absolute(dir);
    }
    let base = std::env::var("XDG_DATA_HOME").ok().filter(|dir| !dir.is_empty()).map(Utf8PathBuf::from);
    let home = || std::env::var("HOME").ok().map(|home| Utf8PathBuf::from(home).join(".local/share"));
    let base = base.or_else(home).ok_or_else(|| {
        CliError::usage("there is no home directory to keep data in; say where with --data DIR")
    })?;
    Ok(base.join("assay"))
}

/// An absolute path, whether the thing exists or not.
pub(crate) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, CliError> {
    camino::absolute_utf8(path)
        .map_err(|error| CliError::usage(format!("{path} cannot be used as a path: {error}")))
}

/// The host's part in every attempt of this process. Machines live in the data directory, which is the user's own, and
/// not below /tmp, where anybody could make the directory first.
pub(crate) fn host_options(data: &Utf8Path, unsandboxed: bool) -> HostOptions {
    let run = data.join("run").join(std::process::id().to_string());
    let cache = data.join("cache");
    HostOptions { cache, run, hide: vec![data.join("tokens")], asset_limit: ASSET_LIMIT, unsandboxed }
}

/// The same for the worker of a pool, which has one worker at a time: so a worker finds what one that was killed has
/// left, and removes it.
pub(crate) fn worker_host_options(data: &Utf8Path, pool: &Utf8Path, unsandboxed: bool) -> HostOptions {
    HostOptions { run: pool.join("run"), ..host_options(data, unsandboxed) }
}

/// `NAME=VALUE` arguments as settings; names are upper-cased as isotovideo does.
pub(crate) fn settings(pairs: &[String]) -> Result<std::collections::BTreeMap<String, String>, CliError> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) if is_name(name) => Ok((name.to_uppercase(), value.to_owned())),
            _ => Err(CliError::usage(format!(
                "{pair:?} is not a setting; write NAME=VALUE with letters, digits and _ in the name, for example QEMURAM=2048"
            ))),
        })
        .collect()
}

fn is_name(name: &str) -> bool {
    let plain = name.strip_suffix("[]").unwrap_or(name);
    let plain = plain.strip_prefix('+').unwrap_or(plain);
    !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
