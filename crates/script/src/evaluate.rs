//! Runs a function of a Starlark module against a host.

use crate::api::{Machine, Session, Stop, call_error, source};
use crate::host::{Function, Host, Limits, RunError, TestErrorKind};
use crate::parse::one_line;
use assay_proto::driver::{CallError, CallErrorKind, Source};
use starlark::ErrorKind;
use starlark::codemap::FileSpanRef;
use starlark::environment::{FrozenModule, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Hangs the watch over memory before every statement.
struct Watch;

impl<'e> BeforeStmtFuncDyn<'e> for Watch {
    fn call<'v>(
        &mut self,
        span: FileSpanRef<'_>,
        _continued: bool,
        eval: &mut Evaluator<'v, '_, 'e>,
    ) -> starlark::Result<()> {
        match Session::of(eval) {
            Some(session) => session.before_statement(span.to_file_span(), eval.heap().allocated_bytes()),
            None => Ok(()),
        }
    }
}

pub(crate) fn run(
    code: &FrozenModule,
    function: Function,
    host: &mut dyn Host,
    limits: Limits,
) -> Result<(), RunError> {
    let session = Session::new(host, limits);
    let Ok(function) = code.get(function.name()) else {
        return Err(bug(format!("the module has no function `{}`", function.name()), None, String::new()));
    };
    Module::with_temp_heap(|module| {
        let mut eval = Evaluator::new(&module);
        eval.extra = Some(&session);
        eval.set_check_cancelled(Box::new(|| session.must_stop()));
        let set =
            eval.set_max_callstack_size(limits.depth).and_then(|()| eval.set_max_heap_size(limits.heap));
        set.map_err(|e| bug(e.to_string(), None, String::new()))?;
        eval.before_stmt_for_dap(BeforeStmtFunc::from_dyn(Box::new(Watch)));
        let machine = eval.heap().alloc(Machine);
        let function = eval.heap().access_owned_frozen_value(&function);
        // The interpreter panics where a single operation wants more memory than there are addresses.
        let result = catch_unwind(AssertUnwindSafe(|| eval.eval_function(function, &[machine], &[])));
        drop(eval);
        let Ok(result) = result else {
            let place = session.place();
            let message = format!("the interpreter itself failed{}", at(place.as_ref()));
            return Err(bug(message, place, String::new()));
        };
        result.map(|_| ()).map_err(|error| run_error(&session, &error, limits))
    })
}

fn bug(message: String, source_line: Option<Source>, backtrace: String) -> RunError {
    RunError::Test { message, source_line, backtrace, kind: TestErrorKind::TestBug }
}

fn run_error(session: &Session<'_>, error: &starlark::Error, limits: Limits) -> RunError {
    let backtrace = error.to_string();
    let place = error.span().map(source).or_else(|| session.place());
    match session.take_stop() {
        Some(Stop::Cancelled(error)) => return RunError::Call { error, backtrace },
        Some(Stop::Endless(time)) => {
            let seconds = time.as_secs_f64();
            let message = format!(
                "computed for {seconds} s without a call to the machine; is there an endless loop?{}",
                at(place.as_ref())
            );
            return bug(message, place, backtrace);
        }
        Some(Stop::Memory(bytes)) => {
            return bug(out_of_memory(bytes) + &at(place.as_ref()), place, backtrace);
        }
        None => {}
    }
    if let Some(error) = call_error(error) {
        return match error.kind {
            CallErrorKind::Cancelled | CallErrorKind::Infrastructure => RunError::Call { error, backtrace },
            CallErrorKind::Usage => bug(error.message, place, backtrace),
            CallErrorKind::Failed => {
                let CallError { message, .. } = error;
                RunError::Test { message, source_line: place, backtrace, kind: TestErrorKind::Failed }
            }
        };
    }
    let text = one_line(&error.without_diagnostic().to_string());
    let message = match error.kind() {
        ErrorKind::StackOverflow(_) => {
            let depth = limits.depth;
            format!(
                "calls are nested more than {depth} deep; does a function call itself without end?{}",
                at(place.as_ref())
            )
        }
        _ if text.starts_with("Heap memory limit") => out_of_memory(limits.heap) + &at(place.as_ref()),
        _ => text,
    };
    bug(message, place, backtrace)
}

fn at(place: Option<&Source>) -> String {
    place.map(|place| format!(" ({}:{})", place.file, place.line)).unwrap_or_default()
}

fn out_of_memory(bytes: usize) -> String {
    format!("the test needs more than {} MiB of memory; does a list or a text grow without end?", bytes >> 20)
}
