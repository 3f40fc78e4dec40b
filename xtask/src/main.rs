//! Chores of the workspace: `cargo xtask ci`, `check-deps` and `bench`.
#![expect(clippy::print_stdout, reason = "this program talks to people")]

mod bench;
mod check_deps;
mod ci;
mod links;
mod machine_paths;
mod tools;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
Chores of the workspace.

cargo xtask ci [--no-tests]       format, lints, crate edges, licences, links, then the tests
cargo xtask check-deps            refuse forbidden edges between crates
cargo xtask bench run [OPTIONS]   measure what docs/performance.md claims
cargo xtask bench gate [OPTIONS]  from an event to running jobs; --json, --check, --assay PROGRAM
cargo xtask bench import [OPTIONS] a Zuul layout; --json, --check, --runs N (11), --assay PROGRAM
cargo xtask bench results [OPTIONS] results posted and asked for, decisions; --json, --check, --count N, --stored N,
                                    --assay PROGRAM
cargo xtask bench product [OPTIONS] products, jobs and thousands of them; --json, --check, --only A,B, --memory, --assay PROGRAM
cargo xtask bench events [OPTIONS]  AMQP to jobs by 500 rules, and the proof with kills; --json, --check, --undisturbed N, --events N,
                          --kills N, --broker-kills N
cargo xtask bench step [OPTIONS]  one decision with 500 changes in a queue; --json, --check
cargo xtask bench days [OPTIONS]  simulated days of a gate; --json, --check, --assay PROGRAM
cargo xtask bench merge [OPTIONS] speculative merges in a large repository; --json, --check, --changes N (100)

Options of bench run:
  --json          one JSON document on stdout instead of the table
  --check         exit 1 if a figure is missed
  --runs N        timed runs of each side (7)
  --only A,B      parts: wall, latency, cost, server, jobs, isotovideo
  --assay FILE    measure this program instead of building the release one
  --example DIR   the GRUB test with its needles (examples/grub)
  --hold MS       how long the minimal driver holds a key (see docs/performance.md)";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["-h" | "--help" | "help"] => println!("{HELP}"),
        ["ci"] => ci::run(true)?,
        ["ci", "--no-tests"] => ci::run(false)?,
        ["check-deps"] => check_deps::run()?,
        ["bench", "run", options @ ..] => bench::run(options)?,
        ["bench", "gate", options @ ..] => bench::gate::run(options)?,
        ["bench", "import", options @ ..] => bench::import::run(options)?,
        ["bench", "product", options @ ..] => bench::scheduling::run(options)?,
        ["bench", "events", options @ ..] => bench::events::run(options)?,
        ["bench", "results", options @ ..] => bench::results::run(options)?,
        ["bench", "step", options @ ..] => bench::step::run(options)?,
        ["bench", "days", options @ ..] => bench::step::days(options)?,
        ["bench", "merge", options @ ..] => bench::merge::run(options)?,
        // What `bench run` starts as a process of its own, so that it is measured as its peers are.
        ["bench", "driver", example, hold] => bench::drive(example, hold)?,
        _ => bail!("unknown chore: {}\n\n{HELP}", words.join(" ")),
    }
    Ok(())
}
