//! Calls about the jobs beside this one: the server answers them.

use super::session::{Answer, Origin, Session};
use assay_engine::ids::JobId;
use assay_engine::locks::LockOp;
use assay_proto::driver::CallError;
use assay_proto::worker::{Question, Reply};
use assay_records::step::StepResult;
use serde_json::{Value, json};

impl Session {
    /// A mutex or a barrier. What is done or waited for becomes a step.
    pub(super) async fn lock(&mut self, lock: LockOp, timeout: Option<f64>, origin: &Origin) -> Answer {
        let (what, tries) = told(&lock);
        let reply = self.ask(Question::Lock { lock }, timeout).await?;
        let took = format!("{:.1} s", origin.began.elapsed().as_secs_f64());
        match reply {
            Some(Reply::Yes) => self.note(origin, &format!("{what}: done after {took}")),
            Some(Reply::No) if tries => self.note(origin, &format!("{what}: not now")),
            Some(Reply::Refused { why }) => return Err(CallError::failed(format!("{what}: {why}"))),
            None => {
                let seconds = timeout.unwrap_or_default();
                return Err(CallError::failed(format!("{what}: it did not come to be within {seconds} s")));
            }
            Some(other) => return Err(unexpected(&other)),
        }
        Ok(json!(reply == Some(Reply::Yes)))
    }

    pub(super) async fn wait_for_children(
        &mut self,
        question: Question,
        timeout: Option<f64>,
        origin: &Origin,
    ) -> Answer {
        match self.ask(question, timeout).await? {
            Some(Reply::Yes) => {
                let took = origin.began.elapsed().as_secs_f64();
                self.note(origin, &format!("the children are there after {took:.1} s"));
                Ok(Value::Bool(true))
            }
            Some(Reply::Refused { why }) => Err(CallError::failed(why)),
            None => {
                let seconds = timeout.unwrap_or_default();
                Err(CallError::failed(format!("the children are not so far within {seconds} s")))
            }
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Jobs as objects with `id` and `state`.
    pub(super) async fn jobs(&mut self, question: Question) -> Answer {
        match self.ask(question, None).await? {
            Some(Reply::Jobs { jobs }) => Ok(json!(jobs)),
            Some(Reply::Refused { why }) => Err(CallError::usage(why)),
            other => {
                Err(other
                    .map_or_else(|| CallError::infrastructure("no answer came"), |other| unexpected(&other)))
            }
        }
    }

    pub(super) async fn job_info(&mut self, job: i64) -> Answer {
        match self.ask(Question::JobInfo { job: JobId(job) }, None).await? {
            Some(Reply::Job { job }) => {
                let server = self.cluster.as_ref().and_then(|cluster| cluster.server.resolve().ok());
                let mut told = json!(job);
                told["url"] = json!(server.map(|server| format!("{server}/api/v1/jobs/{}", job.id)));
                Ok(told)
            }
            Some(Reply::Refused { why }) => Err(CallError::failed(why)),
            other => {
                Err(other
                    .map_or_else(|| CallError::infrastructure("no answer came"), |other| unexpected(&other)))
            }
        }
    }

    async fn ask(&mut self, question: Question, timeout: Option<f64>) -> Result<Option<Reply>, CallError> {
        let Some(cluster) = &self.cluster else {
            return Err(CallError::usage(
                "this run has no server, which is what jobs talk to each other through; post the job with \
                 `assay job post`",
            ));
        };
        let limit = timeout.map(|seconds| self.seconds(seconds));
        Ok(cluster.questions.ask(question, limit).await)
    }

    fn note(&self, origin: &Origin, text: &str) {
        self.rec.text(&origin.name, origin.source.clone(), StepResult::Ok, &origin.name, text);
    }
}

fn unexpected(reply: &Reply) -> CallError {
    CallError::infrastructure(format!("the server gave an answer that does not fit: {reply:?}"))
}

/// The lock in words, and whether it may be that it is not to be had now.
fn told(lock: &LockOp) -> (String, bool) {
    let name = lock.name();
    match lock {
        LockOp::BarrierCreate { tasks, .. } => (format!("barrier {name} for {tasks} jobs"), false),
        LockOp::BarrierTryWait { .. } => (format!("barrier {name}"), true),
        LockOp::BarrierWait { .. } | LockOp::BarrierDestroy { .. } => (format!("barrier {name}"), false),
        LockOp::MutexTryLock { .. } => (format!("mutex {name}"), true),
        LockOp::MutexCreate { .. }
        | LockOp::MutexLock { .. }
        | LockOp::MutexUnlock { .. }
        | LockOp::MutexWait { .. } => (format!("mutex {name}"), false),
    }
}
