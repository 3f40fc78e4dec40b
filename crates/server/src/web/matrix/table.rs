//! The matrix itself: rows by suite, columns by flavor and architecture, a table for each distribution and version.

use crate::web::frame::Badge;
use crate::web::groups::builds::{Counts, kind_of};
use assay_engine::ids::JobId;
use assay_engine::job::StateWord;
use assay_engine::knowledge::words;
use assay_engine::outcome::Outcome;
use assay_store::{Comment, CommentTarget, JobSummary};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How much of a reason is said beside a cell.
const REASON: usize = 160;
/// How many bugs and labels are in a cell.
const MARKS: usize = 3;

/// What of the jobs is wanted. Empty lists do not restrict.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) outcomes: Vec<Outcome>,
    /// Jobs without an outcome too, if `outcomes` restricts.
    pub(super) unfinished_too: bool,
    pub(super) states: Vec<StateWord>,
    pub(super) arch: Vec<String>,
    pub(super) flavor: Vec<String>,
    pub(super) machine: Vec<String>,
    pub(super) test: Vec<String>,
    /// In the name of the suite; in lower case.
    pub(super) q: String,
    /// In a comment; in lower case.
    pub(super) comment: String,
    /// Those that have a module that is wanted, if modules restrict.
    pub(super) with_module: Option<HashSet<JobId>>,
    /// Only failures that nobody has given a bug or a label.
    pub(super) todo: bool,
}

/// What is said about a job, as far as it fits into a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Bugs with their addresses.
    pub(super) bugs: Vec<(String, String)>,
    pub(super) labels: Vec<String>,
    pub(super) comments: usize,
    /// One of the comments has the wanted text.
    said: bool,
}

impl Marks {
    fn is_reviewed(&self) -> bool {
        !self.bugs.is_empty() || !self.labels.is_empty()
    }
}

/// What comments say about jobs; `text` is what is looked for in them.
pub(super) fn marks(comments: &[Comment], text: &str) -> HashMap<JobId, Marks> {
    let mut all: HashMap<JobId, Marks> = HashMap::new();
    for comment in comments {
        let CommentTarget::Job(job) = comment.target else { continue };
        let marks = all.entry(job).or_default();
        marks.comments += 1;
        marks.said |= comment.text.to_lowercase().contains(text);
        for bug in words::bugrefs(&comment.text) {
            let known = marks.bugs.iter().any(|(name, _)| *name == bug);
            if let Some(address) = words::bug_address(&bug).filter(|_| !known) {
                marks.bugs.push((bug, address));
            }
        }
        for label in words::labels(&comment.text) {
            if !marks.labels.iter().any(|known| known == label) {
                marks.labels.push(label.to_owned());
            }
        }
    }
    all
}

/// Text of a column that may be unset.
fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

fn scenario(job: &JobSummary) -> [&str; 6] {
    [&job.test, &job.arch, &job.flavor, &job.machine, &job.version, &job.distri]
        .map(|value| text(value.as_ref()))
}

/// Of each scenario the first job; jobs come the newest first.
pub(super) fn newest(jobs: Vec<JobSummary>) -> Vec<JobSummary> {
    let mut seen = HashSet::with_capacity(jobs.len());
    let keep: Vec<bool> = jobs.iter().map(|job| seen.insert(scenario(job))).collect();
    jobs.into_iter().zip(keep).filter_map(|(job, keep)| keep.then_some(job)).collect()
}

/// Whether it ended by itself, and not well.
pub(super) fn has_failed(job: &JobSummary) -> bool {
    job.outcome.is_some_and(|outcome| !outcome.is_ok() && !outcome.is_aborted())
}

impl Wanted {
    /// Whether the job's place in the matrix is wanted, whatever became of it.
    fn has_place(&self, job: &JobSummary) -> bool {
        let of = |wanted: &[String], value: Option<&String>| {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        };
        of(&self.arch, job.arch.as_ref())
            && of(&self.flavor, job.flavor.as_ref())
            && of(&self.machine, job.machine.as_ref())
            && of(&self.test, job.test.as_ref())
            && (self.q.is_empty() || text(job.test.as_ref()).to_lowercase().contains(&self.q))
    }

