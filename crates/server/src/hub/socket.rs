//! `/worker/v1/ws`: a worker's control connection, from `hello` to its end.

use super::Outgoing;
use super::connection::{Conversation, Fault as WireFault, hello_of};
use super::relay::Line as Networks;
use crate::app::App;
use assay_engine::ids::{ConnectionId, WorkerName};
use assay_engine::io::Input;
use assay_proto::worker::{Room, ToServer, ToWorker};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The most bytes of one message.
const MAX_MESSAGE: usize = 1024 * 1024;
/// How long a worker may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long a worker may take to read what it is sent.
const SEND: Duration = Duration::from_secs(30);

/// `GET /worker/v1/ws`
pub(crate) async fn connect(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        // It is filled with zeros for each read, and there may be a thousand workers.
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .on_upgrade(move |socket| async move {
            let tasks = app.tasks.clone();
            // Counted among the server's tasks, so that the server does not end before its connections have.
            tasks.track_future(serve(app, socket)).await;
        })
}

async fn serve(app: Arc<App>, socket: WebSocket) {
    let mut line = Line { socket };
    let greeting = tokio::select! {
        greeting = tokio::time::timeout(HELLO, line.receive()) => greeting,
        () = app.shutdown.cancelled() => return,
    };
    let hello = match greeting {
        Ok(Some(Ok(Incoming::Message(message)))) => hello_of(message),
        Ok(Some(Ok(Incoming::Frame(_)))) => {
            Err(WireFault::retry("the first message must be hello, as JSON text"))
        }
        Ok(Some(Err(fault))) => Err(fault),
        Ok(None) => return,
        Err(_) => Err(WireFault::retry("no hello came within 10 s")),
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(fault) => return line.refuse(fault).await,
    };
    let (id, outgoing) = app.hub.register();
    tracing::info!(worker = %hello.name, host = hello.host, connection = id.0, "a worker says hello");
    let (name, room) = (hello.name.clone(), hello.room);
    app.engine.tell(Input::Hello { connection: id, hello }).await;
    let why = talk(&app, id, (name.clone(), room), &mut line, outgoing).await;
    app.hub.unregister(id);
    app.engine.tell(Input::Disconnected { connection: id }).await;
    tracing::info!(worker = %name, connection = id.0, why, "a worker's connection ended");
}

/// Until one side ends it; says why.
async fn talk(
    app: &Arc<App>,
    id: ConnectionId,
    worker: (WorkerName, Option<Room>),
    line: &mut Line,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> String {
    let (networks, mut frames) = Networks::new(app.hub.relay.clone(), id);
    let mut conversation = Conversation::new(app.clone(), id, worker, networks);
    let mut audience = app.live.audience();
    loop {
        let step = tokio::select! {
            biased;
            () = app.shutdown.cancelled() => {
                line.refuse(WireFault::retry("the server is stopping")).await;
                return "the server is stopping".into();
            }
            out = outgoing.recv() => match out {
                Some(Outgoing::Message(message)) => conversation.tell(message).await,
                Some(Outgoing::Close(reason)) => {
                    line.close(close_code::NORMAL, &reason).await;
                    return reason;
                }
                Some(Outgoing::Refuse { reason, retry }) => {
                    line.refuse(WireFault { reason: reason.clone(), retry }).await;
                    return reason;
                }
                None => return "it did not read its messages".into(),
            },
            Ok(()) = audience.changed() => Ok(conversation.watch_changes()),
            message = line.receive() => match message {
                None => return "the worker closed it, or it broke".into(),
                Some(Err(fault)) => Err(fault),
                Some(Ok(Incoming::Frame(frame))) => conversation.carry(&frame).map(|()| Vec::new()),
                Some(Ok(Incoming::Message(message))) => hear(&mut conversation, line, message).await,
            },
            Some(frame) = frames.recv() => {
                if let Err(error) = line.send_frame(frame).await {
                    return error;
                }
                Ok(Vec::new())
            }
        };
        match step {
            Ok(answers) => {
                for answer in answers {
                    if let Err(error) = line.send(&answer).await {
                        return error;
                    }
                }
            }
            Err(fault) => {
                let why = fault.reason.clone();
                tracing::warn!(connection = id.0, why, "a worker's connection is closed");
                line.refuse(fault).await;
                return why;
            }
        }
    }
}

/// Takes a message and those that are there already, so that many appends share one write to the disk.
async fn hear(
    conversation: &mut Conversation,
    line: &mut Line,
    first: ToServer,
) -> Result<Vec<ToWorker>, WireFault> {
    let mut answers = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next.take() {
        conversation.hear(message, &mut answers).await?;
        if conversation.wants_more()
            && let Some(Some(more)) = line.receive().now_or_never()
        {
            match more? {
                Incoming::Message(more) => next = Some(more),
                Incoming::Frame(frame) => conversation.carry(&frame)?,
            }
        }
    }
    conversation.flush(&mut answers).await?;
    Ok(answers)
}

/// What a worker sends.
enum Incoming {
    Message(ToServer),
    /// A frame of a network, with its channel.
    Frame(Bytes),
}

struct Line {
    socket: WebSocket,
}

impl Line {
    /// The next message; `None` when the connection is gone. May be dropped while it waits.
    async fn receive(&mut self) -> Option<Result<Incoming, WireFault>> {
        loop {
            let text = match self.socket.next().await? {
                Ok(Message::Text(text)) => text,
                Ok(Message::Binary(frame)) => return Some(Ok(Incoming::Frame(frame))),
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(Message::Close(_)) => return None,
                Err(error) => {
                    let text = error.to_string();
                    // The one broken connection that is worth a sentence.
                    let large = text.contains("too long")
                        || text.contains("too large")
                        || text.contains("Space limit");
                    return large.then(|| Err(WireFault::retry(format!("a message is over 1 MiB: {text}"))));
                }
            };
            let parsed = serde_json::from_str(&text);
            let unreadable = |error| WireFault::retry(format!("a message cannot be read: {error}"));
            return Some(parsed.map(Incoming::Message).map_err(unreadable));
        }
    }

    async fn send(&mut self, message: &ToWorker) -> Result<(), String> {
        let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
        match tokio::time::timeout(SEND, self.socket.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("it did not read its messages".into()),
        }
    }

    async fn send_frame(&mut self, frame: Bytes) -> Result<(), String> {
        match tokio::time::timeout(SEND, self.socket.send(Message::Binary(frame))).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("it did not read its messages".into()),
        }
    }

    async fn refuse(&mut self, fault: WireFault) {
        let refusal = ToWorker::Refused { reason: fault.reason.clone(), retry: fault.retry };
        if self.send(&refusal).await.is_ok() {
            self.close(close_code::POLICY, &fault.reason).await;
        }
    }

    async fn close(&mut self, code: u16, reason: &str) {
        // A close frame has room for 123 bytes of reason.
        let end = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= 120).last();
        let reason = reason[..end.unwrap_or(0)].into();
        let frame = Message::Close(Some(CloseFrame { code, reason }));
        let _ = tokio::time::timeout(SEND, self.socket.send(frame)).await;
    }
}
