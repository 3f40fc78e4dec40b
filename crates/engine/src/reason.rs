//! Why a job waits, why it ended, and why something was refused: values that are stored, and sentences for people.

use crate::ids::{AttemptId, JobId, WorkerName};
use crate::outcome::Outcome;
use crate::relations::{Impossible, Relation};
use crate::sched::disk::Bytes;
use crate::sched::limits::Limit;
use crate::settings::ClassSet;
use crate::work::Phase;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why jobs that need the same classes are not running yet. `Display` is one sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum WaitReason {
    /// Nobody could run anything.
    NoWorkerOnline,
    /// Workers are online, but none offers this class.
    ClassNotOffered {
        /// The class.
        class: String,
        /// The most similar class that is offered.
        nearest: Option<String>,
    },
    /// Each class is offered by some worker, but no worker offers all of them.
    ClassesNotTogether {
        /// The classes.
        classes: ClassSet,
    },
    /// Somebody drained every worker that could run it.
    AllDrained {
        /// The classes.
        classes: ClassSet,
        /// All that there is.
        drained: DrainedSlots,
    },
    /// Every worker that could run it is full.
    AllBusy {
        /// The classes.
        classes: ClassSet,
        /// How many slots the online workers with these classes have, without drained ones.
        slots: u64,
        /// How many parties have jobs that wait for them; see [`crate::sched::fair`].
        #[serde(default = "one", skip_serializing_if = "is_one")]
        parties: usize,
        /// The oldest cluster that some of these slots are kept for while they are free.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_for: Option<Relative>,
        /// What would be there beside them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<DrainedSlots>,
    },
    /// A job has to end first.
    Parents {
        /// The first of those that have to end.
        first: Relative,
        /// What this job, or `through`, has to do with it.
        relation: Relation,
        /// The job beside this one, or before it on its slot, that waits for it, if that is another one.
        through: Option<Relative>,
        /// How many more have to end.
        more: usize,
    },
    /// It follows another on the same slot.
    Next {
        /// The job before it.
        after: Relative,
    },
    /// So many slots must be free at once, and are not.
    Together {
        /// The classes of each.
        slots: Vec<ClassSet>,
        /// All on one host.
        one_host: bool,
    },
    /// All online workers together could not run the cluster.
    NotEnough {
        /// The classes of each slot that it needs.
        slots: Vec<ClassSet>,
        /// The first that no slot is left for.
        missing: ClassSet,
        /// All on one host.
        one_host: bool,
        /// The first drained worker that offers what is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<WorkerName>,
    },
    /// As many as may run at once do.
    Limit {
        /// What is limited.
        limit: Limit,
        /// How many may run.
        most: u32,
        /// How many would begin together.
        needs: u32,
    },
    /// No host that could run it has the disk for it, or for those that begin with it.
    Disk {
        /// The host with most room.
        host: String,
        /// How many bytes are needed.
        need: u64,
        /// How many bytes are left there beside what running jobs need.
        free: u64,
    },
    /// Files are fetched for it.
    Assets {
        /// Their names.
        names: Vec<String>,
        /// Why that takes longer than it should.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// It runs, and its test waits for a lock that no job of its cluster has made.
    NoLock {
        /// `mutex` or `barrier`.
        lock: String,
        /// The lock's name.
        name: String,
    },
    /// It runs, and its test waits for a mutex.
    Mutex {
        /// The mutex's name.
        name: String,
        /// Who has it.
        held_by: Relative,
    },
    /// It runs, and its test waits at a barrier.
    Barrier {
        /// The barrier's name.
        name: String,
        /// How many have come.
        come: u32,
        /// How many have to.
        tasks: u32,
    },
    /// It runs, and its test waits for its children.
    Children {
        /// The first of those that it waits for.
        first: Relative,
        /// How many more.
        more: usize,
        /// To start, not to end.
        to_start: bool,
    },
}

/// Slots of online workers that somebody drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedSlots {
    /// How many.
    pub slots: u64,
    /// The first of the workers, by name.
    pub first: WorkerName,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_one(number: &usize) -> bool {
    *number == 1
}

/// Another job, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relative {
    /// Its number.
    pub job: JobId,
    /// For example `install@64bit`.
    pub label: String,
}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.job, self.label)
    }
}

/// `2 slots (dummy; dummy,tap) on one host`
fn slots_told(slots: &[ClassSet], one_host: bool) -> String {
    let classes: Vec<String> = slots.iter().map(ToString::to_string).collect();
    let host = if one_host { " on one host" } else { "" };
    format!("{} slots ({}){host}", slots.len(), classes.join("; "))
}

