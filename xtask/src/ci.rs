//! What every change must pass, here as in CI.

use crate::{check_deps, links, machine_paths, tools};
use anyhow::{Result, bail};

/// Runs every check, also after one failed, and names those that did.
pub(crate) fn run(with_tests: bool) -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |name: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("== {name}: {error:#}");
            failed.push(name.to_owned());
        }
    };
    check("format", step("format", &["fmt", "--all", "--", "--check"]));
    check("crate edges", check_deps::run());
    check("links", links::run());
    check("machine paths", machine_paths::run());
    check("licences and bans", deny());
    check(
        "lints",
        step("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    if with_tests {
        check("tests", tests());
    }
    if failed.is_empty() {
        println!("ci: all well");
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn step(name: &str, arguments: &[&str]) -> Result<()> {
    eprintln!("== {name}");
    tools::succeed(tools::cargo()?.args(arguments))
}

/// Advisories need the network and change by the day: `cargo deny check advisories` is for people and timers.
fn deny() -> Result<()> {
    if !tools::works(tools::cargo()?.args(["deny", "--version"])) {
        eprintln!(
            "== licences and bans: not checked, cargo-deny is not installed (cargo install --locked cargo-deny)"
        );
        return Ok(());
    }
    step("licences and bans", &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

fn tests() -> Result<()> {
    if tools::works(tools::cargo()?.args(["nextest", "--version"])) {
        return step("tests", &["nextest", "run", "--workspace", "--no-fail-fast"]);
    }
    step("tests", &["test", "--quiet", "--workspace", "--no-fail-fast"])
}
