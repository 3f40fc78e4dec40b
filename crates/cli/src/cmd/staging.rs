//! `assay staging`: the outside world as fakes behind real protocols, to try a configuration without touching anything.

use crate::cmd::run::Interrupts;
use crate::exit::{CliError, Code};
use crate::{Common, client, paths, ui};
use assay_fakes::crew::Crew;
use assay_fakes::gerrit::model::SubmitType;
use assay_fakes::gerrit::{Account, Options, ServeOptions, serve};
use camino::Utf8PathBuf;
use fs_err as fs;
use tokio_util::sync::CancellationToken;

/// Fakes of outside systems, to try things out.
#[derive(clap::Subcommand)]
pub(crate) enum Staging {
    /// A Gerrit: SSH, git and REST on loopback, with labels, submit rules and switches for what can go wrong.
    Gerrit(Gerrit),
    /// Workers by the hundred that pass whatever they are given.
    Workers(Workers),
}

/// Connect workers to a server, each with one slot, that pass at once whatever job they are given.
///
/// To see how a server bears a load. They say as one line of JSON how many jobs they had, and within which time.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  assay staging workers --count 1000 --class crew
                          assay staging workers --count 20 --jobs 500 --server http://127.0.0.1:8484 --token-file worker.token")]
pub(crate) struct Workers {
    /// How many.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// What they offer to jobs, as WORKER_CLASS.
    #[arg(long, default_value = "crew")]
    class: String,
    /// Go when they have done so many jobs (default: at Ctrl-C).
    #[arg(long, value_name = "COUNT")]
    jobs: Option<u64>,
    /// The server (default: the one that uses the data directory).
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File with the worker token (default: tokens/worker in the data directory).
    #[arg(long, value_name = "FILE")]
    token_file: Option<Utf8PathBuf>,
    /// Write the number of workers to this file when all are connected.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<Utf8PathBuf>,
}

/// Start a Gerrit that is good enough for git-review, for Zuul and for Assay.
///
/// It prints its addresses as one line of JSON and runs until Ctrl-C. Repositories are kept in the directory, changes
/// only while it runs. POST /fake/… makes it drop, delay or repeat events, answer late or never, and more.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  assay staging gerrit --dir /tmp/gerrit --project tools --user alice:core --user assay:ci\n  \
                        assay staging gerrit --dir /tmp/gerrit --project nova=CHERRY_PICK --ssh-port 29418 --http-port 8080"
)]
pub(crate) struct Gerrit {
    /// Where its repositories are.
    #[arg(long, value_name = "DIR")]
    dir: Utf8PathBuf,
    /// A project that is there from the beginning, and how it submits (default: MERGE_IF_NECESSARY).
    #[arg(long = "project", value_name = "NAME[=TYPE]")]
    projects: Vec<String>,
    /// An account and its groups: core reviews and submits, ci verifies and lands, admin does the rest. The password
    /// for HTTP is the name.
    #[arg(long = "user", value_name = "NAME[:GROUP,…]")]
    users: Vec<String>,
    /// Port for SSH; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    ssh_port: u16,
    /// Port for HTTP; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    http_port: u16,
    /// Write the line with the addresses to this file as well.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<Utf8PathBuf>,
}

impl Staging {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        match self {
            Self::Gerrit(gerrit) => runtime.block_on(gerrit.serve()),
            Self::Workers(workers) => runtime.block_on(workers.work(common)),
        }
    }
}

impl Workers {
    async fn work(self, common: &Common) -> Result<Code, CliError> {
        let data = paths::data_dir(common)?;
        let token_file = self.token_file.unwrap_or_else(|| data.join("tokens/worker"));
        let token = fs::read_to_string(&token_file)
            .map_err(|error| CliError::usage(format!("the worker token cannot be read: {error}")))?;
        let server = match self.server {
            Some(server) => server,
            None => client::server_url(&data)?,
        };
        let crew = Crew {
            server: server.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            count: self.count,
            class: self.class,
            jobs: self.jobs,
        };
        let cancel = CancellationToken::new();
        let mut signals = Interrupts::new()?;
        let ready = || {
            let said = self.ready_file.map(|file| fs::write(file, format!("{}\n", self.count)));
            if let Some(Err(error)) = said {
                eprintln!("assay: {error}");
            }
        };
        let mut working = std::pin::pin!(crew.work(cancel.clone(), ready));
        let tally = tokio::select! {
            tally = &mut working => tally,
            () = signals.next() => {
                cancel.cancel();
                working.await
            }
        };
        let tally = tally.map_err(|error| CliError::infrastructure(format!("{error:#}")))?;
        ui::print_json(&tally);
        Ok(Code::Ok)
    }
}

impl Gerrit {
    async fn serve(self) -> Result<Code, CliError> {
        let mut options = Options::new(&self.dir);
        options.any_key = true;
        (options.ssh_port, options.http_port) = (self.ssh_port, self.http_port);
        options.accounts = self.users.iter().map(|user| account(user)).collect();
        let projects =
            self.projects.iter().map(|project| parse_project(project)).collect::<Result<_, _>>()?;
        let cancel = CancellationToken::new();
        let out = Announcement { line: Vec::new(), file: self.ready_file };
        let mut signals = Interrupts::new()?;
        let mut served = std::pin::pin!(serve(ServeOptions { options, projects }, cancel.clone(), out));
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = signals.next() => {
                cancel.cancel();
                served.await
            }
        };
        ended.map_err(|error| CliError::infrastructure(format!("{error:#}")))?;
        Ok(Code::Ok)
    }
}

fn account(text: &str) -> Account {
    let (name, groups) = text.split_once(':').unwrap_or((text, ""));
    let groups: Vec<&str> = groups.split(',').filter(|group| !group.is_empty()).collect();
    Account::new(name).in_groups(&groups).with_password(name)
}

fn parse_project(text: &str) -> Result<(String, SubmitType), CliError> {
    let (name, word) = text.split_once('=').unwrap_or((text, "MERGE_IF_NECESSARY"));
    let kind = SubmitType::parse(word).ok_or_else(|| {
        CliError::usage(format!(
            "{word} is no submit type; use FAST_FORWARD_ONLY, MERGE_IF_NECESSARY, MERGE_ALWAYS, REBASE_IF_NECESSARY, \
             REBASE_ALWAYS or CHERRY_PICK"
        ))
    })?;
    Ok((name.to_owned(), kind))
}

/// The line with the addresses: to stdout, and whole into a file, so that whoever waits for the file can read it.
struct Announcement {
    line: Vec<u8>,
    file: Option<Utf8PathBuf>,
}

impl std::io::Write for Announcement {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let line = std::mem::take(&mut self.line);
        if let Some(file) = &self.file {
            let draft = file.with_extension("new");
            fs::write(&draft, &line)?;
            fs::rename(&draft, file)?;
        }
        std::io::stdout().write_all(&line)?;
        std::io::stdout().flush()
    }
}
