//! Gerrit over SSH: one command per channel, every command with a deadline.

use super::error::GerritError;
use super::hostkey::{HostKeys, preferred};
use super::parse::excerpt;
use camino::{Utf8Path, Utf8PathBuf};
use russh::client::{self, AuthResult, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use russh::{Channel, ChannelMsg, Preferred};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Where Gerrit's SSH is and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOptions {
    /// Name or address.
    pub host: String,
    /// 29418 unless somebody changed it.
    pub port: u16,
    /// Our login.
    pub user: String,
    /// Our private key: a file in OpenSSH's format, without a passphrase.
    pub key: Utf8PathBuf,
    /// How the server's key is known.
    pub host_keys: HostKeys,
    /// After so much silence the server is asked whether it is there.
    pub keep_alive: Duration,
    /// The connection is given up after so many unanswered questions.
    pub keep_alive_tries: usize,
    /// The longest that connecting and logging in may take.
    pub connect: Duration,
    /// The longest answer that is read, in bytes.
    pub longest_answer: usize,
}

impl SshOptions {
    /// The usual port and times.
    pub fn new(host: &str, user: &str, key: Utf8PathBuf, host_keys: HostKeys) -> Self {
        Self {
            host: host.to_owned(),
            port: 29418,
            user: user.to_owned(),
            key,
            host_keys,
            keep_alive: Duration::from_secs(20),
            keep_alive_tries: 3,
            connect: Duration::from_secs(15),
            longest_answer: 64 << 20,
        }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A connection that broke after so long has been useless since its keep-alive went unanswered.
    pub(super) fn blind_time(&self) -> Duration {
        self.keep_alive * u32::try_from(self.keep_alive_tries + 1).unwrap_or(u32::MAX)
    }
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Output {
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
    pub(super) status: Option<u32>,
}

impl Output {
    pub(super) fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it complained of.
    pub(super) fn complaint(&self) -> String {
        let said = String::from_utf8_lossy(if self.err.is_empty() { &self.out } else { &self.err });
        let said =
            said.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        if said.is_empty() {
            format!("exit status {:?}, without a word", self.status)
        } else {
            excerpt(&said)
        }
    }
}

/// Puts a word of a command into quotes, for Gerrit and for any shell.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Reads a private key, with a sentence for each way in which it can be wrong.
fn private_key(user: &str, file: &Utf8Path) -> Result<PrivateKey, GerritError> {
    const MAKE: &str = "make one with `ssh-keygen -t ed25519 -N ''` and give its public half to Gerrit";
    let wrong = |why: String, remedy: &str| GerritError::Unauthorised {
        user: user.to_owned(),
        why,
        remedy: remedy.to_owned(),
    };
    let text = fs_err::read_to_string(file).map_err(|error| wrong(error.to_string(), MAKE))?;
    if text.trim_start().starts_with("ssh-") || text.trim_start().starts_with("ecdsa-") {
        return Err(wrong(format!("{file} is the public half of a key"), "name the file without .pub"));
    }
    let encrypted = || {
        let remedy = "take the passphrase off with `ssh-keygen -p -N ''`, nobody is here to type it";
        wrong(format!("the key in {file} has a passphrase"), remedy)
    };
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(encrypted());
    }
    match decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => Err(encrypted()),
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(encrypted()),
        Err(error) => Err(wrong(format!("{file} holds no private key that can be read: {error}"), MAKE)),
    }
}

/// What a connection asks us.
struct Guard {
    options: SshOptions,
}

/// Why a connection did not come about.
#[derive(Debug)]
enum Failed {
    Gerrit(GerritError),
    Ssh(russh::Error),
}

impl From<russh::Error> for Failed {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl client::Handler for Guard {
    type Error = Failed;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Failed> {
        let options = &self.options;
        match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                options.host_keys.check(&options.host, options.port, key).map_err(Failed::Gerrit)?;
                Ok(true)
            }
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

/// An open connection.
pub(super) struct Connection {
    handle: Handle<Guard>,
    options: SshOptions,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(options: &SshOptions) -> Result<Self, GerritError> {
        let key = private_key(&options.user, &options.key)?;
        let known = options.host_keys.known(&options.host, options.port)?;
        let usual = Preferred::DEFAULT;
        let config = client::Config {
            keepalive_interval: Some(options.keep_alive),
            keepalive_max: options.keep_alive_tries,
            nodelay: true,
            preferred: Preferred { key: Cow::Owned(preferred(&known, &usual.key)), ..usual },
            ..client::Config::default()
        };
        let open = Self::log_in(options, Arc::new(config), key);
        timeout(options.connect, open).await.unwrap_or_else(|_| {
            let what = format!("the login at {}", options.address());
            Err(GerritError::TimedOut { what, after: options.connect, sent: false })
        })
    }

