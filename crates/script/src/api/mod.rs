//! What a Starlark test sees: `test()`, `print()`, the types, and the machine.
#![expect(
    unsafe_code,
    reason = "starlark's derive macros implement its unsafe marker traits; none is written here"
)]
#![expect(
    clippy::elidable_lifetime_names,
    clippy::no_effect_underscore_binding,
    clippy::too_many_arguments,
    clippy::unnecessary_wraps,
    reason = "starlark's macros want these lifetimes and results, and testapi's calls have these arguments"
)]

mod args;
mod cluster;
mod flow;
mod globals;
mod machine;
mod session;
mod values;

pub(crate) use flow::call_error;
pub(crate) use globals::{Declaration, Loading, declared, globals, timeout_seconds, valid_timeout};
pub(crate) use machine::Machine;
pub(crate) use session::{Session, Stop, source};

use starlark::docs::DocType;

/// Starlark's own account of the machine's methods: names, parameters, types, summaries.
pub(crate) fn machine_docs() -> DocType {
    DocType::from_starlark_value::<Machine>()
}
