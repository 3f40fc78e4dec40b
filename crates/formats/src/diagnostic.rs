//! What is wrong with a file that a user brought: all of it, each with its place and the nearest known name.

use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Refused.
    Error,
    /// Taken, but probably not as it was meant.
    Warning,
    /// Taken, and worth knowing.
    Note,
}

impl Severity {
    /// The word that is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// Which of the files ([`Sink::add_file`]).
    pub file: u16,
    /// From 1; 0 for the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 for the line as a whole.
    pub column: u32,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for programs: `unknown-key`.
    pub code: &'static str,
    /// The file as the user knows it.
    pub file: String,
    /// From 1; 0 for the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 for the line as a whole.
    pub column: u32,
    /// What was wrong and what was expected.
    pub message: String,
    /// The known name that is most like the one that was found.
    pub nearest: Option<String>,
    /// The line of the file, shortened if it is long.
    pub excerpt: Option<String>,
}

impl Diagnostic {
    /// True if it refuses the input.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {}: {}", self.severity.word(), self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

/// Comparisons with known names that one reading may cost. Ten thousand misspelt names would else take minutes.
const NEAREST_BUDGET: usize = 300_000;
/// Longer lines are cut around the place.
const EXCERPT_CHARS: usize = 160;

struct File<'t> {
    name: String,
    text: &'t str,
}

/// Where findings are gathered while files are read.
pub struct Sink<'t> {
    files: Vec<File<'t>>,
    found: Vec<(Severity, &'static str, Place, String, Option<String>)>,
    errors: usize,
    nearest_budget: usize,
    /// Of a key that stands twice the first counts; else the last.
    first_counts: bool,
    /// Values that do not count because their key stands twice: from, to.
    lost: Vec<(Place, Place)>,
}

impl Default for Sink<'_> {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            found: Vec::new(),
            errors: 0,
            nearest_budget: NEAREST_BUDGET,
            first_counts: false,
            lost: Vec::new(),
        }
    }
}

impl<'t> Sink<'t> {
    /// Makes a file known; the answer goes into [`Place::file`].
    pub fn add_file(&mut self, name: &str, text: &'t str) -> u16 {
        self.files.push(File { name: name.to_owned(), text });
        (self.files.len() - 1).min(usize::from(u16::MAX)) as u16
    }

    /// The name of a place's file, with the line.
    pub fn show(&self, place: Place) -> String {
        let name = self.files.get(usize::from(place.file)).map_or("?", |file| &file.name);
        format!("{name}:{}", place.line)
    }

    /// The same with the column, as findings begin.
    pub fn at(&self, place: Place) -> String {
        format!("{}:{}", self.show(place), place.column)
    }

    /// True if something was refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Refuses.
    pub fn error(&mut self, code: &'static str, place: Place, message: impl Into<String>) {
        self.errors += 1;
        self.found.push((Severity::Error, code, place, message.into(), None));
    }

    /// Warns.
    pub fn warning(&mut self, code: &'static str, place: Place, message: impl Into<String>) {
        self.found.push((Severity::Warning, code, place, message.into(), None));
    }

    /// Says what is worth knowing.
    pub fn note(&mut self, code: &'static str, place: Place, message: impl Into<String>) {
        self.found.push((Severity::Note, code, place, message.into(), None));
    }

