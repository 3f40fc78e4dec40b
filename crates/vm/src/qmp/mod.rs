//! A client of QMP, QEMU's JSON control protocol: one JSON object a line.

mod decode;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

pub use decode::{DecodeError, Decoder, Event, MAX_LINE, Message, Version};

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU answered with an error.
    #[error("QEMU refuses {command}: {description} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of error, nearly always `GenericError`.
        class: String,
        /// QEMU's own words.
        description: String,
    },
    /// No answer in time: QEMU hangs or is stopped.
    #[error("QEMU did not answer {command} within {} ms", after.as_millis())]
    Deadline {
        /// The command.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// QEMU is gone, or sent what is not QMP.
    #[error("the control connection to QEMU is closed: {0}")]
    Closed(String),
}

type Answer = Result<Value, (String, String)>;

struct Call {
    id: u64,
    line: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// A connection to QEMU's monitor; clones share it.
#[derive(Clone)]
pub struct Qmp {
    calls: mpsc::Sender<Call>,
    events: broadcast::Sender<Event>,
    next_id: Arc<AtomicU64>,
    version: Version,
    closed: tokio::sync::watch::Receiver<Option<String>>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Qmp({})", self.version)
    }
}

impl Qmp {
    /// Reads the greeting and leaves the negotiation mode; the connection lives on in `tasks`.
    pub async fn connect(
        mut stream: UnixStream,
        deadline: Duration,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, QmpError> {
        let mut decoder = Decoder::default();
        let late = || QmpError::Deadline { command: "the greeting".to_owned(), after: deadline };
        let version = tokio::time::timeout(deadline, greeting(&mut stream, &mut decoder))
            .await
            .map_err(|_| late())??;
        let (calls, receiver) = mpsc::channel(16);
        let (events, _) = broadcast::channel(256);
        let (closed_tx, closed) = tokio::sync::watch::channel(None);
        let link = Link { stream, decoder, calls: receiver, pending: HashMap::new(), events: events.clone() };
        tasks.spawn(async move {
            let why = link.run().await;
            closed_tx.send_replace(Some(why));
        });
        let qmp = Self { calls, events, next_id: Arc::new(AtomicU64::new(1)), version, closed };
        qmp.call("qmp_capabilities", json!({}), deadline).await?;
        Ok(qmp)
    }

    /// The version in QEMU's greeting.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// QEMU's events from now on. A reader that falls 256 events behind is told how many it lost.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Resolves with the reason once the connection is closed.
    pub async fn closed(&self) -> String {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the machine was dropped".to_owned(),
        }
    }

    /// Sends `command` and waits for its result.
    pub async fn call(&self, command: &str, arguments: Value, deadline: Duration) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut line =
            json!({ "execute": command, "arguments": arguments, "id": id }).to_string().into_bytes();
        line.push(b'\n');
        let (answer, result) = oneshot::channel();
        let work = async {
            self.calls.send(Call { id, line, answer }).await.ok()?;
            result.await.ok()
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(Some(Ok(value))) => Ok(value),
            Ok(Some(Err((class, description)))) => {
                Err(QmpError::Refused { command: command.to_owned(), class, description })
            }
            Ok(None) => Err(QmpError::Closed(self.closed().await)),
            Err(_) => Err(QmpError::Deadline { command: command.to_owned(), after: deadline }),
        }
    }
}

async fn greeting(stream: &mut UnixStream, decoder: &mut Decoder) -> Result<Version, QmpError> {
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.map_err(|e| QmpError::Closed(e.to_string()))?;
        if n == 0 {
            return Err(QmpError::Closed("QEMU hung up before it greeted".to_owned()));
        }
        let messages = decoder.receive(&buffer[..n]).map_err(|e| QmpError::Closed(e.to_string()))?;
        match messages.into_iter().next() {
            Some(Message::Greeting(version)) => return Ok(version),
            Some(other) => return Err(QmpError::Closed(format!("QEMU did not greet but sent {other:?}"))),
            None => {}
        }
    }
}

struct Link {
    stream: UnixStream,
    decoder: Decoder,
    calls: mpsc::Receiver<Call>,
    pending: HashMap<u64, oneshot::Sender<Answer>>,
    events: broadcast::Sender<Event>,
}

impl Link {
    /// Serves calls until the connection ends; returns why it did.
    async fn run(mut self) -> String {
        let (mut reader, mut writer) = self.stream.split();
        let mut buffer = vec![0; 16_384];
        let mut output: Vec<u8> = Vec::new();
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let n = match read {
                        Ok(0) => return "QEMU hung up".to_owned(),
                        Ok(n) => n,
                        Err(e) => return e.to_string(),
                    };
                    match self.decoder.receive(&buffer[..n]) {
                        Ok(messages) => messages.into_iter().for_each(|m| deliver(&mut self.pending, &self.events, m)),
                        Err(e) => return e.to_string(),
                    }
                }
                // Written beside reading, so that a QEMU that does not read cannot keep us from hearing it.
                written = writer.write(&output), if !output.is_empty() => match written {
                    Ok(n) => { output.drain(..n); }
                    Err(e) => return e.to_string(),
                },
                call = self.calls.recv(), if output.is_empty() => {
                    let Some(call) = call else { return "the machine was dropped".to_owned() };
                    // Callers whose deadline passed have hung up; forget them.
                    self.pending.retain(|_, answer| !answer.is_closed());
                    self.pending.insert(call.id, call.answer);
                    output = call.line;
                }
            }
        }
    }
}

fn deliver(
    pending: &mut HashMap<u64, oneshot::Sender<Answer>>,
    events: &broadcast::Sender<Event>,
    message: Message,
) {
    let (id, answer) = match message {
        Message::Greeting(_) => return,
        Message::Event(event) => {
            // No listener is no error.
            let _ = events.send(event);
            return;
        }
        Message::Return { id, value } => (id, Ok(value)),
        Message::Error { id, class, description } => (id, Err((class, description))),
    };
    if let Some(waiting) = id.and_then(|id| pending.remove(&id)) {
        let _ = waiting.send(answer);
    }
}

#[cfg(test)]
mod tests;