    async fn log_in(
        options: &SshOptions,
        config: Arc<client::Config>,
        key: PrivateKey,
    ) -> Result<Self, GerritError> {
        let unreachable =
            |why: String| GerritError::Unreachable { address: options.address(), why, sent: false };
        let guard = Guard { options: options.clone() };
        let address = (options.host.as_str(), options.port);
        let mut handle = client::connect(config, address, guard).await.map_err(|failed| match failed {
            Failed::Gerrit(error) => error,
            Failed::Ssh(error) => unreachable(explain(&error)),
        })?;
        let hash = if key.algorithm().is_rsa() {
            handle.best_supported_rsa_hash().await.map_err(|error| unreachable(error.to_string()))?.flatten()
        } else {
            None
        };
        let fingerprint = key.public_key().fingerprint(russh::keys::HashAlg::Sha256);
        let signer = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let result = handle.authenticate_publickey(options.user.clone(), signer).await;
        match result {
            Ok(AuthResult::Success) => Ok(Self { handle, options: options.clone() }),
            Ok(AuthResult::Failure { .. }) => Err(GerritError::Unauthorised {
                user: options.user.clone(),
                why: format!("it does not accept the key {fingerprint} of {}", options.key),
                remedy: "check the login, and add the public half of the key to that account".to_owned(),
            }),
            Err(error) => Err(unreachable(explain(&error))),
        }
    }

    /// True if nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    fn lost(&self, why: &str, sent: bool) -> GerritError {
        GerritError::Unreachable { address: self.options.address(), why: why.to_owned(), sent }
    }

    /// Starts a command.
    pub(super) async fn start(&self, command: &str) -> Result<Channel<client::Msg>, GerritError> {
        let channel = self.handle.channel_open_session().await;
        let channel = channel.map_err(|error| self.lost(&explain(&error), false))?;
        channel.exec(true, command).await.map_err(|error| self.lost(&explain(&error), false))?;
        Ok(channel)
    }

    /// Runs a command to its end, or until `enough` says so.
    async fn run(&self, command: &str, enough: fn(&[u8]) -> bool) -> Result<Output, GerritError> {
        let mut channel = self.start(command).await?;
        let mut output = Output::default();
        let mut ended = false;
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => output.out.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => output.err.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => output.status = Some(exit_status),
                ChannelMsg::Failure => return Err(self.lost("it does not take commands", false)),
                ChannelMsg::Eof | ChannelMsg::Close => ended = true,
                _ => {}
            }
            if output.out.len() + output.err.len() > self.options.longest_answer {
                let why = format!("its answer is longer than {} bytes", self.options.longest_answer);
                return Err(self.lost(&why, true));
            }
            if enough(&output.out) {
                let _ = channel.data_bytes(b"0000".as_slice()).await;
                let _ = channel.close().await;
                output.status = Some(0);
                return Ok(output);
            }
        }
        if output.status.is_none() && (!ended || self.is_closed() || output.out.is_empty()) {
            return Err(self.lost("the connection broke before the answer was whole", true));
        }
        Ok(output)
    }
}

fn explain(error: &russh::Error) -> String {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            format!("no {kind:?} algorithm in common, it offers {}", theirs.join(", "))
        }
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError => {
            "the connection broke".to_owned()
        }
        other => other.to_string(),
    }
}

/// A connection for commands that is opened when it is needed and replaced when it is broken.
pub(super) struct Commands {
    options: SshOptions,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Commands {
    pub(super) fn new(options: SshOptions) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    async fn connection(&self) -> Result<Arc<Connection>, GerritError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(&self.options).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Whoever waited in vain does not let others wait on the same connection; commands that run there go on.
    fn suspect(&self, suspect: &Arc<Connection>) {
        // Whoever holds the lock is making a new one.
        let Ok(mut slot) = self.connection.try_lock() else { return };
        if slot.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, suspect)) {
            *slot = None;
        }
    }

    /// Runs a command; `what` names it in errors.
    pub(super) async fn run(
        &self,
        what: &str,
        command: &str,
        deadline: Duration,
    ) -> Result<Output, GerritError> {
        self.run_until(what, command, deadline, |_| false).await
    }

    /// Runs a command until it has said enough.
    pub(super) async fn run_until(
        &self,
        what: &str,
        command: &str,
        deadline: Duration,
        enough: fn(&[u8]) -> bool,
    ) -> Result<Output, GerritError> {
        let late = |sent| GerritError::TimedOut { what: what.to_owned(), after: deadline, sent };
        let begun = tokio::time::Instant::now();
        let connection = timeout(deadline, self.connection()).await.map_err(|_| late(false))??;
        let left = deadline.saturating_sub(begun.elapsed());
        match timeout(left, connection.run(command, enough)).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => {
                self.suspect(&connection);
                Err(error)
            }
            Err(_) => {
                self.suspect(&connection);
                Err(late(true))
            }
        }
    }
}