impl WaitReason {
    /// True if the job could begin now, if there were slots for it.
    pub fn lacks_slots(&self) -> bool {
        match self {
            Self::NoWorkerOnline
            | Self::ClassNotOffered { .. }
            | Self::ClassesNotTogether { .. }
            | Self::AllDrained { .. }
            | Self::AllBusy { .. }
            | Self::Together { .. }
            | Self::NotEnough { .. } => true,
            Self::Parents { .. }
            | Self::Next { .. }
            | Self::Limit { .. }
            | Self::Disk { .. }
            | Self::Assets { .. }
            | Self::NoLock { .. }
            | Self::Mutex { .. }
            | Self::Barrier { .. }
            | Self::Children { .. } => false,
        }
    }
}

/// Who has the slots that somebody waits for, up to the remedy.
fn all_busy(
    f: &mut fmt::Formatter<'_>,
    (classes, slots): (&ClassSet, u64),
    kept_for: Option<&Relative>,
    drained: Option<&DrainedSlots>,
) -> fmt::Result {
    match slots {
        1 => write!(f, "the only slot with class {classes} is busy")?,
        _ => write!(f, "all {slots} slots with class {classes} are busy")?,
    }
    if let Some(cluster) = kept_for {
        write!(f, ", or kept for {cluster}, whose cluster needs several at once")?;
    }
    if let Some(DrainedSlots { slots, first }) = drained {
        write!(f, ", and {slots} more drained (`assay worker drain {first} --end` ends that)")?;
    }
    f.write_str("; ")
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkerOnline => f.write_str(
                "no worker is online; start one with `assay worker`, or see why the last one left",
            ),
            Self::ClassNotOffered { class, nearest: Some(nearest) } => write!(
                f,
                "no online worker offers class {class}; the nearest that is offered is {nearest}: correct \
                 WORKER_CLASS, or start a worker with that class"
            ),
            Self::ClassNotOffered { class, nearest: None } => {
                write!(f, "no online worker offers class {class}; start one that does")
            }
            Self::ClassesNotTogether { classes } => write!(
                f,
                "no single online worker offers all of the classes {classes}; start one that does, or need fewer in \
                 WORKER_CLASS"
            ),
            Self::AllDrained { classes, drained: DrainedSlots { slots, first } } => {
                match slots {
                    1 => write!(f, "the only slot with class {classes} is drained; ")?,
                    _ => write!(f, "all {slots} slots with class {classes} are drained; ")?,
                }
                write!(f, "end that with `assay worker drain {first} --end`, or start another worker")
            }
            Self::AllBusy { classes, slots, parties, kept_for, drained } => {
                all_busy(f, (classes, *slots), kept_for.as_ref(), drained.as_ref())?;
                if *parties > 1 {
                    write!(
                        f,
                        "{parties} groups wait and take turns at equal priority, however many jobs each has; "
                    )?;
                }
                f.write_str("wait, or start another worker")
            }
            Self::Parents { first, relation, through, more } => {
                match relation {
                    Relation::Parallel => write!(f, "waits for {first} to start")?,
                    Relation::Chained | Relation::DirectlyChained => write!(f, "waits for {first} to pass")?,
                }
                match more {
                    0 => {}
                    1 => f.write_str(" and for one more job")?,
                    more => write!(f, " and for {more} more jobs")?,
                }
                match through {
                    Some(through) => write!(f, ", because {through} does"),
                    None => Ok(()),
                }
            }
            Self::Next { after } => {
                write!(f, "waits for {after} to pass, and starts directly after it on the same slot")
            }
            Self::Together { slots, one_host } => {
                let told = slots_told(slots, *one_host);
                write!(
                    f,
                    "needs {told} free at once; those that become free are kept for it: wait, or start another worker"
                )
            }
            Self::NotEnough { slots, missing, one_host, drained } => {
                let told = slots_told(slots, *one_host);
                write!(
                    f,
                    "needs {told} at once, and the online workers do not have them together: nothing is left for {missing}; \
                     start another worker with that class"
                )?;
                match drained {
                    Some(worker) => write!(
                        f,
                        ", or end the draining of {worker} with `assay worker drain {worker} --end`"
                    ),
                    None => Ok(()),
                }
            }
            Self::Limit { limit, most, needs } if needs > most => write!(
                f,
                "no more than {most} {limit} may run at once, and {needs} of its cluster would have to; raise the limit in \
                 [limits] of assay.toml"
            ),
            Self::Limit { limit, most, .. } => write!(
                f,
                "no more than {most} {limit} may run at once; wait, or raise the limit in [limits] of assay.toml"
            ),
            Self::Disk { host, need, free } => write!(
                f,
                "needs {} of disk for its assets and blank disks, and host {host}, which has most, has {} left beside what runs \
                 there; wait, make room there, or start a worker on a host with more",
                Bytes(*need),
                Bytes(*free)
            ),
            Self::Assets { names, trouble } => {
                write!(f, "waits for its files to be fetched: {}", names.join(", "))?;
                trouble.as_ref().map_or(Ok(()), |trouble| write!(f, "; {trouble}"))
            }
            Self::NoLock { lock, name } => {
                write!(f, "its test waits for {lock} {name}, which no job of its cluster has made yet")
            }
            Self::Mutex { name, held_by } => {
                write!(f, "its test waits for mutex {name}, held by job {held_by}")
            }
            Self::Barrier { name, come, tasks } => {
                write!(f, "its test waits at barrier {name}: {come} of {tasks} jobs have come")
            }
            Self::Children { first, more, to_start } => {
                let what = if *to_start { "start" } else { "end" };
                write!(f, "its test waits for job {first} to {what}")?;
                match more {
                    0 => Ok(()),
                    1 => f.write_str(" and for one more child"),
                    more => write!(f, " and for {more} more children"),
                }
            }
        }
    }
}

