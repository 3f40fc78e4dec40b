//! The record of a run, read as strictly as it is promised.

use assay_records::journal::Line;
use assay_records::step::{ModuleResult, Record, Step, StepBody};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The folder that `assay run` leaves behind.
pub struct RunRecord {
    dir: Utf8PathBuf,
    /// `steps.jsonl`, every line.
    pub records: Vec<Record>,
    /// `journal.jsonl`, every line.
    pub journal: Vec<Line>,
}

impl RunRecord {
    /// Reads it, and insists that every line can be read and that every blob holds what its name says.
    #[track_caller]
    pub fn read(dir: &Utf8Path) -> Self {
        let record = Self {
            dir: dir.to_owned(),
            records: lines(dir, "steps.jsonl"),
            journal: lines(dir, "journal.jsonl"),
        };
        for blob in record.blobs() {
            let bytes = fs::read(dir.join("blobs").join(&blob)).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&bytes)), blob);
        }
        record
    }

    /// A file of it as text.
    #[track_caller]
    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap()
    }

    /// The log.
    #[track_caller]
    pub fn log(&self) -> String {
        self.text("autoinst-log.txt")
    }

    /// Every step, in order.
    pub fn steps(&self) -> Vec<&Step> {
        self.records
            .iter()
            .filter_map(|record| if let Record::Step(step) = record { Some(step.as_ref()) } else { None })
            .collect()
    }

    /// The modules that ended, with their results.
    pub fn modules(&self) -> Vec<(&str, ModuleResult)> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::ModuleEnded { module, result, .. } => Some((module.as_str(), *result)),
                _ => None,
            })
            .collect()
    }

    /// All blobs that steps refer to.
    pub fn blobs(&self) -> BTreeSet<String> {
        let mut blobs = BTreeSet::new();
        for step in self.steps() {
            blobs.extend(step.screenshot.iter().map(|picture| picture.sha256.clone()));
            if let StepBody::Look { matched, candidates, .. } = &step.body {
                for hit in matched.iter().chain(candidates) {
                    blobs.extend(hit.json.iter().chain(&hit.png).cloned());
                }
            }
        }
        blobs
    }

    /// The files that hold one of the texts.
    pub fn holding(&self, text: &str) -> Vec<Utf8PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8().unwrap() {
                let path = entry.unwrap().path().to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

#[track_caller]
fn lines<T: serde::de::DeserializeOwned>(dir: &Utf8Path, file: &str) -> Vec<T> {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{file} ends in the middle of a line");
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
    text.lines().map(parse).collect()
}
