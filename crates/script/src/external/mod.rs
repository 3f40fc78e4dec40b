//! Modules in other languages: a program of its own that speaks the driver protocol over its standard streams.

mod conversation;
mod decorators;
mod lines;
mod program;
mod sandbox;

pub(crate) use decorators::declaration;

use crate::host::{Function, Host, RunError, TestErrorKind};
use crate::suite::Module;
use assay_proto::diagnostic::Diagnostic;
use assay_proto::driver::CallError;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;

/// The Python client, as it is given to every Python module.
pub const PYTHON_CLIENT: &str = include_str!("../../python/assay.py");

/// Set to `1`, this variable of the environment lets [`External::from_env`] leave the sandbox out.
pub const UNSANDBOXED: &str = "ASSAY_UNSANDBOXED";

/// What keeps the program from the rest of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// bubblewrap: no network, the system and the suite read-only, an empty `/tmp`, a clean environment.
    #[default]
    Bubblewrap,
    /// Nothing but a clean environment. Only for tests that are trusted as the worker itself.
    Unsandboxed,
}

/// How modules in other languages are run.
#[derive(Debug, Clone, Default)]
pub struct External {
    /// An existing directory of the worker's own, in which the Python client is written as `assay.py`. Without it no
    /// such module can run.
    pub client_dir: Option<Utf8PathBuf>,
    /// What surrounds the program.
    pub sandbox: Sandbox,
}

impl External {
    /// With this directory for the client, in a sandbox unless [`UNSANDBOXED`] is `1`.
    pub fn from_env(client_dir: impl Into<Utf8PathBuf>) -> Self {
        let unsandboxed = std::env::var(UNSANDBOXED).is_ok_and(|value| value == "1");
        let sandbox = if unsandboxed { Sandbox::Unsandboxed } else { Sandbox::Bubblewrap };
        Self { client_dir: Some(client_dir.into()), sandbox }
    }
}

/// Runs a function of the module in a fresh process.
pub(crate) fn run(
    root: &Utf8Path,
    module: &Module,
    function: Function,
    host: &mut dyn Host,
    external: &External,
) -> Result<(), RunError> {
    conversation::Conversation::open(root, module, host, external)?.run(function)
}

/// Starts the module's program up to its `ready`, and ends it again.
pub(crate) fn probe(root: &Utf8Path, module: &Module, external: &External) -> Result<(), Diagnostic> {
    let mut nobody = Nobody(Duration::ZERO.into());
    let Err(failure) = conversation::Conversation::open(root, module, &mut nobody, external) else {
        return Ok(());
    };
    let found = |code: &str, message: String| Diagnostic::error(code, module.file.as_str(), message);
    Err(match failure {
        RunError::Test { message, source_line, kind, .. } => {
            let code = if kind == TestErrorKind::TestBug { "load" } else { "failed" };
            let found = found(code, message);
            match source_line {
                Some(source) => Diagnostic { file: source.file, ..found }.at(source.line, 0),
                None => found,
            }
        }
        RunError::Call { error, .. } => found("driver", error.message),
        RunError::Driver { message, .. } => found("driver", message),
    })
}

/// The host of a probe: there is no machine, and time passes as the probe waits.
struct Nobody(std::cell::Cell<Duration>);

impl Host for Nobody {
    fn call(&mut self, _: assay_proto::driver::Call) -> Result<serde_json::Value, CallError> {
        Err(CallError::usage("there is no machine yet; call it from `run`"))
    }

    fn cancelled(&self) -> Option<CallError> {
        self.0.set(self.0.get() + conversation::PATIENCE);
        None
    }

    fn clock(&self) -> Duration {
        self.0.get()
    }
}
