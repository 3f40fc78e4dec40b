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
        Some(ConfigSource::Zuul { layout, jobs, noop_joins, functions }) => {
            let loaded = load_zuul(layout, *noop_joins, functions.as_deref());
            match jobs {
                Some(directory) => add_jobs(loaded, directory),
                None => loaded,
            }
        }
    };
    if let (Some(config), Some(source)) = (&loaded.config, &settings.config) {
        let (ConfigSource::Assay(file) | ConfigSource::Zuul { layout: file, .. }) = source;
        loaded.diagnostics.extend(assay_formats::remarks(config, file.as_str()));
    }
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
    match texts(directory) {
        Ok(texts) => {
            let assay::Loaded { config, diagnostics } = assay::load(&sources(&texts));
            Loaded { config, diagnostics }
        }
        Err(diagnostics) => Loaded { config: None, diagnostics },
    }
}

/// Says what the jobs of a layout do.
fn add_jobs(layout: Loaded, directory: &Utf8Path) -> Loaded {
    let texts = match texts(directory) {
        Ok(texts) => texts,
        Err(mut diagnostics) => {
            diagnostics.extend(layout.diagnostics);
            return Loaded { config: None, diagnostics };
        }
    };
    let mut read = assay::load_over(layout.config, &sources(&texts));
    read.diagnostics.splice(..0, layout.diagnostics);
    Loaded { config: read.config, diagnostics: read.diagnostics }
}

/// The texts of a directory, with the names of their files.
fn texts(directory: &Utf8Path) -> Result<Vec<(Utf8PathBuf, String)>, Vec<Diagnostic>> {
    let files = yaml_files(directory).map_err(|error| unreadable(directory, &error.to_string()))?;
    if files.is_empty() {
        return Err(unreadable(directory, "the directory has no file that ends in .yaml"));
    }
    let text = |file: Utf8PathBuf| match fs_err::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(unreadable(&file, &error.to_string())),
    };
    files.into_iter().map(text).collect()
}

fn sources(texts: &[(Utf8PathBuf, String)]) -> Vec<(&str, &str)> {
    texts.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect()
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

#[cfg(test)]
mod tests {
    use super::super::settings::Days;
    use super::*;
    use assay_engine::gate::ids::JobName;

    #[test]
    fn a_layout_and_what_its_jobs_do() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let layout = dir.join("layout.yaml");
        let text = "pipelines:\n  - name: check\n    manager: IndependentPipelineManager\n    trigger: {gerrit: [{event: patchset-created}]}\n\
                    jobs:\n  - {name: lint, voting: false}\n\
                    projects:\n  - {name: a, check: [unit, lint]}\n";
        fs_err::write(&layout, text).unwrap();
        let jobs = dir.join("jobs");
        fs_err::create_dir(&jobs).unwrap();
        let settings = |jobs: Option<&Utf8Path>| GateSettings {
            config: Some(ConfigSource::Zuul {
                layout: layout.clone(),
                jobs: jobs.map(ToOwned::to_owned),
                noop_joins: false,
                functions: None,
            }),
            keep_events: Days::default(),
            ..GateSettings::default()
        };
        let said = |loaded: &Loaded| -> Vec<String> {
            let dir = format!("{dir}/");
            loaded.diagnostics.iter().map(|found| found.to_string().replace(&dir, "")).collect()
        };
        let alone = load(&settings(None), "http://ci");
        assert!(alone.config.is_some());
        let warning = said(&alone).pop().unwrap();
        assert!(
            warning.starts_with("layout.yaml: warning: nothing says what to do for 2 jobs (lint, unit): "),
            "{warning}"
        );
        let empty = load(&settings(Some(&jobs)), "http://ci");
        assert!(empty.config.is_none() && said(&empty)[0].starts_with("jobs: error: "), "{:?}", said(&empty));

        fs_err::write(jobs.join("a.yaml"), "jobs:\n  unit: {run: make check}\n").unwrap();
        let half = load(&settings(Some(&jobs)), "http://ci");
        assert!(said(&half)[0].contains("for 1 job (lint): "), "{:?}", said(&half));
        fs_err::write(jobs.join("b.yaml"), "jobs:\n  lint: {run: make lint}\n").unwrap();
        let whole = load(&settings(Some(&jobs)), "http://ci");
        assert!(whole.diagnostics.is_empty(), "{:?}", said(&whole));
        let (half, whole) = (half.config.unwrap(), whole.config.unwrap());
        assert!(
            whole.jobs.values().all(|job| job.task.is_some()) && !whole.jobs[&JobName::from("lint")].voting
        );
        assert_ne!(half.hash, whole.hash);

        fs_err::write(&layout, text.replace("unit", "[unit")).unwrap();
        fs_err::write(jobs.join("b.yaml"), "projects:\n  b: {}\n").unwrap();
        let broken = load(&settings(Some(&jobs)), "http://ci");
        assert!(broken.config.is_none());
        for file in ["layout.yaml:", "jobs/b.yaml:1:1: error: `projects` stands in the layout"] {
            assert!(said(&broken).iter().any(|line| line.starts_with(file)), "{file}: {:?}", said(&broken));
        }
    }
}
