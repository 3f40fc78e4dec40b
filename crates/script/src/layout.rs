//! The test directory: which files are modules, in which order, and what `load` may reach.

use crate::suggest::did_you_mean;
use assay_proto::diagnostic::Diagnostic;
use camino::{Utf8Path, Utf8PathBuf};

/// A test directory, with symbolic links resolved.
pub(crate) struct Layout {
    root: Utf8PathBuf,
}

/// More modules than any run has.
const MAX_MODULES: usize = 10_000;

impl Layout {
    pub(crate) fn open(dir: &Utf8Path) -> Result<Self, Diagnostic> {
        let refuse = |message: String| {
            let help = "a test directory has tests/*.star and, if they share code, lib/*.star";
            Diagnostic::error("no-directory", dir.as_str(), message).help(help)
        };
        let root =
            dir.canonicalize_utf8().map_err(|e| refuse(format!("cannot open the test directory: {e}")))?;
        if !root.is_dir() {
            return Err(refuse("this is not a directory".to_owned()));
        }
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The modules' files, relative to the directory, in the order in which they run.
    pub(crate) fn modules(&self, schedule: Option<&[String]>) -> Result<Vec<String>, Vec<Diagnostic>> {
        let all = self.test_files().map_err(|e| vec![e])?;
        match schedule {
            None => Ok(all),
            Some(schedule) => scheduled(&all, schedule),
        }
    }

    fn test_files(&self) -> Result<Vec<String>, Diagnostic> {
        let help = "write a module, for example tests/boot.star";
        let unreadable = |e: std::io::Error| {
            let message = match e.kind() {
                std::io::ErrorKind::NotFound => "there is no such directory".to_owned(),
                _ => format!("cannot read it: {e}"),
            };
            Diagnostic::error("no-tests", "tests", message).help(help)
        };
        let mut files = Vec::new();
        for entry in fs_err::read_dir(self.root.join("tests")).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let Some(name) = name.to_str() else {
                let message = format!("the file name {} is not UTF-8", name.display());
                return Err(Diagnostic::error("file-name", "tests", message).help("rename it"));
            };
            let hidden = name.starts_with('.') || name.starts_with('_');
            if !hidden && (has_extension(name, "star") || has_extension(name, "py")) {
                files.push(format!("tests/{name}"));
            }
        }
        if files.is_empty() {
            return Err(Diagnostic::error("no-tests", "tests", "it has no *.star and no *.py").help(help));
        }
        if files.len() > MAX_MODULES {
            return Err(Diagnostic::error(
                "too-large",
                "tests",
                format!("it has more than {MAX_MODULES} modules"),
            ));
        }
        files.sort();
        Ok(files)
    }

    /// Reads a file of the directory. Links that lead out of it are refused: only what is in the directory is pinned.
    pub(crate) fn read(&self, file: &str) -> Result<String, Diagnostic> {
        let refuse = |code: &str, message: String| Diagnostic::error(code, file, message);
        let path = self.root.join(file);
        let real =
            path.canonicalize_utf8().map_err(|e| refuse("unreadable", format!("cannot read it: {e}")))?;
        if !real.starts_with(&self.root) {
            let message = "the file is a link that leads out of the test directory".to_owned();
            return Err(refuse("outside", message).help("copy what it leads to into the directory"));
        }
        if !real.is_file() {
            // A FIFO or a device would keep the reader for ever.
            return Err(refuse("unreadable", "this is not a regular file".to_owned()));
        }
        let bytes = fs_err::read(&real).map_err(|e| refuse("unreadable", e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| {
            let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = valid.split(|byte| *byte == b'\n').count();
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            refuse("encoding", "the file is not UTF-8".to_owned()).at(line, 0).help("save it as UTF-8")
        })
    }

    /// The file behind the text of a `load`, relative to the directory; `Err` has the message and the remedy.
    pub(crate) fn loadable(&self, module: &str) -> Result<String, (String, String)> {
        let Some(path) = module.strip_prefix("//") else {
            let name =
                Utf8Path::new(module.trim_start_matches(['/', ':', '.'])).file_name().unwrap_or("login.star");
            return Err((
                format!("`load` takes a path from the top of the test directory, not {module:?}"),
                format!("write \"//lib/{name}\""),
            ));
        };
        let odd = path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains(['\\', '\0']);
        if odd {
            return Err((
                format!("{module:?} is not a plain path"),
                "leave out `.`, `..` and `//`".to_owned(),
            ));
        }
        if !path.starts_with("lib/") || !has_extension(path, "star") {
            return Err((
                format!("{module:?} cannot be loaded"),
                "only lib/*.star can be loaded; move what modules share there".to_owned(),
            ));
        }
        if !self.root.join(path).exists() {
            let known = self.libraries();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let help = did_you_mean(path, known.iter().copied()).unwrap_or_else(|| format!("create {path}"));
            return Err((format!("there is no {path}"), help));
        }
        Ok(path.to_owned())
    }

    /// The files in lib/, for suggestions only.
    fn libraries(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![("lib".to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let Ok(entries) = fs_err::read_dir(self.root.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else {
                    continue;
                };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < 8 => folders.push((name, depth + 1)),
                    Ok(_) if has_extension(&name, "star") => found.push(name),
                    _ => {}
                }
            }
            if found.len() > 1000 {
                break;
            }
        }
        found.sort();
        found
    }
}

pub(crate) fn has_extension(name: &str, extension: &str) -> bool {
    Utf8Path::new(name).extension() == Some(extension)
}

/// openQA's SCHEDULE: module names, or paths with or without extension.
fn scheduled(all: &[String], schedule: &[String]) -> Result<Vec<String>, Vec<Diagnostic>> {
    let stem = |file: &str| Utf8Path::new(file).file_stem().unwrap_or_default().to_owned();
    let stems: Vec<String> = all.iter().map(|file| stem(file)).collect();
    let (mut files, mut errors) = (Vec::<String>::new(), Vec::new());
    for wanted in schedule.iter().map(|wanted| wanted.trim()).filter(|wanted| !wanted.is_empty()) {
        let name = wanted.strip_prefix("tests/").unwrap_or(wanted);
        let error = |code: &str, message: String| Diagnostic::error(code, "SCHEDULE", message);
        match all
            .iter()
            .zip(&stems)
            .find(|(file, stem)| file["tests/".len()..] == *name || stem.as_str() == name)
        {
            Some((file, _)) if files.contains(file) => {
                errors.push(
                    error("twice", format!("{wanted:?} is listed twice")).help("list each module once"),
                );
            }
            Some((file, _)) => files.push(file.clone()),
            None => {
                let found = error("unknown-module", format!("there is no module {wanted:?}"));
                errors.push(match did_you_mean(name, stems.iter().map(String::as_str)) {
                    Some(help) => found.help(help),
                    None => found,
                });
            }
        }
    }
    if files.is_empty() && errors.is_empty() {
        errors.push(
            Diagnostic::error("no-tests", "SCHEDULE", "it names no module").help("leave it out to run all"),
        );
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}
