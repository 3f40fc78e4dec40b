//! A worker that does exactly what a test tells it: it speaks the real protocol (`docs/protocols/worker.md`) over a real
//! socket and has no will of its own. It sends no heartbeat, repeats nothing and forgets nothing unless told to.

use anyhow::{Context, bail};
use assay_engine::ids::{AttemptId, JobId};
use assay_engine::outcome::{Outcome, OutcomeClass};
use assay_engine::work::{Held, Report, WorkPhase};
use assay_proto::worker::{HoldVerdict, MAX_CHUNK, PROTOCOL, Room, Stream, ToServer, ToWorker};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, http};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest that anything may take that a script waits for; beyond it the script fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// Who the worker says it is. Change the fields to play somebody else.
#[derive(Debug, Clone)]
pub struct ScriptedWorker {
    /// `http://HOST:PORT`
    pub server: String,
    /// The worker token.
    pub token: String,
    /// Name.
    pub name: String,
    /// The process.
    pub instance: String,
    /// Host.
    pub host: String,
    /// Attempts at once.
    pub slots: u32,
    /// What it offers.
    pub classes: Vec<String>,
    /// What it claims to speak.
    pub protocol: u32,
    /// What its disks can take.
    pub disk: Option<Room>,
}

/// The server said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// To the connection: an HTTP status.
    Status(u16),
    /// To the hello, or later.
    Message {
        /// Why.
        reason: String,
        /// Whether to try again.
        retry: bool,
    },
}

/// An attempt that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The attempt and its token.
    pub held: Held,
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
}

/// A connection that has been welcomed.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Messages that came while another was waited for.
    waiting: VecDeque<ToWorker>,
    /// What the server said about each hold.
    pub verdicts: Vec<HoldVerdict>,
    /// Milliseconds.
    pub lease_ms: u64,
    /// How often the server wants to hear from it.
    pub beat_every: Duration,
}

impl ScriptedWorker {
    /// A worker with one slot that offers `dummy`.
    pub fn new(server: &str, token: &str, name: &str) -> Self {
        Self {
            server: server.into(),
            token: token.into(),
            name: name.into(),
            instance: format!("{name}/1"),
            host: "fake.example".into(),
            slots: 1,
            classes: vec!["dummy".into()],
            protocol: PROTOCOL,
            disk: None,
        }
    }

    /// The same name, another process.
    #[must_use]
    pub fn another_process(&self, instance: &str) -> Self {
        Self { instance: instance.into(), ..self.clone() }
    }

    /// Connects and says hello; fails unless it is welcomed.
    pub async fn connect(&self, holds: &[Held]) -> anyhow::Result<Connection> {
        match self.try_connect(holds).await? {
            Ok(connection) => Ok(connection),
            Err(refused) => bail!("the server refused worker {}: {refused:?}", self.name),
        }
    }

    /// Connects and says hello.
    pub async fn try_connect(&self, holds: &[Held]) -> anyhow::Result<Result<Connection, Refused>> {
        let mut connection = match self.open().await? {
            Ok(connection) => connection,
            Err(refused) => return Ok(Err(refused)),
        };
        connection.send(&self.hello(holds)).await?;
        match connection.receive().await? {
            ToWorker::Welcome { lease_ms, heartbeat_ms, holds } => {
                (connection.lease_ms, connection.verdicts) = (lease_ms, holds);
                connection.beat_every = Duration::from_millis(heartbeat_ms.max(1));
                Ok(Ok(connection))
            }
            ToWorker::Refused { reason, retry } => Ok(Err(Refused::Message { reason, retry })),
            other => bail!("the server answered hello with {other:?}"),
        }
    }

    /// The first message.
    pub fn hello(&self, holds: &[Held]) -> ToServer {
        ToServer::Hello {
            protocol: self.protocol,
            name: self.name.clone(),
            instance: self.instance.clone(),
            host: self.host.clone(),
            version: "scripted".into(),
            slots: self.slots,
            classes: self.classes.clone(),
            holds: holds.to_vec(),
            disk: self.disk,
            once: false,
        }
    }

