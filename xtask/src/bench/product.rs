//! The program under measurement.

use super::clock;
use super::grub::Reference;
use super::latency;
use super::proc::{Cost, Tree};
use super::scratch::Scratch;
use crate::tools;
use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::process::{Command, Stdio};

/// The release binary and the data directory that its runs share.
pub(super) struct Product {
    program: Utf8PathBuf,
    scratch: Scratch,
}

impl Product {
    /// Builds the release program, or takes `program`.
    pub(super) fn new(program: Option<&Utf8Path>) -> Result<Self> {
        let program = if let Some(program) = program {
            program.canonicalize_utf8()?
        } else {
            eprintln!("building the release program");
            tools::succeed(tools::cargo()?.args(["build", "--release", "--quiet", "--package", "assay"]))?;
            let target = std::env::var("CARGO_TARGET_DIR")
                .map_or_else(|_| tools::root().map(|r| r.join("target")), |dir| Ok(dir.into()))?;
            target.join("release/assay")
        };
        Ok(Self { program, scratch: Scratch::new()? })
    }

    /// A data directory: probes of the host are kept there from run to run, as for any user.
    pub(super) fn data(&self) -> Utf8PathBuf {
        self.scratch.path("data")
    }

    /// A name that was not used before.
    pub(super) fn fresh(&self, name: &str) -> Utf8PathBuf {
        self.scratch.path(&format!("{name}-{}", clock::unix_us()))
    }

    /// The same in memory, where the disk takes no time.
    pub(super) fn fresh_in_memory(&self, name: &str) -> Utf8PathBuf {
        self.scratch.in_memory(&format!("{name}-{}", clock::unix_us()))
    }

    pub(super) fn command(&self, data: &Utf8Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("ASSAY_SERVER").env_remove("ASSAY_TOKEN").env("ASSAY_DATA", data);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn run_command(&self, example: &Utf8Path, out: &Utf8Path, append: Option<&str>) -> Command {
        let mut command =
            self.command(&self.data(), &["run", example.as_str(), "--out", out.as_str(), "--json"]);
        command.args(append.map(|append| format!("QEMU_APPEND={append}")));
        command.stdout(Stdio::null());
        command
    }

    /// One `assay run`; `watched`: with its costs, else with its time only.
    pub(super) fn run(&self, example: &Utf8Path, watched: bool) -> Result<Cost> {
        let out = self.fresh("run");
        let tree = Tree::start(&mut self.run_command(example, &out, None))?;
        let cost = if watched { tree.watch()? } else { tree.wait()? };
        if !cost.success {
            let result = fs_err::read_to_string(out.join("result.json")).unwrap_or_default();
            bail!("`assay run {example}` did not pass: {result}");
        }
        fs_err::remove_dir_all(&out)?;
        Ok(cost)
    }

    /// Delays of all waits of one run, seconds.
    pub(super) fn delays(&self, example: &Utf8Path, references: &[Reference]) -> Result<Vec<f64>> {
        let out = self.fresh("observed");
        let (shown, steps) = latency::observe(references, &out.join("steps.jsonl"), |append| {
            Ok(self.run_command(example, &out, Some(append)))
        })?;
        latency::delays(&shown, &latency::returned(&steps)?)
    }
}