/// Why an attempt or a job ended. `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum EndReason {
    /// The worker carried it to its end and said this.
    Reported {
        /// What the worker said; none is needed when it passed.
        text: Option<String>,
    },
    /// The worker, or its hold on the attempt, was lost.
    Lost(Loss),
    /// A person cancelled it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// A person cancelled it, and the worker did not stop it in time, so it was taken from the worker.
    CancelIgnored {
        /// Who.
        by: String,
        /// The worker.
        worker: WorkerName,
        /// How long the worker was given.
        after_us: i64,
    },
    /// A job that it starts after did not pass, so it never began.
    ParentFailed {
        /// That job.
        parent: Relative,
        /// How it ended.
        outcome: Outcome,
    },
    /// A job beside it did not pass.
    ParallelFailed {
        /// That job.
        relative: Relative,
        /// How it ended.
        outcome: Outcome,
    },
    /// Its slot went away before its turn in a direct chain came.
    SlotLost {
        /// The job before it.
        after: Relative,
    },
    /// It was started anew, or belonged to what was.
    Restarted {
        /// Who did it.
        by: String,
        /// The job that was to be started anew, if it was another one.
        through: Option<Relative>,
        /// What takes its place, if anything does.
        clone: Option<JobId>,
    },
    /// Something newer took its place.
    Obsoleted {
        /// What: for example `product run 12`.
        by: String,
    },
    /// What it needs cannot be had.
    NotAvailable {
        /// What, and why not.
        what: String,
    },
    /// A person has given it another result.
    Forced {
        /// Who.
        by: String,
        /// What it was.
        before: Outcome,
        /// Why.
        text: String,
    },
    /// A person has ended it with a result.
    SetDone {
        /// Who.
        by: String,
        /// Why.
        text: String,
    },
}

/// How an attempt was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The worker.
    pub worker: WorkerName,
    /// Its host.
    pub host: String,
    /// How far the attempt had come.
    pub phase: Phase,
    /// What happened.
    pub how: LostHow,
    /// What became of the job.
    pub then: AfterLoss,
}

/// What happened to a lost attempt's worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum LostHow {
    /// Nothing was heard of the worker.
    Silent {
        /// For so long.
        for_us: i64,
    },
    /// The worker lives and is connected, but does not name the attempt in its heartbeats any more.
    NotReported {
        /// For so long.
        for_us: i64,
    },
    /// The worker connected again and did not have the attempt any more.
    NotResumed,
}

/// What became of a job whose attempt was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum AfterLoss {
    /// It is tried again.
    Retried {
        /// The number of the next attempt.
        attempt: u32,
    },
    /// It has been lost too often.
    GivenUp {
        /// How many attempts there were.
        attempts: u32,
    },
    /// It was being cancelled anyway.
    Cancelled {
        /// By whom.
        by: String,
    },
    /// It is started anew with the jobs that it began with.
    Cloned,
}

