//! The machine's methods that are about the jobs beside this one: openQA's `lockapi` and `mmapi`.
#![expect(unused_variables, reason = "starlark finds the receiver by the name `this`")]

use super::args::{raise, seconds, small};
use super::machine::{Machine, tell, yes_no};
use super::session::ask_for;
use assay_proto::driver::{CallError, JobId, JobInState, LockOp, Request};
use starlark::collections::SmallMap;
use starlark::environment::MethodsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::float::UnpackFloat;
use starlark::values::none::{NoneOr, NoneType};

type Limit = NoneOr<UnpackFloat>;

fn limit(timeout: Limit) -> Result<Option<f64>, CallError> {
    timeout.into_option().map(|timeout| seconds("timeout", &timeout)).transpose()
}

fn lock(lock: LockOp, timeout: Limit) -> Result<Request, CallError> {
    Ok(Request::Lock { lock, timeout: limit(timeout)? })
}

fn owner(job: NoneOr<i64>) -> Option<JobId> {
    job.into_option().map(JobId)
}

/// Asks for jobs: their numbers and states.
fn jobs(eval: &Evaluator<'_, '_, '_>, name: &str, request: Request) -> starlark::Result<Vec<JobInState>> {
    ask_for(eval, name, request).map_err(raise)
}

fn info(eval: &Evaluator<'_, '_, '_>, name: &str, job: i64) -> starlark::Result<serde_json::Value> {
    ask_for(eval, name, Request::GetJobInfo { job }).map_err(raise)
}

#[starlark_module]
pub(super) fn cluster_methods(builder: &mut MethodsBuilder) {
    /// Makes a mutex that nobody holds yet.
    fn mutex_create<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mutex_create", lock(LockOp::MutexCreate { name }, NoneOr::None))
    }

    /// Waits until the mutex is there and free, and takes it; `job` means only one that this job has made.
    fn mutex_lock<'v>(
        this: &'v Machine,
        name: String,
        #[starlark(default = NoneOr::None)] job: NoneOr<i64>,
        #[starlark(default = NoneOr::None)] timeout: Limit,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mutex_lock", lock(LockOp::MutexLock { name, owner: owner(job) }, timeout))
    }

    /// Takes the mutex if it is there and free; says whether.
    fn mutex_try_lock<'v>(
        this: &'v Machine,
        name: String,
        #[starlark(default = NoneOr::None)] job: NoneOr<i64>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        yes_no(eval, "mutex_try_lock", lock(LockOp::MutexTryLock { name, owner: owner(job) }, NoneOr::None))
    }

    /// Gives the mutex back.
    fn mutex_unlock<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mutex_unlock", lock(LockOp::MutexUnlock { name }, NoneOr::None))
    }

    /// Waits until the mutex is there and free, and leaves it so.
    fn mutex_wait<'v>(
        this: &'v Machine,
        name: String,
        #[starlark(default = NoneOr::None)] job: NoneOr<i64>,
        #[starlark(default = NoneOr::None)] timeout: Limit,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mutex_wait", lock(LockOp::MutexWait { name, owner: owner(job) }, timeout))
    }

    /// Makes a barrier that so many jobs have to come to.
    fn barrier_create<'v>(
        this: &'v Machine,
        name: String,
        tasks: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let request =
            small("tasks", tasks).and_then(|tasks| lock(LockOp::BarrierCreate { name, tasks }, NoneOr::None));
        tell(eval, "barrier_create", request)
    }

    /// Waits until the barrier is there and all have come; with `check_dead_job` fails once one of the jobs has ended.
    fn barrier_wait<'v>(
        this: &'v Machine,
        name: String,
        #[starlark(default = NoneOr::None)] job: NoneOr<i64>,
        #[starlark(default = false)] check_dead_job: bool,
        #[starlark(default = NoneOr::None)] timeout: Limit,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let barrier = LockOp::BarrierWait { name, owner: owner(job), check_dead_job };
        tell(eval, "barrier_wait", lock(barrier, timeout))
    }

    /// Passes the barrier if this is the last that it waits for; says whether.
    fn barrier_try_wait<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        yes_no(eval, "barrier_try_wait", lock(LockOp::BarrierTryWait { name }, NoneOr::None))
    }

    /// Removes the barrier.
    fn barrier_destroy<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "barrier_destroy", lock(LockOp::BarrierDestroy { name }, NoneOr::None))
    }

    /// The jobs that run in parallel with this one as its children: their states by number.
    fn get_children<'v>(
        this: &'v Machine,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<SmallMap<i64, String>> {
        let jobs = jobs(eval, "get_children", Request::GetChildren {})?;
        Ok(jobs.into_iter().map(|job| (job.id.0, job.state)).collect())
    }

    /// The numbers of those children that are `scheduled`, `running` or `done`.
    fn get_children_by_state<'v>(
        this: &'v Machine,
        state: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<i64>> {
        let jobs = jobs(eval, "get_children_by_state", Request::GetChildrenByState { state })?;
        Ok(jobs.into_iter().map(|job| job.id.0).collect())
    }

    /// The numbers of the jobs that this one runs in parallel with as their child.
    fn get_parents<'v>(this: &'v Machine, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Vec<i64>> {
        let jobs = jobs(eval, "get_parents", Request::GetParents {})?;
        Ok(jobs.into_iter().map(|job| job.id.0).collect())
    }

    /// A job's `id`, `name`, `test`, `state`, `result`, `settings`, and `url`, its address in the server's API.
    fn get_job_info<'v>(
        this: &'v Machine,
        job: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let info = info(eval, "get_job_info", job)?;
        Ok(eval.heap().alloc(info))
    }

    /// A job's settings, secrets left out.
    fn get_job_autoinst_vars<'v>(
        this: &'v Machine,
        job: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let info = info(eval, "get_job_autoinst_vars", job)?;
        Ok(eval.heap().alloc(info["settings"].clone()))
    }

    /// A job's address in the server's API, where openQA has that of its worker: what is there has its settings too.
    fn get_job_autoinst_url<'v>(
        this: &'v Machine,
        job: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneOr<String>> {
        let info = info(eval, "get_job_autoinst_url", job)?;
        Ok(NoneOr::from_option(info["url"].as_str().map(str::to_owned)))
    }

    /// Waits until each child has ended.
    fn wait_for_children<'v>(
        this: &'v Machine,
        #[starlark(default = NoneOr::None)] timeout: Limit,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let request = limit(timeout).map(|timeout| Request::WaitForChildren { timeout });
        tell(eval, "wait_for_children", request)
    }

    /// Waits until no child has yet to start.
    fn wait_for_children_to_start<'v>(
        this: &'v Machine,
        #[starlark(default = NoneOr::None)] timeout: Limit,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let request = limit(timeout).map(|timeout| Request::WaitForChildrenToStart { timeout });
        tell(eval, "wait_for_children_to_start", request)
    }

    /// This job's number; `None` in a run without a server.
    fn get_current_job_id<'v>(
        this: &'v Machine,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneOr<i64>> {
        let id: Option<i64> =
            ask_for(eval, "get_current_job_id", Request::GetCurrentJobId {}).map_err(raise)?;
        Ok(NoneOr::from_option(id))
    }
}
