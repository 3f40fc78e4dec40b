//! `assay gate …`: scenarios and simulation, without a server.
#![expect(clippy::disallowed_methods, reason = "commands that tell how fast they are need a clock")]

use super::import::read;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_engine::gate::config::Config;
use assay_simulate::check::Violation;
use assay_simulate::play::{self, Played};
use assay_simulate::player::Resolve;
use assay_simulate::scenario::{Scenario, Source};
use assay_simulate::simulate::{self, Size};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Scenarios, simulation, and what another configuration would have done.
#[derive(clap::Subcommand)]
pub(crate) enum Gate {
    /// Play scenarios on the real engine with a virtual clock (docs/protocols/gate-scenario.md).
    #[command(after_help = "Example:\n  assay gate play tests/scenarios/gate/*.yaml\n\n\
                            Exit code 1 if something did not come as the scenario expects.")]
    Play(Play),
    /// Run days of a gate out of seeds, with faults, and check what must always hold.
    #[command(
        after_help = "Examples:\n  assay gate simulate --seeds 1000\n  assay gate simulate --seed 7 --days\n\n\
                            Exit code 1 if an invariant did not hold; the smallest scenario that shows it is printed. 3 if a seed could not be run."
    )]
    Simulate(Simulate),
    /// Replay what a server recorded under another configuration: merges per hour, waits, machine hours.
    #[command(
        after_help = "Examples:\n  assay gate whatif config --history                  of the running server\n  \
                            assay gate whatif config --history gate.jsonl --workers 20\n  \
                            assay gate whatif layout.yaml --zuul --history gate.jsonl --json\n\n\
                            The server's record: GET /api/assay/v1/gate/history (docs/gating.md)."
    )]
    Whatif(super::whatif::Whatif),
}

/// `assay gate play`
#[derive(clap::Args)]
pub(crate) struct Play {
    /// Scenario files.
    #[arg(required = true)]
    files: Vec<Utf8PathBuf>,
    /// Only what differs.
    #[arg(short, long)]
    quiet: bool,
}

/// `assay gate simulate`
#[derive(clap::Args)]
pub(crate) struct Simulate {
    /// How many seeds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed; alone: only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Whole days (100 changes, 4 jobs each, 10 % broken, 2 % flakes, 5 restarts) instead of short hours with everything
    /// that can go wrong.
    #[arg(long)]
    days: bool,
    /// Check the expensive invariants after every so many inputs (default: 1; 100 with --days).
    #[arg(long, value_name = "INPUTS")]
    check_every: Option<u64>,
    /// How many at once (default: one for each processor).
    #[arg(long)]
    threads: Option<usize>,
}

impl Gate {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Play(play) => play.run(common),
            Self::Simulate(simulate) => simulate.run(common),
            Self::Whatif(whatif) => whatif.run(common),
        }
    }
}

#[derive(Serialize)]
struct PlayedFile {
    file: Utf8PathBuf,
    about: String,
    ok: bool,
    #[serde(flatten)]
    played: Played,
}

impl Play {
    fn run(&self, common: &Common) -> Result<Code, CliError> {
        let mut all = Vec::new();
        for file in &self.files {
            let text = read(file)?;
            let scenario = play::parse(&text, file.as_str()).map_err(CliError::usage)?;
            let beside = |name: &str| read_beside(file, name);
            let played = play::play(&scenario, &beside)
                .map_err(|error| CliError::usage(format!("{file}: {error}")))?;
            let played = PlayedFile {
                file: file.clone(),
                about: scenario.about.clone(),
                ok: played.is_as_expected(),
                played,
            };
            if !common.json {
                show(&played, self.quiet);
            }
            all.push(played);
        }
        let code = if all.iter().all(|played| played.ok) { Code::Ok } else { Code::Negative };
        if common.json {
            ui::print_json(&all);
        }
        Ok(code)
    }
}

fn read_beside(file: &Utf8Path, name: &str) -> Result<String, String> {
    let path = file.parent().unwrap_or(Utf8Path::new("")).join(name);
    fs_err::read_to_string(&path).map_err(|error| error.to_string())
}

fn show(file: &PlayedFile, quiet: bool) {
    let sign = if file.ok { "✔" } else { "✘" };
    println!("{sign} {}: {}", file.file, file.about);
    if !quiet {
        for note in &file.played.timeline {
            println!("  {:>10.3} s  {:<9} {}", note.at_us as f64 / 1e6, note.what, note.text);
        }
        let builds = file.played.builds.iter().map(|build| {
            let took = build.ended_us.map(|ended| ui::duration((ended - build.asked_us).max(0) as u64));
            vec![
                build.pipeline.clone(),
                build.job.clone(),
                build.changes.join(" "),
                build.result.clone(),
                took.unwrap_or_default(),
            ]
        });
        println!("\n{}\n", ui::table(&["pipeline", "job", "changes", "result", "took"], builds));
        let merged: Vec<String> = file.played.merged.iter().map(ToString::to_string).collect();
        println!("merged: {}\n", if merged.is_empty() { "nothing".to_owned() } else { merged.join(" ") });
    }
    for miss in &file.played.misses {
        println!("  differs {miss}");
    }
    for violation in &file.played.violations {
        println!("  {violation}");
    }
}