    /// Whether what became of it is wanted.
    fn fits(&self, job: &JobSummary, marks: Option<&Marks>) -> bool {
        let by_outcome = match job.outcome {
            _ if self.outcomes.is_empty() && !self.unfinished_too => true,
            Some(outcome) => self.outcomes.contains(&outcome),
            None => self.unfinished_too,
        };
        by_outcome
            && (self.states.is_empty() || self.states.contains(&job.state))
            && self.with_module.as_ref().is_none_or(|with| with.contains(&job.id))
            && (!self.todo || has_failed(job) && !marks.is_some_and(Marks::is_reviewed))
            && (self.comment.is_empty() || marks.is_some_and(|marks| marks.said))
    }

    /// Whether it is wanted at all.
    pub(super) fn takes(&self, job: &JobSummary, marks: Option<&Marks>) -> bool {
        self.has_place(job) && self.fits(job, marks)
    }
}

/// A job in the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) job: JobId,
    /// The word of its state or result.
    pub(super) word: &'static str,
    /// The same for people.
    pub(super) label: &'static str,
    /// Why, if it did not pass.
    pub(super) reason: String,
    pub(super) marks: Marks,
    /// It was made from another job.
    pub(super) again: bool,
}

/// The jobs of a suite, on the machine that is usual for their architecture or on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) test: String,
    /// The machine if it is not the usual one.
    pub(super) machine: Option<String>,
    pub(super) cells: Vec<Option<Cell>>,
}

/// A distribution's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) title: String,
    /// Flavors with their architectures.
    pub(super) columns: Vec<(String, Vec<String>)>,
    pub(super) rows: Vec<Row>,
}

/// Values that the jobs have, to choose from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choices {
    pub(super) archs: BTreeSet<String>,
    pub(super) flavors: BTreeSet<String>,
    pub(super) machines: BTreeSet<String>,
}

impl Choices {
    fn add(&mut self, job: &JobSummary) {
        let values = [&job.arch, &job.flavor, &job.machine];
        for (set, value) in [&mut self.archs, &mut self.flavors, &mut self.machines].into_iter().zip(values) {
            if let Some(value) = value
                && !set.contains(value)
            {
                set.insert(value.clone());
            }
        }
    }
}

/// Everything that the page shows.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    pub(super) tables: Vec<Table>,
    pub(super) choices: Choices,
    /// Of all that have a place, whatever became of them.
    pub(super) counts: Counts,
    /// Jobs in the tables.
    pub(super) shown: usize,
}

fn word(job: &JobSummary) -> &'static str {
    job.outcome.map_or_else(|| job.state.word(), Outcome::openqa)
}

fn cell(job: &JobSummary, marks: &mut HashMap<JobId, Marks>) -> Cell {
    let badge = Badge::of(word(job));
    let unwell = job.outcome.is_some_and(|outcome| !outcome.is_ok());
    let mut marks = marks.remove(&job.id).unwrap_or_default();
    marks.bugs.truncate(MARKS);
    marks.labels.truncate(MARKS);
    Cell {
        job: job.id,
        word: badge.kind,
        label: badge.label(),
        reason: job.reason.iter().filter(|_| unwell).flat_map(|reason| reason.chars().take(REASON)).collect(),
        marks,
        again: job.clone_of.is_some(),
    }
}

/// The machine that most jobs of each architecture are on.
fn usual_machines<'j>(jobs: &[&'j JobSummary]) -> HashMap<&'j str, &'j str> {
    let mut counted: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for job in jobs {
        *counted.entry((text(job.arch.as_ref()), text(job.machine.as_ref()))).or_default() += 1;
    }
    let mut usual: HashMap<&str, (&str, usize)> = HashMap::new();
    for ((arch, machine), many) in counted {
        let best = usual.entry(arch).or_insert((machine, 0));
        if many > best.1 {
            *best = (machine, many);
        }
    }
    usual.into_iter().map(|(arch, (machine, _))| (arch, machine)).collect()
}