fn seconds(us: i64) -> i64 {
    (us + 500_000) / 1_000_000
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported { text: Some(text) } => f.write_str(text),
            Self::Reported { text: None } => f.write_str("the worker gave no reason"),
            Self::Lost(loss) => loss.fmt(f),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            Self::CancelIgnored { by, worker, after_us } => write!(
                f,
                "cancelled by {by}; worker {worker} did not stop it within {} s, so it was taken from the worker",
                seconds(*after_us)
            ),
            Self::ParentFailed { parent, outcome } => {
                write!(f, "not started, because {parent} has to pass first and is {}", outcome.openqa())
            }
            Self::ParallelFailed { relative, outcome } => {
                write!(f, "ended, because {relative} beside it is {}", outcome.openqa())
            }
            Self::SlotLost { after } => {
                write!(f, "not started, because the slot on which it had to follow {after} was lost")
            }
            Self::Restarted { by, through, clone } => {
                match through {
                    Some(through) => write!(f, "ended, because {by} started {through} anew")?,
                    None => write!(f, "ended, because {by} started it anew")?,
                }
                match clone {
                    Some(clone) => write!(f, "; {clone} takes its place"),
                    None => Ok(()),
                }
            }
            Self::Obsoleted { by } => write!(f, "obsoleted by {by}"),
            Self::NotAvailable { what } => write!(f, "not started: {what}"),
            Self::Forced { by, before, text } => {
                write!(f, "the result was {} and has been changed by {by}", before.openqa())?;
                if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
            }
            Self::SetDone { by, text } => {
                write!(f, "ended with this result by {by}")?;
                if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, host, phase, how, then } = self;
        write!(f, "worker {worker} on {host} ")?;
        match how {
            LostHow::Silent { for_us } => {
                write!(f, "was lost: no sign of life for {} s while {phase}", seconds(*for_us))?;
            }
            LostHow::NotReported { for_us } => {
                write!(f, "lost the attempt: not reported for {} s while {phase}", seconds(*for_us))?;
            }
            LostHow::NotResumed => {
                write!(f, "re-connected but no longer runs the attempt, which was {phase}")?;
            }
        }
        match then {
            AfterLoss::Retried { attempt } => write!(f, "; retried as attempt {attempt}"),
            AfterLoss::GivenUp { attempts: 1 } => f.write_str("; not retried"),
            AfterLoss::GivenUp { attempts } => write!(f, "; not retried again after {attempts} attempts"),
            AfterLoss::Cancelled { by } => write!(f, "; not retried, because {by} had cancelled the job"),
            AfterLoss::Cloned => f.write_str("; started anew with its cluster"),
        }
    }
}

/// Why a worker's word about an attempt does not count (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FenceReason {
    /// It ended without this worker's report: lost, or taken away.
    #[error("attempt {attempt} was taken from this worker and has ended; its late results are refused")]
    Ended {
        /// Which.
        attempt: AttemptId,
    },
    /// The attempt is another's, or never was.
    #[error("attempt {attempt} is not held by this worker under that token; its results are refused")]
    NotHeld {
        /// Which.
        attempt: AttemptId,
    },
}

/// Why a worker is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// Another process with this name is connected.
    #[error(
        "a worker named {name} is already connected from host {host} for {for_s} s; stop that one, or give this one \
         another name with --name"
    )]
    NameConnected {
        /// The name.
        name: WorkerName,
        /// The other's host.
        host: String,
        /// For so many seconds.
        for_s: i64,
    },
    /// Another process with this name may still run something.
    #[error(
        "another process named {name} on host {host} may still run attempt {attempt}; this one is let in when that \
         lease ends in {left_s} s, or can use another name with --name"
    )]
    NameHolds {
        /// The name.
        name: WorkerName,
        /// The other's host.
        host: String,
        /// What it may still run.
        attempt: AttemptId,
        /// Seconds until its lease ends.
        left_s: i64,
    },
    /// It could never run anything.
    #[error("worker {name} offers no slot; start it with at least one")]
    NoSlots {
        /// The name.
        name: WorkerName,
    },
    /// It could never run anything.
    #[error("worker {name} offers no class; give it at least one with --class")]
    NoClasses {
        /// The name.
        name: WorkerName,
    },
}

impl HelloRefusal {
    /// True if the same worker may be let in later.
    pub fn retry(&self) -> bool {
        match self {
            Self::NameConnected { .. } | Self::NameHolds { .. } => true,
            Self::NoSlots { .. } | Self::NoClasses { .. } => false,
        }
    }
}