#[derive(Serialize, Default)]
struct Simulated {
    seeds: u64,
    inputs: u64,
    builds: u64,
    merged: u64,
    seconds: f64,
    per_minute: f64,
    failure: Option<Failure>,
    /// Seeds that ended before their end, in order.
    not_run: Vec<NotRun>,
}

#[derive(Serialize)]
struct NotRun {
    seed: u64,
    reason: String,
}

impl Simulated {
    /// A broken invariant is a verdict; a seed that could not be played to its end is none.
    fn verdict(&self) -> Result<Code, CliError> {
        match (&self.failure, self.not_run.first()) {
            (Some(_), _) => Ok(Code::Negative),
            (None, Some(NotRun { seed, reason })) => {
                Err(CliError::infrastructure(format!("seed {seed} could not be run: {reason}")))
            }
            (None, None) => Ok(Code::Ok),
        }
    }
}

#[derive(Serialize)]
struct Failure {
    seed: u64,
    violation: Violation,
    scenario: Scenario,
}

impl Simulate {
    fn run(&self, common: &Common) -> Result<Code, CliError> {
        let mut sums = self.simulated(&simulate::compiled)?;
        if let Some(failure) = &mut sums.failure {
            eprintln!(
                "seed {} breaks {}; looking for the smallest scenario",
                failure.seed, failure.violation.invariant
            );
            failure.scenario =
                simulate::minimise(&failure.scenario, failure.violation.invariant, &simulate::compiled);
        }
        show_simulated(&sums, common);
        sums.verdict()
    }

    /// Runs the seeds until one is not as it should be.
    fn simulated(
        &self,
        resolve: &(impl Fn(&Source) -> Result<Arc<Config>, String> + Sync),
    ) -> Result<Simulated, CliError> {
        let first = self.seed.unwrap_or(0);
        let count = if self.seed.is_some() && self.seeds == 100 { 1 } else { self.seeds };
        let size = if self.days { Size::Day } else { Size::Short };
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let sums = Mutex::new(Simulated::default());
        let started = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads.unwrap_or(1).max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count {
                            break;
                        }
                        if self.one(first + seed, size, resolve, &sums) {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut sums = sums.into_inner().map_err(|_| CliError::infrastructure("a simulation panicked"))?;
        sums.seconds = started.elapsed().as_secs_f64();
        sums.per_minute = sums.seeds as f64 / sums.seconds.max(1e-9) * 60.0;
        sums.not_run.sort_by_key(|one| one.seed);
        Ok(sums)
    }

    /// True if it failed.
    fn one(&self, seed: u64, size: Size, resolve: &Resolve<'_>, sums: &Mutex<Simulated>) -> bool {
        let scenario = simulate::plan(seed, size);
        let check_every = self.check_every.unwrap_or(if self.days { 100 } else { 1 });
        let outcome = simulate::run(&scenario, check_every, resolve);
        let Ok(mut sums) = sums.lock() else { return true };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                sums.not_run.push(NotRun { seed, reason: error.to_string() });
                return true;
            }
        };
        sums.seeds += 1;
        sums.inputs += outcome.steps;
        sums.builds += outcome.builds as u64;
        sums.merged += outcome.merged as u64;
        let Some(violation) = outcome.violations.into_iter().next() else { return false };
        if sums.failure.as_ref().is_none_or(|failure| seed < failure.seed) {
            sums.failure = Some(Failure { seed, violation, scenario });
        }
        true
    }
}

fn show_simulated(sums: &Simulated, common: &Common) {
    if common.json {
        ui::print_json(sums);
        return;
    }
    println!(
        "{}, {}, {}, {} in {:.1} s: {:.0} seeds a minute",
        ui::count(sums.seeds as usize, "seed"),
        ui::count(sums.inputs as usize, "input"),
        ui::count(sums.builds as usize, "build"),
        ui::count(sums.merged as usize, "merge"),
        sums.seconds,
        sums.per_minute
    );
    for NotRun { seed, reason } in &sums.not_run {
        println!("✘ seed {seed} could not be run: {reason}");
    }
    match &sums.failure {
        None if sums.not_run.is_empty() => println!("✔ every invariant held"),
        None => {}
        Some(failure) => {
            println!("✘ seed {}: {}", failure.seed, failure.violation);
            println!("# play it with `assay gate play FILE`");
            println!("{}", play::write(&failure.scenario));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_cannot_be_run_is_no_success() {
        let simulate = |threads| Simulate {
            seeds: 3,
            seed: None,
            days: false,
            check_every: None,
            threads: Some(threads),
        };
        let broken =
            simulate(1).simulated(&|_: &Source| Err("no such configuration".to_owned())).expect("it ends");
        assert_eq!((broken.seeds, broken.not_run.len(), broken.not_run[0].seed), (0, 1, 0));
        let said = broken.verdict().expect_err("nothing ran");
        assert_eq!(said.code, Code::Infrastructure);
        assert!(said.message.starts_with("seed 0 could not be run: "), "{said}");
        assert!(said.message.contains("no such configuration"), "{said}");

        let fine = simulate(2).simulated(&simulate::compiled).expect("it ends");
        assert_eq!((fine.seeds, fine.verdict().ok()), (3, Some(Code::Ok)));
    }
}