/// The jobs of one distribution's version.
fn table(title: String, jobs: &[&JobSummary], marks: &mut HashMap<JobId, Marks>) -> Table {
    let mut flavors: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for job in jobs {
        flavors.entry(text(job.flavor.as_ref())).or_default().insert(text(job.arch.as_ref()));
    }
    let mut place = HashMap::new();
    for (flavor, archs) in &flavors {
        for arch in archs {
            place.insert((*flavor, *arch), place.len());
        }
    }
    let usual = usual_machines(jobs);
    let mut rows: BTreeMap<(&str, &str), Vec<Option<Cell>>> = BTreeMap::new();
    for job in jobs {
        let arch = text(job.arch.as_ref());
        let machine = Some(text(job.machine.as_ref())).filter(|machine| usual.get(arch) != Some(machine));
        let name = job.test.as_ref().unwrap_or(&job.name);
        let cells =
            rows.entry((name, machine.unwrap_or_default())).or_insert_with(|| vec![None; place.len()]);
        let at = place[&(text(job.flavor.as_ref()), arch)];
        cells[at] = Some(cell(job, marks));
    }
    let row = |((test, machine), cells): ((&str, &str), _)| Row {
        test: test.to_owned(),
        machine: Some(machine.to_owned()).filter(|machine| !machine.is_empty()),
        cells,
    };
    let column = |(flavor, archs): (&str, BTreeSet<&str>)| {
        (flavor.to_owned(), archs.into_iter().map(str::to_owned).collect())
    };
    Table {
        title,
        columns: flavors.into_iter().map(column).collect(),
        rows: rows.into_iter().map(row).collect(),
    }
}

/// What all jobs are that have a place, whatever became of them.
pub(super) fn counted(jobs: &[JobSummary], wanted: &Wanted, marks: &HashMap<JobId, Marks>) -> Counts {
    let mut counts = Counts::default();
    for job in jobs.iter().filter(|job| wanted.has_place(job)) {
        counts.add(kind_of(job.state, job.outcome), 1, u64::from(marks.contains_key(&job.id)));
    }
    counts
}