    /// Opens the socket and says nothing.
    pub async fn open(&self) -> anyhow::Result<Result<Connection, Refused>> {
        let address =
            self.server.strip_prefix("http://").context("the server's address must begin with http://")?;
        let mut request = format!("ws://{address}/worker/v1/ws").into_client_request()?;
        request.headers_mut().insert(http::header::AUTHORIZATION, format!("Bearer {}", self.token).parse()?);
        match tokio::time::timeout(DEADLINE, tokio_tungstenite::connect_async(request)).await? {
            Ok((socket, _)) => {
                let beat_every = Duration::from_secs(1);
                let (waiting, verdicts) = (VecDeque::new(), Vec::new());
                Ok(Ok(Connection { socket, waiting, verdicts, lease_ms: 0, beat_every }))
            }
            Err(tungstenite::Error::Http(response)) => Ok(Err(Refused::Status(response.status().as_u16()))),
            Err(error) => Err(error.into()),
        }
    }
}

impl Connection {
    /// Sends any message.
    pub async fn send(&mut self, message: &ToServer) -> anyhow::Result<()> {
        self.send_text(&serde_json::to_string(message)?).await
    }

    /// Sends any text, also one that is no message.
    pub async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.send_raw(Message::text(text)).await
    }

    /// Sends any bytes as a binary message.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.send_raw(Message::binary(bytes)).await
    }

    async fn send_raw(&mut self, message: Message) -> anyhow::Result<()> {
        tokio::time::timeout(DEADLINE, self.socket.send(message))
            .await
            .context("sending took too long")??;
        Ok(())
    }

    /// The next message, whatever it is.
    pub async fn receive(&mut self) -> anyhow::Result<ToWorker> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        match self.next_message().await? {
            Some(message) => Ok(message),
            None => bail!("the server closed the connection"),
        }
    }

    async fn next_message(&mut self) -> anyhow::Result<Option<ToWorker>> {
        tokio::time::timeout(DEADLINE, self.next()).await.context("no message came in time")?
    }

    /// The next message, however long it takes; `None` if the connection ends. May be given up at any time.
    pub async fn next(&mut self) -> anyhow::Result<Option<ToWorker>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Some(serde_json::from_str(&text)?)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => bail!("the server sent a binary message"),
                Some(Err(tungstenite::Error::Utf8(error))) => bail!("the server sent broken text: {error}"),
                // However it ends: a cut and a farewell are the same to a script.
                None | Some(Ok(Message::Close(_)) | Err(_)) => return Ok(None),
            }
        }
    }

    /// The first message that `wanted` makes something of; the others stay for later.
    pub async fn expect<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&ToWorker) -> Option<T>,
    ) -> anyhow::Result<T> {
        for at in 0..self.waiting.len() {
            if let Some(found) = wanted(&self.waiting[at]) {
                self.waiting.remove(at);
                return Ok(found);
            }
        }
        loop {
            let message = self.next_message().await.with_context(|| format!("waiting for {what}"))?;
            let Some(message) = message else {
                bail!("the connection closed while waiting for {what}; not looked at: {:?}", self.waiting);
            };
            match wanted(&message) {
                Some(found) => return Ok(found),
                None => self.waiting.push_back(message),
            }
        }
    }

    /// Waits for an attempt.
    pub async fn expect_assign(&mut self) -> anyhow::Result<Assigned> {
        self.expect("assign", |message| match message {
            ToWorker::Assign { held, job, name, settings, place: _ } => {
                Some(Assigned { held: *held, job: *job, name: name.clone(), settings: settings.clone() })
            }
            _ => None,
        })
        .await
    }

    /// Waits until the server has `length` bytes of a stream.
    pub async fn expect_acked(
        &mut self,
        attempt: AttemptId,
        stream: Stream,
        length: u64,
    ) -> anyhow::Result<()> {
        self.expect(&format!("acked {stream:?} {length}"), |message| match message {
            ToWorker::Acked { attempt: of, stream: which, offset } => {
                (*of == attempt && *which == stream && *offset == length).then_some(())
            }
            _ => None,
        })
        .await
    }

    /// Waits for the acknowledgement of an end.
    pub async fn expect_finished_ack(&mut self, attempt: AttemptId) -> anyhow::Result<()> {
        self.expect("finished_ack", |message| match message {
            ToWorker::FinishedAck { attempt: of } => (*of == attempt).then_some(()),
            _ => None,
        })
        .await
    }

    /// Waits to hear that an attempt is not this worker's; says why.
    pub async fn expect_fenced(&mut self, wanted: Held) -> anyhow::Result<String> {
        self.expect("fenced", |message| match message {
            ToWorker::Fenced { held, reason } if *held == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for a cancellation; says why.
    pub async fn expect_cancel(&mut self, wanted: Held) -> anyhow::Result<String> {
        self.expect("cancel", |message| match message {
            ToWorker::Cancel { held, reason, .. } if *held == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Waits to be asked for pictures, or to be told that they are not wanted any more.
    pub async fn expect_watch(&mut self, wanted: AttemptId, wanted_on: bool) -> anyhow::Result<()> {
        self.expect("watch", |message| match message {
            ToWorker::Watch { attempt, on } if *attempt == wanted && *on == wanted_on => Some(()),
            _ => None,
        })
        .await
    }

    /// Waits to be refused, and for the connection's end.
    pub async fn expect_refused(&mut self) -> anyhow::Result<Refused> {
        let refused = self
            .expect("refused", |message| match message {
                ToWorker::Refused { reason, retry } => {
                    Some(Refused::Message { reason: reason.clone(), retry: *retry })
                }
                _ => None,
            })
            .await?;
        self.expect_closed().await?;
        Ok(refused)
    }

    /// Waits for the connection's end; what comes before is dropped.
    pub async fn expect_closed(&mut self) -> anyhow::Result<()> {
        while self.next_message().await?.is_some() {}
        Ok(())
    }

    /// Says that it lives.
    pub async fn heartbeat(&mut self, holds: &[Held]) -> anyhow::Result<()> {
        self.send(&ToServer::Heartbeat { holds: holds.to_vec(), disk: None }).await
    }

    /// Says that it lives, and what its disks can take.
    pub async fn heartbeat_with(&mut self, holds: &[Held], disk: Room) -> anyhow::Result<()> {
        self.send(&ToServer::Heartbeat { holds: holds.to_vec(), disk: Some(disk) }).await
    }

    /// Says how far the attempt is.
    pub async fn phase(&mut self, held: Held, phase: WorkPhase) -> anyhow::Result<()> {
        self.send(&ToServer::Phase { held, phase }).await
    }

    /// Sends bytes of a stream in as many messages as it takes, and returns the offset after them.
    pub async fn append(
        &mut self,
        held: Held,
        stream: Stream,
        offset: u64,
        bytes: &[u8],
    ) -> anyhow::Result<u64> {
        let mut offset = offset;
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.send(&ToServer::Append { held, stream, offset, data: STANDARD.encode(chunk) }).await?;
            offset += chunk.len() as u64;
        }
        Ok(offset)
    }

    /// Sends a picture of the screen.
    pub async fn screen(&mut self, held: Held, png: &[u8]) -> anyhow::Result<()> {
        self.send(&ToServer::Screen { held, png: STANDARD.encode(png) }).await
    }

    /// Says how the attempt ended.
    pub async fn finish(&mut self, held: Held, outcome: Outcome, reason: Option<&str>) -> anyhow::Result<()> {
        let report = Report { outcome, class: outcome.class(), reason: reason.map(str::to_owned) };
        self.send(&ToServer::Finished { held, report }).await
    }

    /// Says that the attempt failed because the test is wrong.
    pub async fn finish_broken(&mut self, held: Held, reason: &str) -> anyhow::Result<()> {
        let report = Report {
            outcome: Outcome::Incomplete,
            class: OutcomeClass::Test,
            reason: Some(reason.to_owned()),
        };
        self.send(&ToServer::Finished { held, report }).await
    }

    /// Goes away without a word, as a worker that is killed.
    pub fn vanish(self) {
        drop(self);
    }
}
