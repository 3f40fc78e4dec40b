//! Global names: `test`, `print`, and the types for annotations.

use super::machine::Machine;
use super::session::{Session, ask};
use super::values::{Area, FrozenAttempt, Match};
use crate::api::args::{display, raise};
use assay_proto::driver::{CallError, ModuleFlags, Request};
use starlark::any::ProvidesStaticType;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::float::UnpackFloat;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::tuple::UnpackTuple;
use starlark::values::type_repr::StarlarkTypeRepr;
use starlark::values::{UnpackValue, Value};
use std::cell::RefCell;
use std::sync::LazyLock;

/// What a module says of itself by `test(...)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declaration {
    pub(crate) name: Option<String>,
    pub(crate) flags: ModuleFlags,
    /// Seconds.
    pub(crate) timeout: Option<f64>,
}

/// Collects the declaration while a test file is loaded.
#[derive(Default, ProvidesStaticType)]
pub(crate) struct Loading {
    declaration: RefCell<Option<Declaration>>,
}

/// Runs `load` and answers what the file declared meanwhile.
pub(crate) fn declared<T>(load: impl FnOnce(&Loading) -> T) -> (T, Option<Declaration>) {
    let loading = Loading::default();
    let result = load(&loading);
    (result, loading.declaration.into_inner())
}

/// Everything that a test file can name without loading it.
pub(crate) fn globals() -> &'static Globals {
    static GLOBALS: LazyLock<Globals> = LazyLock::new(|| {
        GlobalsBuilder::extended_by(&[
            LibraryExtension::StructType,
            LibraryExtension::RecordType,
            LibraryExtension::EnumType,
            LibraryExtension::Map,
            LibraryExtension::Filter,
            LibraryExtension::Partial,
            LibraryExtension::Json,
            LibraryExtension::Typing,
            LibraryExtension::SetType,
        ])
        .with(test_globals)
        .build()
    });
    &GLOBALS
}

/// A number of seconds, or a text such as `"45m"`.
#[derive(StarlarkTypeRepr, UnpackValue)]
enum TimeoutArg {
    Text(String),
    Seconds(UnpackFloat),
}

/// Seconds from `"90"`, `"90s"`, `"45m"`, `"2h"`, or several of them: `"1h30m"`.
pub(crate) fn timeout_seconds(text: &str) -> Result<f64, String> {
    let wrong =
        || format!("{text:?} is not a time; write seconds, or a text such as \"90s\", \"45m\" or \"1h30m\"");
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].chars().next();
        total += number
            * match unit {
                None | Some('s') => 1.0,
                Some('m') => 60.0,
                Some('h') => 3600.0,
                Some(_) => return Err(wrong()),
            };
        rest = &rest[digits + unit.map_or(0, char::len_utf8)..];
    }
    valid_timeout(total)
}

/// A module's time: more than nothing, at most 30 days.
pub(crate) fn valid_timeout(seconds: f64) -> Result<f64, String> {
    if seconds > 0.0 && seconds <= 30.0 * 86_400.0 {
        Ok(seconds)
    } else {
        Err(format!(
            "a timeout of {seconds} seconds is impossible; it must be more than 0 and at most 30 days"
        ))
    }
}

#[starlark_module]
#[starlark_types(Machine as Machine, Match as Match, Area as Area, FrozenAttempt as Attempt)]
fn test_globals(builder: &mut GlobalsBuilder) {
    /// Declares the module; exactly once in each file of `tests/`.
    fn test<'v>(
        #[starlark(require = named, default = NoneOr::None)] name: NoneOr<String>,
        #[starlark(require = named, default = true)] fatal: bool,
        #[starlark(require = named, default = false)] ignore_failure: bool,
        #[starlark(require = named, default = false)] always_run: bool,
        #[starlark(require = named, default = NoneOr::None)] timeout: NoneOr<TimeoutArg>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let timeout = match timeout {
            NoneOr::None => None,
            NoneOr::Other(TimeoutArg::Text(text)) => Some(timeout_seconds(&text)),
            NoneOr::Other(TimeoutArg::Seconds(seconds)) => Some(valid_timeout(seconds.0)),
        };
        let timeout = timeout.transpose().map_err(|e| raise(CallError::usage(e)))?;
        let Some(loading) = eval.extra.and_then(|extra| extra.downcast_ref::<Loading>()) else {
            return Err(raise(CallError::usage(
                "`test` declares a module; call it at the top of a file in tests/",
            )));
        };
        let flags = ModuleFlags { fatal, ignore_failure, always_run };
        let declaration = Declaration { name: name.into_option(), flags, timeout };
        if loading.declaration.replace(Some(declaration)).is_some() {
            return Err(raise(CallError::usage("`test` was called twice; a file is one module")));
        }
        Ok(NoneType)
    }

    /// Writes a line to the log, as `t.diag` does.
    fn print<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let words: Vec<String> = args.items.into_iter().map(display).collect();
        if Session::of(eval).is_some() {
            ask(eval, "print", Request::Diag { message: words.join(" ") }).map_err(raise)?;
        }
        Ok(NoneType)
    }
}
