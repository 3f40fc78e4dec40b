//! Jobs as openQA's API tells them, kept as text until something in it changes: lists of a thousand jobs are asked for
//! again and again, and few of them have changed since.
//!
//! The driver says what is about to change before it is stored, and that it is stored before anybody hears of it; in
//! between there is no text of these jobs. Whoever reads takes a mark first; what was made of rows read before a change
//! is not kept after it.

use crate::catalog::Catalog;
use assay_engine::ids::JobId;
use assay_engine::rows::Row;
use axum::body::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes of text that are kept.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Which of a job's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As an entry of a list.
    Listed,
    /// The whole answer about this job.
    Shown,
}

/// When something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// What a stored group of steps has changed of the texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched {
    jobs: BTreeSet<JobId>,
    all: bool,
}

impl Touched {
    /// This row is stored.
    pub(crate) fn row(&mut self, row: &Row) {
        match row {
            Row::Job(row) => {
                self.jobs.insert(row.id);
                // They have a child, perhaps a new one.
                self.jobs.extend(row.parents.iter().map(|parent| parent.job));
            }
            Row::Attempt(row) => drop(self.jobs.insert(row.id.job)),
            // Jobs that wait say why, and parents name their children.
            Row::Queue(_) | Row::Deleted(_) => self.all = true,
            // Who waits for a lock has that in its own row.
            Row::Run(_)
            | Row::Worker(_)
            | Row::NoWorker(_)
            | Row::Gate(_)
            | Row::Locks(_)
            | Row::Share(_) => {}
        }
    }

    /// A job's streams are closed.
    pub(crate) fn job(&mut self, job: JobId) {
        self.jobs.insert(job);
    }
}

/// The texts.
#[derive(Default)]
pub(crate) struct Told(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    changes: u64,
    /// What is being stored.
    changing: Touched,
    bytes: usize,
    /// The names in the texts are from here.
    catalog: Option<Arc<Catalog>>,
    texts: HashMap<(JobId, Form), Bytes>,
}

impl Kept {
    fn clear(&mut self) {
        self.texts.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, key: (JobId, Form)) {
        if let Some(text) = self.texts.remove(&key) {
            self.bytes -= text.len();
        }
    }
}

impl Told {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before reading.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.kept().changes)
    }

    /// The texts that there are, in the order of `jobs`.
    pub(crate) fn texts(&self, catalog: &Arc<Catalog>, form: Form, jobs: &[JobId]) -> Vec<Option<Bytes>> {
        let kept = self.kept();
        if !kept.catalog.as_ref().is_some_and(|own| Arc::ptr_eq(own, catalog)) {
            return vec![None; jobs.len()];
        }
        jobs.iter().map(|job| kept.texts.get(&(*job, form)).cloned()).collect()
    }

    /// Keeps a text that was made of what was read after `mark`.
    pub(crate) fn keep(&self, mark: Mark, catalog: &Arc<Catalog>, form: Form, job: JobId, text: Bytes) {
        let mut kept = self.kept();
        if kept.changes != mark.0 || kept.changing.all || kept.changing.jobs.contains(&job) {
            return;
        }
        let same = kept.catalog.as_ref().is_some_and(|own| Arc::ptr_eq(own, catalog));
        if !same || kept.bytes + text.len() > MOST_BYTES {
            kept.clear();
            kept.catalog = Some(catalog.clone());
        }
        kept.remove((job, form));
        kept.bytes += text.len();
        kept.texts.insert((job, form), text);
    }

    /// This is about to be stored.
    pub(crate) fn changes(&self, touched: &Touched) {
        let mut kept = self.kept();
        if touched.all {
            kept.clear();
        }
        for job in &touched.jobs {
            kept.remove((*job, Form::Listed));
            kept.remove((*job, Form::Shown));
        }
        kept.changing = touched.clone();
    }

    /// What was about to be stored is, or is not.
    pub(crate) fn changed(&self) {
        let mut kept = self.kept();
        let changing = std::mem::take(&mut kept.changing);
        kept.changes += u64::from(changing.all || !changing.jobs.is_empty());
    }

    /// Nobody knows what is stored.
    pub(crate) fn forget(&self) {
        self.changes(&Touched { all: true, ..Touched::default() });
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_until_its_job_changes() {
        let (told, catalog) = (Told::default(), Arc::new(Catalog::default()));
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let both = [JobId(1), JobId(2)];
        let mark = told.mark();
        told.keep(mark, &catalog, Form::Listed, JobId(1), text("one"));
        told.keep(mark, &catalog, Form::Listed, JobId(2), text("two"));
        assert_eq!(told.texts(&catalog, Form::Listed, &both), [Some(text("one")), Some(text("two"))]);
        assert_eq!(told.texts(&catalog, Form::Shown, &both), [None, None]);
        let mut touched = Touched::default();
        touched.job(JobId(1));
        told.changes(&touched);
        let while_it_is_stored = told.mark();
        assert_eq!(told.texts(&catalog, Form::Listed, &both), [None, Some(text("two"))]);
        told.keep(while_it_is_stored, &catalog, Form::Listed, JobId(1), text("old"));
        assert_eq!(told.texts(&catalog, Form::Listed, &both[..1]), [None], "nobody knows which it is");
        told.changed();
        told.keep(while_it_is_stored, &catalog, Form::Listed, JobId(1), text("old"));
        told.keep(mark, &catalog, Form::Listed, JobId(1), text("old"));
        assert_eq!(told.texts(&catalog, Form::Listed, &both[..1]), [None], "it was read before the change");
        let other = Arc::new(Catalog::default());
        assert_eq!(told.texts(&other, Form::Listed, &both), [None, None], "groups may have other names");
        told.forget();
        assert_eq!(told.texts(&catalog, Form::Listed, &both), [None, None]);
        for number in 0..10 {
            told.keep(
                told.mark(),
                &catalog,
                Form::Shown,
                JobId(number),
                Bytes::from(vec![b'x'; MOST_BYTES / 3]),
            );
        }
        assert!(told.kept().bytes <= MOST_BYTES);
    }
}
