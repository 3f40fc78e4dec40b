//! `assay staging`: the outside world as fakes behind real protocols, to try a configuration without touching anything.

use crate::Common;
use crate::cmd::run::Interrupts;
use crate::exit::{CliError, Code};
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
    pub(crate) fn run(self, _common: &Common) -> Result<Code, CliError> {
        let Self::Gerrit(gerrit) = self;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(gerrit.serve())
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
