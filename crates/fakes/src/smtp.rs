//! A mail server that takes what comes, or refuses it as it is told. Plain SMTP, as within a host.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A mail as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mail {
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// Header and body, with plain line ends.
    pub text: String,
}

/// The mail server; dropping it ends it.
pub struct SmtpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    mails: watch::Sender<Vec<Mail>>,
    /// Answers to the next recipients instead of 250.
    refusals: Mutex<Vec<String>>,
    /// Whoever comes is hung up on.
    down: AtomicBool,
}

impl SmtpSink {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        let serving = shared.clone();
        task.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                if serving.down.load(Ordering::SeqCst) {
                    continue;
                }
                let shared = serving.clone();
                talks.spawn(async move { drop(talk(stream, &shared).await) });
            }
        });
        Ok(Self { address, shared, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was delivered.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.borrow().clone()
    }

    /// Hangs up on whoever comes, or no longer does.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Answers the next recipient with this line, for example `450 4.2.0 later`.
    pub fn refuse_next(&self, line: &str) {
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}

async fn talk(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 sink ESMTP\r\n").await?;
    let mut mail = Mail::default();
    while let Some(line) = lines.next_line().await? {
        let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            "EHLO" => "250-sink\r\n250 8BITMIME".to_owned(),
            "MAIL" => {
                mail = Mail { from: address(&line), ..Mail::default() };
                "250 ok".to_owned()
            }
            "RCPT" => {
                let refusal = shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if refusal.is_none() {
                    mail.to.push(address(&line));
                }
                refusal.unwrap_or_else(|| "250 ok".to_owned())
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.text.push('\n');
                }
                let delivered = std::mem::take(&mut mail);
                shared.mails.send_modify(|mails| mails.push(delivered));
                "250 taken".to_owned()
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// What is between `<` and `>`.
fn address(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(String::new(), |(address, _)| address.to_owned())
}
