//! Test modules: a Starlark host with a static check, and the host side of the JSON-lines driver protocol.
//!
//! [`Suite::load`] reads a test directory and checks all of it before a machine boots; [`Suite::run`] runs a function
//! of a module and asks a [`Host`] for everything that the test wants from its machine.
#![warn(missing_docs)]

mod api;
mod check;
mod depth;
mod evaluate;
mod external;
mod host;
mod layout;
mod parse;
mod reference;
mod suggest;
mod suite;
mod walk;
mod words;

pub use check::{Checks, LiteralCheck, TagUse};
pub use external::{External, PYTHON_CLIENT, Sandbox, UNSANDBOXED};
pub use host::{Function, Host, Limits, RunError, TestErrorKind};
pub use reference::api_reference;
pub use suggest::nearest;
pub use suite::{Module, Suite};

/// Bytes of stack that a thread needs to call [`Suite::run`]: nested Starlark calls are nested native calls.
pub const STACK_SIZE: usize = 8 << 20;