/// What is wrong with a posted job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJob {
    /// No `TEST`.
    #[error("there is no TEST setting; name the test, for example TEST=install")]
    NoTest,
    /// `TEST` has other characters than openQA allows.
    #[error("TEST={test:?} has a character that is not allowed; use letters, digits, space and ?_*.,:/#@+-")]
    Test {
        /// The value.
        test: String,
    },
    /// `WORKER_CLASS` is only commas and spaces.
    #[error("WORKER_CLASS names no class; name at least one, or leave it out for the default")]
    NoClass,
    /// A name that is no name.
    #[error(
        "{key:?} is not a setting's name; use one or more characters, none of them a space, `=` or invisible"
    )]
    Key {
        /// The name.
        key: String,
    },
    /// PostgreSQL cannot keep it.
    #[error("the value of {key} contains a NUL byte; leave it out")]
    NulByte {
        /// The setting.
        key: String,
    },
    /// Too much.
    #[error("the settings have {bytes} bytes, and {limit} are allowed; put large values into a file")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many may be.
        limit: usize,
    },
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One job of a request is wrong, so none was made.
    #[error("job {number} of the request: {problem}; no job was created")]
    BadJob {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        #[source]
        problem: BadJob,
    },
    /// The request named no job.
    #[error("the request has no job; post at least one")]
    NoJobs,
    /// The jobs of a request depend on each other in a way that cannot be.
    #[error("{0}; no job was created")]
    Impossible(#[from] Impossible),
    /// A parent that does not exist.
    #[error("job {number} of the request depends on job {parent}, which does not exist; no job was created")]
    NoParent {
        /// Which, from 1.
        number: usize,
        /// The parent.
        parent: JobId,
    },
    /// Beside or directly after a job that is past its beginning.
    #[error(
        "job {number} of the request {relation} job {parent}, which has begun already; post both together; no job was created"
    )]
    TooLate {
        /// Which, from 1.
        number: usize,
        /// What it wants to be.
        relation: Relation,
        /// The parent.
        parent: JobId,
    },
    /// There is no such job.
    #[error("there is no job {job}")]
    NoJob {
        /// Which.
        job: JobId,
    },
    /// Only what has ended can be dealt with like that.
    #[error("job {job}, or one that began together with it, has not ended; cancel it first")]
    StillOpen {
        /// Which.
        job: JobId,
    },
    /// Only while it waits.
    #[error("job {job} does not wait any more, so its priority means nothing")]
    NotWaiting {
        /// Which.
        job: JobId,
    },
    /// There is no such worker.
    #[error("there is no worker {worker}")]
    NoWorker {
        /// Which.
        worker: WorkerName,
    },
    /// Only a worker that is not connected and has nothing can be forgotten.
    #[error("worker {worker} is connected, or has jobs that have not ended")]
    WorkerBusy {
        /// Which.
        worker: WorkerName,
    },
    /// A restart that must not be.
    #[error("{0}")]
    Restart(#[from] crate::sched::restart::Refused),
    /// The gate's own.
    #[error(transparent)]
    Gate(#[from] crate::gate::reason::Refusal),
    /// Never was, or is final and forgotten: the store knows which.
    #[error("job {job} is not open: it has ended, or there is no such job")]
    NotOpen {
        /// Which.
        job: JobId,
    },
}

impl EndReason {
    /// True if the worker itself reported the end.
    pub fn is_report(&self) -> bool {
        match self {
            Self::Reported { .. } => true,
            Self::Lost(_)
            | Self::Cancelled { .. }
            | Self::CancelIgnored { .. }
            | Self::ParentFailed { .. }
            | Self::ParallelFailed { .. }
            | Self::SlotLost { .. }
            | Self::Restarted { .. }
            | Self::Obsoleted { .. }
            | Self::NotAvailable { .. }
            | Self::Forced { .. }
            | Self::SetDone { .. } => false,
        }
    }
}

/// The most characters of a text from outside that are kept in a reason.
const MAX_REASON_CHARS: usize = 1_000;

/// A text from outside, fit to be stored and shown in one line: no NUL or other invisible characters, not too long.
pub(crate) fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let text = text.trim();
    let mut kept: String = text.chars().take(MAX_REASON_CHARS).map(visible).collect();
    if text.chars().nth(MAX_REASON_CHARS).is_some() {
        kept.push('…');
    }
    kept
}
