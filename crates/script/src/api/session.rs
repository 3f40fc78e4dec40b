//! What a running test function carries: its host, and the watch over endless computation.

use crate::host::{Host, Limits};
use assay_proto::driver::{Call, CallError, CallErrorKind, Request, Source};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use starlark::any::ProvidesStaticType;
use starlark::codemap::FileSpan;
use starlark::eval::Evaluator;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Why the evaluation was interrupted from outside.
pub(crate) enum Stop {
    /// The host said so.
    Cancelled(CallError),
    /// No call to the machine for so long.
    Endless(Duration),
    /// More memory than allowed.
    Memory(usize),
}

/// State of one [`crate::Suite::run`], reached from native functions through `Evaluator::extra`.
#[derive(ProvidesStaticType)]
pub(crate) struct Session<'e> {
    host: RefCell<&'e mut dyn Host>,
    limits: Limits,
    /// When the machine was last asked something.
    last_call: Cell<Duration>,
    stop: RefCell<Option<Stop>>,
    /// The statement that was begun last: nothing else knows where an endless loop was.
    place: RefCell<Option<FileSpan>>,
}

impl<'e> Session<'e> {
    pub(crate) fn new(host: &'e mut dyn Host, limits: Limits) -> Self {
        let last_call = Cell::new(host.clock());
        Self {
            host: RefCell::new(host),
            limits,
            last_call,
            stop: RefCell::new(None),
            place: RefCell::new(None),
        }
    }

    /// The session of this evaluation; `None` while a file is only being loaded.
    pub(crate) fn of<'a>(eval: &Evaluator<'_, 'a, 'e>) -> Option<&'a Session<'e>> {
        eval.extra.and_then(|extra| extra.downcast_ref::<Session<'e>>())
    }

    /// Must the evaluation stop? Called by Starlark once in a thousand loop turns and calls.
    pub(crate) fn must_stop(&self) -> bool {
        let Ok(host) = self.host.try_borrow() else { return false };
        let silent = host.clock().saturating_sub(self.last_call.get());
        let stop = match host.cancelled() {
            Some(reason) => Stop::Cancelled(reason),
            None if silent > self.limits.compute => Stop::Endless(self.limits.compute),
            None => return false,
        };
        self.stop.replace(Some(stop));
        true
    }

    /// Before each statement: is memory left? Loops that double a text get here long before the thousandth turn.
    pub(crate) fn before_statement(&self, place: FileSpan, heap: usize) -> starlark::Result<()> {
        self.place.replace(Some(place));
        if heap > self.limits.heap {
            self.stop.replace(Some(Stop::Memory(self.limits.heap)));
            return Err(starlark::Error::new_native(CallError::usage("out of memory")));
        }
        Ok(())
    }

    pub(crate) fn take_stop(&self) -> Option<Stop> {
        self.stop.take()
    }

    pub(crate) fn place(&self) -> Option<Source> {
        self.place.borrow().as_ref().map(source)
    }

    pub(crate) fn clock(&self) -> Duration {
        self.host.borrow().clock()
    }

    fn call(&self, call: Call) -> Result<Json, CallError> {
        let mut host = self
            .host
            .try_borrow_mut()
            .map_err(|_| CallError::infrastructure("a call was made while another was being answered"))?;
        if let Some(reason) = host.cancelled() {
            return Err(reason);
        }
        let answer = host.call(call);
        self.last_call.set(host.clock());
        answer
    }
}

/// Where the author stands: innermost frame last.
pub(crate) fn stack(eval: &Evaluator<'_, '_, '_>) -> Vec<Source> {
    let frames = eval.call_stack().into_frames();
    frames.iter().filter_map(|frame| frame.location.as_ref()).map(source).collect()
}

/// File and line of a span.
pub(crate) fn source(span: &FileSpan) -> Source {
    let line = u32::try_from(span.resolve_span().begin.line).unwrap_or(u32::MAX).saturating_add(1);
    Source { file: span.filename().to_owned(), line }
}

/// Makes a request in the author's name `name`.
pub(super) fn ask(eval: &Evaluator<'_, '_, '_>, name: &str, request: Request) -> Result<Json, CallError> {
    let Some(session) = Session::of(eval) else {
        return Err(CallError::usage(format!("`{name}` needs a running machine; call it from `run`")));
    };
    session.call(Call { request, name: name.to_owned(), stack: stack(eval) })
}

/// As [`ask`], with the answer in the shape that the protocol promises.
pub(super) fn ask_for<T: DeserializeOwned>(
    eval: &Evaluator<'_, '_, '_>,
    name: &str,
    request: Request,
) -> Result<T, CallError> {
    let answer = ask(eval, name, request)?;
    serde_json::from_value(answer).map_err(|e| CallError {
        kind: CallErrorKind::Infrastructure,
        message: format!("the host's answer to `{name}` has the wrong shape: {e}"),
    })
}
