//! What Python writes with `try` and `while`: `attempt`, `until`, `retry`, and waiting around an action.

use super::args::{raise, seconds};
use super::session::{Session, ask_for};
use super::values::{Attempt, AttemptGen};
use assay_proto::driver::{CallError, CallErrorKind, Request};
use starlark::ErrorKind;
use starlark::eval::Evaluator;
use starlark::values::Value;
use starlark::values::float::UnpackFloat;
use starlark::values::typing::StarlarkCallable;
use std::time::Duration;

/// The protocol's error inside a Starlark error, if it is one of the machine's or of `fail()`.
pub(crate) fn call_error(error: &starlark::Error) -> Option<CallError> {
    match error.kind() {
        ErrorKind::Native(inner) | ErrorKind::Other(inner) => inner.downcast_ref::<CallError>().cloned(),
        ErrorKind::Fail(inner) => Some(CallError::failed(inner.to_string().trim())),
        _ => None,
    }
}

fn run<'v>(eval: &mut Evaluator<'v, '_, '_>, function: StarlarkCallable<'v>) -> starlark::Result<Value<'v>> {
    eval.eval_function(function.0, &[], &[])
}

/// The failure that a test may catch; anything else goes on.
fn caught(error: starlark::Error, kinds: &[CallErrorKind]) -> starlark::Result<CallError> {
    match call_error(&error) {
        Some(inner) if kinds.contains(&inner.kind) => Ok(inner),
        _ => Err(error),
    }
}

pub(super) fn attempt<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    function: StarlarkCallable<'v>,
) -> starlark::Result<Attempt<'v>> {
    match run(eval, function) {
        Ok(value) => Ok(AttemptGen::new(value, None)),
        Err(error) => {
            let error = caught(error, &[CallErrorKind::Failed, CallErrorKind::Usage])?;
            Ok(AttemptGen::new(Value::new_none(), Some(error.message)))
        }
    }
}

/// Only a failed expectation is worth another try: a wrong call stays wrong.
pub(super) fn retry<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    n: i64,
    function: StarlarkCallable<'v>,
) -> starlark::Result<Value<'v>> {
    if n < 1 {
        return Err(raise(CallError::usage(format!("`n` is {n}; `retry` runs the function at least once"))));
    }
    for _ in 1..n {
        match run(eval, function) {
            Ok(value) => return Ok(value),
            Err(error) => caught(error, &[CallErrorKind::Failed])?,
        };
    }
    run(eval, function)
}

/// The screen is remembered before the function looks, so that a change meanwhile wakes the wait at once.
pub(super) fn until<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    function: StarlarkCallable<'v>,
    timeout: &UnpackFloat,
    interval: &UnpackFloat,
) -> starlark::Result<Value<'v>> {
    let timeout = seconds("timeout", timeout).map_err(raise)?;
    // A pause of nothing would ask the machine without rest.
    let interval = seconds("interval", interval).map_err(raise)?.max(0.01);
    let Some(session) = Session::of(eval) else {
        return Err(raise(CallError::usage("`until` needs a running machine; call it from `run`")));
    };
    let deadline = session.clock() + Duration::from_secs_f64(timeout);
    loop {
        let reference: u64 = ask_for(eval, "until", Request::ScreenReference {}).map_err(raise)?;
        let value = run(eval, function)?;
        if value.to_bool() {
            return Ok(value);
        }
        let left = deadline.saturating_sub(session.clock()).as_secs_f64();
        if left <= 0.0 {
            let message = format!("what `until` waits for did not come true within {timeout} s");
            return Err(raise(CallError::failed(message)));
        }
        let request = Request::WaitScreenChange {
            reference: Some(reference),
            timeout: left.min(interval),
            similarity_level: 50.0,
        };
        ask_for::<bool>(eval, "until", request).map_err(raise)?;
    }
}

pub(super) fn screen_change<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    name: &str,
    action: Option<StarlarkCallable<'v>>,
    timeout: &UnpackFloat,
    similarity_level: &UnpackFloat,
) -> starlark::Result<bool> {
    let timeout = seconds("timeout", timeout).map_err(raise)?;
    let similarity_level = similarity_level.0;
    let reference = match action {
        None => None,
        Some(action) => {
            let reference: u64 = ask_for(eval, name, Request::ScreenReference {}).map_err(raise)?;
            run(eval, action)?;
            Some(reference)
        }
    };
    let request = match name {
        "assert_screen_change" => Request::AssertScreenChange { reference, timeout, similarity_level },
        _ => Request::WaitScreenChange { reference, timeout, similarity_level },
    };
    ask_for(eval, name, request).map_err(raise)
}

/// A variable's value.
pub(super) fn variable(
    eval: &Evaluator<'_, '_, '_>,
    call: &str,
    name: &str,
    default: Option<String>,
) -> Result<Option<String>, CallError> {
    ask_for(eval, call, Request::GetVar { name: name.to_owned(), default })
}

/// A variable's value, cut at commas and semicolons as openQA does.
pub(super) fn variable_list(
    eval: &Evaluator<'_, '_, '_>,
    call: &str,
    name: &str,
) -> Result<Vec<String>, CallError> {
    let value = variable(eval, call, name, None)?.unwrap_or_default();
    Ok(value.split([',', ';']).filter(|part| !part.is_empty()).map(str::to_owned).collect())
}
