//! What is to be said of a configuration as a whole, however it was written.

use crate::diagnostic::{Diagnostic, Place, Sink};
use assay_engine::gate::config::{Config, JobDef, NOOP};

/// So many jobs are named.
const NAMED: usize = 3;

/// Warnings that count jobs: those of which nothing says what they do, and those that want what there is not. `file` is
/// what the user knows the configuration by.
pub fn remarks(config: &Config, file: &str) -> Vec<Diagnostic> {
    let mut sink = Sink::default();
    let place = Place { file: sink.add_file(file, ""), line: 0, column: 0 };
    if let Some(jobs) = those(config, is_undefined) {
        let message = format!(
            "nothing says what to do for {jobs}: a change that needs one is told so without a vote; \
             give them a `run` in Assay's YAML (docs/coming-from-zuul.md)"
        );
        sink.warning("undefined-jobs", place, message);
    }
    if let Some(jobs) = those(config, |job| job.single_use) {
        let message = format!("`single-use` of {jobs} is kept for node pools and has no effect yet");
        sink.warning("single-use", place, message);
    }
    sink.finish()
}

fn is_undefined(job: &JobDef) -> bool {
    // With a back end of its own a job is its variables.
    job.task.is_none() && job.name.as_str() != NOOP && !job.env.contains_key("BACKEND")
}

/// `3 jobs (a, b, c)`; none if there is none.
fn those(config: &Config, are: impl Fn(&JobDef) -> bool) -> Option<String> {
    let jobs: Vec<&str> = config.jobs.values().filter(|job| are(job)).map(|job| job.name.as_str()).collect();
    let count = match jobs.len() {
        0 => return None,
        1 => "1 job".to_owned(),
        many => format!("{many} jobs"),
    };
    let more = if jobs.len() > NAMED { ", …" } else { "" };
    Some(format!("{count} ({}{more})", jobs[..jobs.len().min(NAMED)].join(", ")))
}
