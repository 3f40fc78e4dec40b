//! `assay`: one binary, `noun verb`.

/// Prints a line, as in `std`. A closed pipe (`| head`) ends the output, not the program's health.
macro_rules! println {
    () => { $crate::ui::put_line(format_args!("")) };
    ($($words:tt)*) => { $crate::ui::put_line(format_args!($($words)*)) };
}

/// The same on standard error.
macro_rules! eprintln {
    ($($words:tt)*) => { $crate::ui::put_error(format_args!($($words)*)) };
}

mod client;
mod cmd;
mod exit;
mod paths;
mod ui;

/// Most of what the server does is many small texts and rows that live for one request: with glibc's allocator a third
/// of the time of an import went into it (docs/adr/0011-allocator.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};
use exit::CliError;

/// Tests operating systems and gates changes.
#[derive(Parser)]
#[command(
    name = "assay",
    version,
    about,
    after_help = "Exit codes: 0 ok · 1 verdict negative · 2 usage or configuration · 3 infrastructure · 4 not found\n\n\
                  Examples:\n  assay up                                  server and worker on this machine\n  \
                  assay run examples/grub                   one test directory, no server\n  \
                  assay job post examples/grub              the same through the server\n  \
                  assay test check examples/grub            types, needles, tags\n  \
                  assay doctor                              can this host run machines?"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Print one JSON document on stdout instead of text; of what fails {"error": …, "help": …}.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Data directory of the server (default: $ASSAY_DATA, or ~/.local/share/assay).
    #[arg(long, global = true, value_name = "DIR", env = "ASSAY_DATA")]
    pub(crate) data: Option<Utf8PathBuf>,
    /// More on stderr: the log of the run, or of the server. Twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server and one worker on this machine.
    Up(cmd::up::Up),
    /// Start the server alone.
    Server(cmd::up::Server),
    /// Start a worker for a server; list, drain or forget those that there are.
    Worker(cmd::worker::Worker),
    /// Run a test directory here, without a server.
    Run(cmd::run::Run),
    /// Say whether this host can run machines, and what to do if not.
    #[command(after_help = "Examples:\n  assay doctor\n  assay doctor --json")]
    Doctor,
    /// Test directories.
    #[command(subcommand)]
    Test(cmd::test::Test),
    /// The gate: scenarios, simulation, other configurations on recorded history.
    #[command(subcommand)]
    Gate(cmd::gate::Gate),
    /// Needles.
    #[command(subcommand)]
    Needle(cmd::needle::Needle),
    /// What is tested, and how.
    #[command(subcommand)]
    Config(cmd::config::Config),
    /// Read what other systems are configured with.
    #[command(subcommand)]
    Import(cmd::import::Import),
    /// Jobs on a server.
    #[command(subcommand)]
    Job(cmd::job::Job),
    /// Images and other files that jobs read and publish.
    #[command(subcommand)]
    Asset(cmd::asset::Asset),
    /// Pipelines of the gate: what is in them, and what to do about it.
    #[command(subcommand)]
    Pipeline(cmd::pipeline::Pipeline),
    /// Changes in the gate: what happened, and why.
    #[command(subcommand)]
    Change(cmd::change::Change),
    /// Check that everything on a branch of a clone was tested as it landed.
    Verify(cmd::verify::Verify),
    /// Products (media): post a build, or see what a post would make.
    #[command(subcommand)]
    Product(cmd::product::Product),
    /// Events of outside systems: what came, and what it led to.
    #[command(subcommand)]
    Event(cmd::event::Event),
    /// What others are told: what waits, what was refused, and what to do about it.
    #[command(subcommand)]
    Outbox(cmd::outbox::Outbox),
    /// What people want to hear of: rules, mails, a feed.
    #[command(subcommand)]
    Notify(cmd::notify::Notify),
    /// Reports about builds.
    #[command(subcommand)]
    Report(cmd::report::Report),
    /// Rules: what events lead to.
    #[command(subcommand)]
    Rule(cmd::rule::Rule),
    /// Composes: what is tested of one.
    #[command(subcommand)]
    Compose(cmd::schedule::Compose),
    /// Updates: what is tested of one.
    #[command(subcommand)]
    Update(cmd::schedule::Update),
    /// What tasks of Koji have built: what is tested of it.
    #[command(subcommand, name = "koji-task")]
    KojiTask(cmd::schedule::KojiTask),
    /// Tags of Koji: what is tested of one.
    #[command(subcommand, name = "koji-tag")]
    KojiTag(cmd::schedule::KojiTag),
    /// Projects of COPR: what is tested of one.
    #[command(subcommand)]
    Copr(cmd::schedule::Copr),
    /// Templates: machines, products, test suites, and which of them are tested together.
    #[command(subcommand)]
    Template(cmd::template::Template),
    /// Keys of people for the API, and the key that receipts are signed with.
    #[command(subcommand)]
    Key(cmd::key::Key),
    /// Results of tests: what jobs found, and what others posted.
    #[command(subcommand)]
    Result(cmd::result::ResultCommand),
    /// Waivers: results that do not count, with who says so and why.
    #[command(subcommand)]
    Waiver(cmd::waiver::Waiver),
    /// Decisions: may it go on?
    #[command(subcommand)]
    Decision(cmd::decision::Decision),
    /// What was done, and by whom.
    #[command(subcommand)]
    Audit(cmd::audit::Audit),
    /// Fakes of outside systems, to try things out.
    #[command(subcommand)]
    Staging(cmd::staging::Staging),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let service = match &cli.command {
        Command::Up(_) | Command::Server(_) => true,
        Command::Worker(worker) => worker.is_service(),
        _ => false,
    };
    start_logging(cli.common.verbose, service);
    let json = cli.common.json;
    match dispatch(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            if json {
                ui::print_fault(&error);
            }
            eprintln!("assay: {error}");
            error.code.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<exit::Code, CliError> {
    let common = cli.common;
    match cli.command {
        Command::Up(up) => up.run(&common),
        Command::Server(server) => server.run(&common),
        Command::Worker(worker) => worker.run(&common),
        Command::Run(run) => run.run(&common),
        Command::Doctor => cmd::doctor::run(&common),
        Command::Test(test) => test.run(&common),
        Command::Gate(gate) => gate.run(&common),
        Command::Needle(needle) => needle.run(&common),
        Command::Job(job) => job.run(&common),
        Command::Asset(asset) => asset.run(&common),
        Command::Pipeline(pipeline) => pipeline.run(&common),
        Command::Change(change) => change.run(&common),
        Command::Verify(verify) => verify.run(&common),
        Command::Template(template) => template.run(&common),
        Command::Product(product) => product.run(&common),
        Command::Event(event) => event.run(&common),
        Command::Notify(notify) => notify.run(&common),
        Command::Outbox(outbox) => outbox.run(&common),
        Command::Report(report) => report.run(&common),
        Command::Rule(rule) => rule.run(&common),
        Command::Compose(compose) => compose.run(&common),
        Command::Update(update) => update.run(&common),
        Command::KojiTask(task) => task.run(&common),
        Command::KojiTag(tag) => tag.run(&common),
        Command::Copr(copr) => copr.run(&common),
        Command::Key(key) => key.run(&common),
        Command::Result(result) => result.run(&common),
        Command::Waiver(waiver) => waiver.run(&common),
        Command::Decision(decision) => decision.run(&common),
        Command::Audit(audit) => audit.run(&common),
        Command::Config(config) => config.run(&common),
        Command::Import(import) => import.run(&common),
        Command::Staging(staging) => staging.run(&common),
    }
}

/// Services say what they do; other commands only what is wrong.
fn start_logging(verbose: u8, service: bool) {
    let level = match (verbose, service) {
        (0, false) => "error",
        (0, true) | (1, false) => "warn",
        (1, true) => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("ASSAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        let visible: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
        if visible.is_empty() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            found.push((path.trim().to_owned(), help));
        }
        for one in visible {
            leaves(one, &path, found);
        }
    }

    #[test]
    fn every_command_shows_how_it_is_used() {
        Cli::command().debug_assert();
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        let bare: Vec<_> =
            found.iter().filter(|(_, help)| !help.contains("Example")).map(|(path, _)| path).collect();
        assert!(bare.is_empty(), "without an example: {bare:#?}");
        let wanted = [
            "assay product post",
            "assay product plan",
            "assay product list",
            "assay job restart",
            "assay job clone",
            "assay job cancel",
            "assay job why",
            "assay job prio",
            "assay job comment",
            "assay template load",
            "assay template dump",
            "assay template check",
            "assay asset list",
            "assay worker list",
            "assay worker drain",
            "assay key create",
            "assay key revoke",
        ];
        for path in wanted {
            assert!(found.iter().any(|(there, _)| there == path), "there is no {path}");
        }
    }
}
