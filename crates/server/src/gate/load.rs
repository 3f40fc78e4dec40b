//! From files to a configuration of the gate.

use super::settings::{ConfigSource, GateSettings, unreadable};
use assay_engine::gate::config::{Config, Places};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::{assay, zuul};
use camino::{Utf8Path, Utf8PathBuf};
use std::io;

/// What a reading came to.
pub(crate) struct Loaded {
    /// None if something is wrong.
    pub(crate) config: Option<Config>,
    /// Everything that was found.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Reads the configuration. `url` is where people and workers reach this server.
pub(crate) fn load(settings: &GateSettings, url: &str) -> Loaded {
    let mut loaded = match &settings.config {
        None => Loaded { config: Some(Config::default()), diagnostics: Vec::new() },
        Some(ConfigSource::Assay(directory)) => load_assay(directory),
        Some(ConfigSource::Zuul { layout, noop_joins, functions }) => {
            load_zuul(layout, *noop_joins, functions.as_deref())
        }
    };
    if let Some(config) = &mut loaded.config {
        fill_places(&mut config.places, url);
    }
    loaded
}

/// What only the server knows; what the configuration says itself stays.
fn fill_places(places: &mut Places, url: &str) {
    if places.git_url.is_empty() {
        places.git_url = format!("{url}/git");
    }
    places.logs_url.get_or_insert_with(|| format!("{url}/logs"));
    places.status_url.get_or_insert_with(|| format!("{url}/gate"));
    // `- NAME URL : RESULT in 3m 20s`: the line that scripts of third parties read.
    places.job_name_in_report = true;
    places.report_times = true;
}

fn load_assay(directory: &Utf8Path) -> Loaded {
    let files = match yaml_files(directory) {
        Ok(files) => files,
        Err(error) => return refused(directory, &error.to_string()),
    };
    if files.is_empty() {
        return refused(directory, "the directory has no file that ends in .yaml");
    }
    let mut texts = Vec::new();
    for file in &files {
        match fs_err::read_to_string(file) {
            Ok(text) => texts.push(text),
            Err(error) => return refused(file, &error.to_string()),
        }
    }
    let sources: Vec<_> =
        files.iter().map(|file| file.as_str()).zip(texts.iter().map(String::as_str)).collect();
    let assay::Loaded { config, diagnostics } = assay::load(&sources);
    Loaded { config, diagnostics }
}

fn load_zuul(layout: &Utf8Path, noop_joins: bool, functions: Option<&Utf8Path>) -> Loaded {
    let mut options = zuul::Options { noop_joins, ..zuul::Options::default() };
    if let Some(file) = functions {
        match fs_err::read_to_string(file) {
            Ok(text) => {
                if let Err(diagnostics) = options.functions.extend(&text, file.as_str()) {
                    return Loaded { config: None, diagnostics };
                }
            }
            Err(error) => return refused(file, &error.to_string()),
        }
    }
    match fs_err::read_to_string(layout) {
        Ok(text) => {
            let zuul::Import { config, diagnostics, .. } = zuul::import(&text, layout.as_str(), &options);
            Loaded { config, diagnostics }
        }
        Err(error) => refused(layout, &error.to_string()),
    }
}

fn refused(path: &Utf8Path, why: &str) -> Loaded {
    Loaded { config: None, diagnostics: unreadable(path, why) }
}

/// All files of a directory that end in `.yaml` or `.yml`, in the order of their names; a file stands for itself.
fn yaml_files(directory: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    if fs_err::metadata(directory)?.is_file() {
        return Ok(vec![directory.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let Ok(path) = Utf8PathBuf::try_from(entry.path()) else { continue };
        let hidden = path.file_name().is_none_or(|name| name.starts_with('.'));
        if !hidden && matches!(path.extension(), Some("yaml" | "yml")) && entry.file_type()?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