    /// Refuses `name`, which is none of `known`, and says which of them is nearest.
    pub fn unknown<'k>(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        self.errors += 1;
        self.near(Severity::Error, (code, place, message.into()), name, known);
    }

    /// Warns of `name`, which is none of `known` and may be right all the same, and says which of them is nearest.
    pub fn doubt<'k>(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        self.near(Severity::Warning, (code, place, message.into()), name, known);
    }

    fn near<'k>(
        &mut self,
        severity: Severity,
        (code, place, message): (&'static str, Place, String),
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let nearest = nearest(name, known, &mut self.nearest_budget);
        self.found.push((severity, code, place, message, nearest));
    }

    /// For a second reading: of a key that stands twice the first value counts, and not the last.
    pub(crate) fn of_first_values() -> Self {
        Self { first_counts: true, ..Self::default() }
    }

    /// True if of a key that stands twice the first value counts.
    pub(crate) fn takes_first(&self) -> bool {
        self.first_counts
    }

    /// A value does not count, because its key stands twice.
    pub(crate) fn lose(&mut self, from: Place, to: Place) {
        self.lost.push((from, to));
    }

    /// True if there are values that do not count.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// What another reading of the same files found in the values that do not count here.
    pub(crate) fn take_lost_from(&mut self, other: Self) {
        for finding in other.found {
            let place = finding.2;
            let is_lost = self.lost.iter().any(|(from, to)| (*from..=*to).contains(&place));
            if is_lost && !self.found.contains(&finding) {
                self.errors += usize::from(finding.0 == Severity::Error);
                self.found.push(finding);
            }
        }
    }

    /// Everything that was found, in the order of the files, with excerpts.
    pub fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|finding| (finding.2, finding.0));
        let mut lines: Vec<Option<Vec<&str>>> = self.files.iter().map(|_| None).collect();
        found
            .into_iter()
            .map(|(severity, code, place, message, nearest)| {
                let at = usize::from(place.file);
                let excerpt = self.files.get(at).filter(|_| place.line > 0).and_then(|file| {
                    let lines = lines[at].get_or_insert_with(|| file.text.lines().collect());
                    lines.get(place.line as usize - 1).map(|line| excerpt(line, place.column))
                });
                Diagnostic {
                    severity,
                    code,
                    file: self.files.get(at).map_or_else(String::new, |file| file.name.clone()),
                    line: place.line,
                    column: place.column,
                    message,
                    nearest,
                    excerpt,
                }
            })
            .collect()
    }
}

/// The known name that is most like `name`, if any is like it at all.
fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>, budget: &mut usize) -> Option<String> {
    // One letter is always a slip, if there are at least two.
    let slip = |alike: f64, other: &str| {
        (1.0 - alike) * (name.len().max(other.len()) as f64) < 1.01 && name.len() > 1
    };
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        *budget = budget.checked_sub(1)?;
        // A name of twice the length is not a misspelling.
        if candidate == name || candidate.len() > 2 * name.len() + 2 || name.len() > 2 * candidate.len() + 2 {
            continue;
        }
        let alike = strsim::normalized_damerau_levenshtein(name, candidate);
        if best.is_none_or(|(score, _)| alike > score) {
            best = Some((alike, candidate));
        }
    }
    best.filter(|(score, other)| *score >= 0.6 || slip(*score, other)).map(|(_, name)| name.to_owned())
}

fn excerpt(line: &str, column: u32) -> String {
    let from = (column as usize).saturating_sub(EXCERPT_CHARS / 2);
    let mut rest = line.chars().skip(from);
    let mut text: String = rest.by_ref().take(EXCERPT_CHARS).collect();
    if from > 0 {
        text.insert(0, '…');
    }
    if rest.next().is_some() {
        text.push('…');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place_and_the_nearest_name() {
        let mut sink = Sink::default();
        let file = sink.add_file("layout.yaml", "a: 1\nvotting: false\n");
        let place = Place { file, line: 2, column: 1 };
        sink.unknown("unknown-key", place, "unknown key `votting` of a job", "votting", ["voting", "files"]);
        sink.note("x", Place { file, line: 1, column: 0 }, "first");
        let found = sink.finish();
        assert_eq!(found[0].to_string(), "layout.yaml:1: note: first");
        assert_eq!(
            found[1].to_string(),
            "layout.yaml:2:1: error: unknown key `votting` of a job; did you mean `voting`?"
        );
        assert_eq!(found[1].excerpt.as_deref(), Some("votting: false"));
    }

    #[test]
    fn long_lines_are_cut_and_searches_bounded() {
        assert_eq!(excerpt(&"x".repeat(1000), 500).chars().count(), EXCERPT_CHARS + 2);
        let mut budget = 3;
        assert_eq!(nearest("abc", ["abd", "b", "c", "d"], &mut budget), None);
    }
}
