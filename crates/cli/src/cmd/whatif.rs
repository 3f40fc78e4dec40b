//! `assay gate whatif`: the record of a server under another configuration.

use super::config::files;
use super::import::read;
use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_engine::gate::config::Config;
use assay_formats::diagnostic::Diagnostic;
use assay_formats::{assay, zuul};
use assay_simulate::whatif::{self, Figures, History};
use camino::{Utf8Path, Utf8PathBuf};
use indicatif::ProgressBar;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The arguments.
#[derive(clap::Args)]
pub(crate) struct Whatif {
    /// A directory of *.yaml files or one file.
    config: Utf8PathBuf,
    /// CONFIG is a Zuul 2 layout.yaml.
    #[arg(long)]
    zuul: bool,
    /// Let the job `noop` of the layout join projects into one queue, as Zuul does.
    #[arg(long, requires = "zuul")]
    noop_joins: bool,
    /// The record; without FILE that of the running server.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = RUNNING, required = true)]
    history: Utf8PathBuf,
    /// How many builds run at once (default: as many as there are).
    #[arg(long)]
    workers: Option<usize>,
    /// What is drawn where the record is silent depends on it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// In the place of a file: the server's own record.
const RUNNING: &str = "-";

/// So many jobs are named at most.
const NAMED: usize = 10;

#[derive(Serialize)]
struct Compared {
    history: Recorded,
    /// Under the configuration that was in force; none if the record does not say which.
    recorded: Option<Figures>,
    whatif: Figures,
    assumptions: [&'static str; 4],
}

#[derive(Serialize)]
struct Recorded {
    events: usize,
    builds: usize,
    hours: f64,
}

impl Whatif {
    pub(crate) fn run(&self, common: &Common) -> Result<Code, CliError> {
        let config = self.load()?;
        let spinner = ui::can_draw().then(ProgressBar::new_spinner);
        let tell = |text: String| {
            if let Some(spinner) = &spinner {
                spinner.enable_steady_tick(Duration::from_millis(100));
                spinner.set_message(text);
            }
        };
        let history = self.read_history(common, &tell)?;
        let replay = |config: &Arc<Config>, which: &str| {
            tell(format!("replaying {} under {which}", ui::count(history.events.len(), "event")));
            whatif::replay(&history, config, self.workers, self.seed)
        };
        let recorded = history.config.as_ref().map(|config| replay(config, "the recorded configuration"));
        let compared = Compared {
            recorded,
            whatif: replay(&config, self.config.as_str()),
            assumptions: whatif::ASSUMPTIONS,
            history: Recorded {
                events: history.events.len(),
                builds: history.builds.len(),
                hours: hours(&history),
            },
        };
        if let Some(spinner) = &spinner {
            spinner.finish_and_clear();
        }
        if common.json {
            ui::print_json(&compared);
        } else {
            show(&compared, &self.config);
        }
        Ok(Code::Ok)
    }

    fn load(&self) -> Result<Arc<Config>, CliError> {
        let (config, found) = if self.zuul {
            let text = read(&self.config)?;
            let options = zuul::Options { noop_joins: self.noop_joins, ..zuul::Options::default() };
            let import = zuul::import(&text, self.config.as_str(), &options);
            (import.config, import.diagnostics)
        } else {
            let names = files(&self.config)?;
            let texts: Vec<String> = names.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
            let sources: Vec<(&str, &str)> =
                names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
            let loaded = assay::load(&sources);
            (loaded.config, loaded.diagnostics)
        };
        config.map(Arc::new).ok_or_else(|| {
            let errors: Vec<String> =
                found.iter().filter(|found| found.is_error()).map(Diagnostic::to_string).collect();
            let hint = if self.zuul { "" } else { "\nIs it a Zuul layout? Then give --zuul." };
            CliError::usage(format!("{} cannot be used:\n{}{hint}", self.config, errors.join("\n")))
        })
    }

    fn read_history(&self, common: &Common, tell: &dyn Fn(String)) -> Result<History, CliError> {
        let (text, name) = if self.history == RUNNING {
            let client = Client::new(common)?;
            let path = "/api/assay/v1/gate/history";
            let text = client.download(path, |bytes| tell(format!("{} KiB of the record", bytes / 1024)))?;
            (text, format!("{}{path}", client.url()))
        } else {
            (read(&self.history)?, self.history.to_string())
        };
        let history = whatif::parse(&text, &name).map_err(|error| {
            CliError::usage(format!("{error}; expected what GET /api/assay/v1/gate/history gives"))
        })?;
        if history.events.is_empty() {
            return Err(CliError::not_found(format!("{name} holds no event that could be replayed")));
        }
        Ok(history)
    }
}

fn hours(history: &History) -> f64 {
    match (history.events.first(), history.events.last()) {
        (Some((first, _)), Some((last, _))) => last.micros_since(*first) as f64 / 3.6e9,
        _ => 0.0,
    }
}

/// A figure's name, and how it is written.
type Figure<'a> = (&'a str, &'a dyn Fn(&Figures) -> String);

fn show(compared: &Compared, config: &Utf8Path) {
    let Recorded { events, builds, hours } = &compared.history;
    let (events, builds) = (ui::count(*events, "event"), ui::count(*builds, "build"));
    println!("{events} and {builds} of {hours:.1} hours\n");
    let wait = |us: Option<i64>| us.map_or("-".to_owned(), |us| ui::duration(us.max(0) as u64));
    let rows: [Figure<'_>; 9] = [
        ("merged", &|it| it.merges.to_string()),
        ("merges per hour", &|it| format!("{:.2}", it.merges_per_hour)),
        ("wait in the gate, P50", &|it| wait(it.wait_p50_us)),
        ("wait in the gate, P95", &|it| wait(it.wait_p95_us)),
        ("machine hours", &|it| format!("{:.1}", it.machine_hours)),
        ("builds", &|it| it.builds.to_string()),
        ("cancelled builds", &|it| it.cancelled.to_string()),
        ("failed in the gate", &|it| it.failed.to_string()),
        ("left at the end", &|it| it.left.to_string()),
    ];
    let rows = rows.map(|(name, of)| {
        let recorded = compared.recorded.as_ref().map_or("-".to_owned(), of);
        vec![name.to_owned(), recorded, of(&compared.whatif)]
    });
    println!("{}\n", ui::table(&["", "recorded configuration", config.as_str()], rows));
    if compared.recorded.is_none() {
        println!("The record does not name the configuration that was in force.\n");
    }
    let sources = compared.whatif.sources;
    println!(
        "How its builds ended: {} as recorded on the change, {} one of several recorded on it,",
        sources.recorded, sources.recorded_by_tree
    );
    println!(
        "{} drawn from what the job did elsewhere, {} drawn from all jobs.",
        sources.sampled, sources.assumed
    );
    let unknown = &compared.whatif.unknown_jobs;
    if !unknown.is_empty() {
        let mut named: Vec<String> = unknown.iter().take(NAMED).map(ToString::to_string).collect();
        if unknown.len() > NAMED {
            named.push(format!("and {} more (--json names all)", unknown.len() - NAMED));
        }
        println!("Never recorded: {}.", named.join(", "));
    }
    println!("\nTaken for granted:");
    for assumption in compared.assumptions {
        println!("- {assumption}");
    }
}