impl Matrix {
    /// Puts jobs, which come the newest first and one of each scenario, into tables.
    pub(super) fn new(jobs: &[JobSummary], wanted: &Wanted, mut marks: HashMap<JobId, Marks>) -> Self {
        let mut matrix = Self { counts: counted(jobs, wanted, &marks), ..Self::default() };
        let mut tables: BTreeMap<(&str, &str), Vec<&JobSummary>> = BTreeMap::new();
        for job in jobs {
            matrix.choices.add(job);
            if wanted.takes(job, marks.get(&job.id)) {
                matrix.shown += 1;
                tables.entry((text(job.distri.as_ref()), text(job.version.as_ref()))).or_default().push(job);
            }
        }
        let made = tables.into_iter().map(|((distri, version), jobs)| {
            let title = format!("{distri} {version}").trim().to_owned();
            table(title, &jobs, &mut marks)
        });
        matrix.tables = made.collect();
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::ids::Timestamp;
    use assay_store::CommentId;

    /// `flavor arch test machine`, and what became of it.
    fn job(id: i64, scenario: &str, outcome: Option<Outcome>) -> JobSummary {
        let mut words = scenario.split(' ').map(|word| Some(word.to_owned()).filter(|word| word != "-"));
        let mut next = || words.next().flatten();
        let (flavor, arch, test, machine) = (next(), next(), next(), next());
        JobSummary {
            id: JobId(id),
            name: scenario.to_owned(),
            distri: Some("d".into()),
            version: Some("1".into()),
            flavor,
            arch,
            test,
            machine,
            build: Some("7".into()),
            state: if outcome.is_some() { StateWord::Done } else { StateWord::Scheduled },
            outcome,
            class: None,
            reason: outcome.map(|_| "because".to_owned()),
            priority: 50,
            group: None,
            run: None,
            clone_of: None,
            cloned_as: None,
            blocked_by: None,
            created_at: Timestamp(0),
            started_at: None,
            finished_at: None,
        }
    }

    fn comment(job: i64, text: &str) -> Comment {
        Comment {
            id: CommentId(1),
            target: CommentTarget::Job(JobId(job)),
            author: "ann".into(),
            text: text.into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn jobs() -> Vec<JobSummary> {
        vec![
            job(5, "dvd x86_64 install 64bit", Some(Outcome::Failed)),
            job(4, "dvd aarch64 install 64bit", Some(Outcome::Passed)),
            job(3, "net x86_64 install uefi", Some(Outcome::Failed)),
            job(2, "net x86_64 boot 64bit", None),
            job(1, "- - boot -", Some(Outcome::UserCancelled)),
        ]
    }

    #[test]
    fn each_job_has_one_place() {
        let matrix = Matrix::new(&jobs(), &Wanted::default(), HashMap::new());
        let [table] = &matrix.tables[..] else { panic!("{:?}", matrix.tables) };
        let columns = [("", vec![""]), ("dvd", vec!["aarch64", "x86_64"]), ("net", vec!["x86_64"])];
        let columns = columns
            .map(|(flavor, archs)| (flavor.to_owned(), archs.into_iter().map(str::to_owned).collect()));
        assert_eq!((table.title.as_str(), table.columns.as_slice()), ("d 1", columns.as_slice()));
        let rows: Vec<_> = table
            .rows
            .iter()
            .map(|row| {
                let machine = row.machine.as_deref().unwrap_or("-");
                let cells = row.cells.iter().map(|cell| cell.as_ref().map_or(0, |cell| cell.job.0));
                (row.test.as_str(), machine, cells.collect::<Vec<_>>())
            })
            .collect();
        let want = [
            ("boot", "-", vec![1, 0, 0, 2]),
            ("install", "-", vec![0, 4, 5, 0]),
            ("install", "uefi", vec![0, 0, 0, 3]),
        ];
        assert_eq!(rows, want);
        assert_eq!((matrix.shown, matrix.counts.total()), (5, 5));
    }

    #[test]
    fn of_a_scenario_the_newest_counts() {
        let mut all = jobs();
        all.push(job(0, "dvd x86_64 install 64bit", Some(Outcome::Passed)));
        let ids: Vec<i64> = newest(all).iter().map(|job| job.id.0).collect();
        assert_eq!(ids, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn filters_restrict() {
        let comments =
            [comment(5, "rhbz#1 and label:flaky, Rhbz"), comment(3, "what is this?"), comment(3, "hm")];
        let ids = |wanted: Wanted| {
            let matrix = Matrix::new(&jobs(), &wanted, marks(&comments, &wanted.comment));
            let cells = matrix.tables.iter().flat_map(|table| &table.rows).flat_map(|row| &row.cells);
            let mut ids: Vec<_> = cells.flatten().map(|cell| cell.job.0).collect();
            ids.sort_unstable();
            (ids, matrix.counts.total())
        };
        let all = Wanted::default;
        let words = |word: &str| vec![word.to_owned()];
        assert_eq!(ids(Wanted { todo: true, ..all() }), (vec![3], 5));
        assert_eq!(ids(Wanted { outcomes: vec![Outcome::Failed], ..all() }), (vec![3, 5], 5));
        assert_eq!(ids(Wanted { unfinished_too: true, ..all() }), (vec![2], 5));
        assert_eq!(ids(Wanted { states: vec![StateWord::Done], ..all() }), (vec![1, 3, 4, 5], 5));
        assert_eq!(ids(Wanted { arch: words("x86_64"), ..all() }), (vec![2, 3, 5], 3));
        assert_eq!(ids(Wanted { flavor: words("dvd"), test: words("install"), ..all() }), (vec![4, 5], 2));
        assert_eq!(ids(Wanted { machine: words("uefi"), ..all() }), (vec![3], 1));
        assert_eq!(ids(Wanted { q: "oo".into(), ..all() }), (vec![1, 2], 2));
        assert_eq!(ids(Wanted { comment: "label:FLAKY".to_lowercase(), ..all() }), (vec![5], 5));
        assert_eq!(ids(Wanted { comment: "nothing".into(), ..all() }), (vec![], 5));
        let marks = &marks(&comments, "")[&JobId(5)];
        assert_eq!((marks.bugs.len(), marks.labels.len(), marks.comments), (1, 1, 1));
    }
}
