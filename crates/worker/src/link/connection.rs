//! One connection, from `hello` to its loss.

use super::upload::{Broken, Uploader, acks_channel};
use super::{Hands, WorkerConfig, WorkerError};
use crate::exec::Stop;
use assay_engine::ids::{AttemptId, JobId};
use assay_proto::worker::{PROTOCOL, Room, Stream, ToServer, ToWorker};
use futures_util::{SinkExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, http};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How a connection ended.
pub(super) enum End {
    /// Try again.
    Lost {
        /// The server had said welcome.
        was_up: bool,
        /// For the log.
        why: String,
    },
    /// Give up.
    Fatal(WorkerError),
    /// The one attempt has ended, and the server has it.
    Done,
}

/// How long the server may take to answer `hello`.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a look at the disks may take.
const LOOK: Duration = Duration::from_millis(500);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects, says hello and works until the connection is lost.
pub(super) async fn converse(hands: &mut Hands, instance: &str) -> End {
    let lost = |why: String| End::Lost { was_up: false, why };
    let server = match hands.config().server.resolve() {
        Ok(server) => server,
        Err(why) => return lost(why),
    };
    let mut socket = match connect(hands, &server).await {
        Ok(socket) => socket,
        Err(end) => return end,
    };
    let config = hands.config();
    let hello = ToServer::Hello {
        protocol: PROTOCOL,
        name: config.name.clone(),
        instance: instance.to_owned(),
        host: config.host.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        slots: config.slots,
        classes: config.classes.clone(),
        holds: hands.holds(),
        disk: room_of(config).await,
        once: config.once,
    };
    if let Err(error) = send(&mut socket, &hello).await {
        return lost(error);
    }
    let welcome = match tokio::time::timeout(ANSWER, receive(&mut socket)).await {
        Ok(Ok(message)) => message,
        Ok(Err(why)) => return lost(why),
        Err(_) => return lost("the server did not answer hello".into()),
    };
    match welcome {
        ToWorker::Welcome { lease_ms, heartbeat_ms, holds } => {
            let mut offsets = BTreeMap::new();
            for verdict in holds {
                if verdict.go_on {
                    offsets.insert(verdict.held.attempt, verdict.offsets);
                } else {
                    let why = "the server has given this attempt to somebody else".to_owned();
                    hands.forget(verdict.held.attempt, Some(Stop::Fenced(why)));
                }
            }
            tracing::info!(lease_ms, "connected to the server");
            Conversation::new(socket, server, heartbeat_ms).work(hands, offsets).await
        }
        ToWorker::Refused { reason, retry: false } => End::Fatal(WorkerError::Refused(reason)),
        ToWorker::Refused { reason, retry: true } => {
            tracing::warn!(reason, "the server does not take this worker yet");
            lost(reason)
        }
        other => lost(format!("the server answered hello with {other:?}")),
    }
}

/// What the pool and the cache can take; `None` where that cannot be found out, or not at once.
async fn room_of(config: &WorkerConfig) -> Option<Room> {
    let (pool, cache) = (config.pool.clone(), config.host_options.cache.join(crate::assets::DIR));
    // A disk that does not answer must not hold up a heartbeat.
    let look = tokio::task::spawn_blocking(move || crate::assets::room(&pool, &cache));
    tokio::time::timeout(LOOK, look).await.ok()?.ok()?
}

async fn connect(hands: &Hands, server: &str) -> Result<Socket, End> {
    let config = hands.config();
    let address = |why: String| End::Fatal(WorkerError::Address(why));
    let Some(rest) = server.strip_prefix("http://") else {
        return Err(address(format!(
            "the server's address {server:?} cannot be used; give http://HOST:PORT, and put a TLS proxy on the worker's side where the way is not private"
        )));
    };
    let url = format!("ws://{}/worker/v1/ws", rest.trim_end_matches('/'));
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|error| address(format!("the server's address {server:?} cannot be used: {error}")))?;
    let bearer = http::HeaderValue::from_str(&format!("Bearer {}", config.token))
        .map_err(|_| address("the worker token holds characters that no token has; copy it again".into()))?;
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    // Without Nagle's delay: a frame between machines waits for nobody.
    let connecting = tokio_tungstenite::connect_async_with_config(request, None, true);
    match tokio::time::timeout(ANSWER, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response)))
            if response.status() == http::StatusCode::UNAUTHORIZED =>
        {
            Err(End::Fatal(WorkerError::Unauthorized))
        }
        Ok(Err(error)) => Err(End::Lost { was_up: false, why: error.to_string() }),
        Err(_) => Err(End::Lost { was_up: false, why: "connecting took too long".into() }),
    }
}

async fn send(socket: &mut Socket, message: &ToServer) -> Result<(), String> {
    let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
    match tokio::time::timeout(ANSWER, socket.send(Message::text(text))).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the server takes nothing any more".to_owned()),
    }
}

async fn receive(socket: &mut Socket) -> Result<ToWorker, String> {
    loop {
        match socket.next().await {
            None => return Err("the server closed the connection".into()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|error| error.to_string());
            }
            Some(Ok(_)) => {}
        }
    }
}

/// A connection that has been welcomed.
struct Conversation {
    socket: Socket,
    server: String,
    heartbeat: Duration,
    heard: Instant,
    uploaders: JoinSet<Result<(), Broken>>,
    acks: BTreeMap<AttemptId, watch::Sender<BTreeMap<Stream, u64>>>,
    outgoing: mpsc::Sender<ToServer>,
    to_send: mpsc::Receiver<ToServer>,
    /// The networks that the server knows of, by channel.
    plugged: BTreeSet<u32>,
}

impl Conversation {
    fn new(socket: Socket, server: String, heartbeat_ms: u64) -> Self {
        let (outgoing, to_send) = mpsc::channel(16);
        let heartbeat = Duration::from_millis(heartbeat_ms.max(1));
        let (uploaders, acks) = (JoinSet::new(), BTreeMap::new());
        let (heard, plugged) = (Instant::now(), BTreeSet::new());
        Self { socket, server, heartbeat, heard, uploaders, acks, outgoing, to_send, plugged }
    }

    async fn work(
        mut self,
        hands: &mut Hands,
        mut offsets: BTreeMap<AttemptId, BTreeMap<Stream, u64>>,
    ) -> End {
        let held: Vec<AttemptId> = hands.running.keys().copied().collect();
        for attempt in held {
            self.carry(hands, attempt, offsets.remove(&attempt).unwrap_or_default());
        }
        let mut beat = tokio::time::interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut networks = hands.networks.changes();
        networks.mark_changed();
        let why = loop {
            if hands.is_used_up() {
                return End::Done;
            }
            tokio::select! {
                incoming = self.socket.next() => match incoming {
                    None => break "the server closed the connection".to_owned(),
                    Some(Err(error)) => break error.to_string(),
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        match message {
                            Message::Text(text) => if let Err(why) = self.obey(hands, &text) {
                                break why;
                            },
                            Message::Binary(frame) => hands.networks.arrived(&frame),
                            _ => {}
                        }
                    }
                },
                Some(message) = self.to_send.recv() => {
                    if let Err(why) = send(&mut self.socket, &message).await {
                        break why;
                    }
                }
                Some((channel, frame)) = hands.frames.recv() => {
                    if let Err(why) = self.pass_on(channel, &frame).await {
                        break why;
                    }
                }
                Ok(()) = networks.changed() => {
                    if let Err(why) = self.plug(&hands.networks.channels()).await {
                        break why;
                    }
                }
                Some(Ok(Err(Broken))) = self.uploaders.join_next() => {
                    // The next connection starts from what the server has.
                    break "a part of an attempt's record could not be sent".to_owned();
                }
                _ = beat.tick() => {
                    hands.reap();
                    if self.heard.elapsed() > self.heartbeat * 4 {
                        break "the server has not been heard for four heartbeats".to_owned();
                    }
                    let disk = room_of(hands.config()).await;
                    let message = ToServer::Heartbeat { holds: hands.holds(), disk };
                    if let Err(why) = send(&mut self.socket, &message).await {
                        break why;
                    }
                    if let Err(error) = self.socket.send(Message::Ping(Vec::new().into())).await {
                        break error.to_string();
                    }
                }
            }
        };
        End::Lost { was_up: true, why }
    }

    /// A frame for machines elsewhere. The network is known there first.
    async fn pass_on(&mut self, channel: u32, frame: &[u8]) -> Result<(), String> {
        if !self.plugged.contains(&channel) {
            return Ok(());
        }
        let message = [&channel.to_be_bytes(), frame].concat();
        match tokio::time::timeout(ANSWER, self.socket.send(Message::binary(message))).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("the server takes nothing any more".to_owned()),
        }
    }

    /// Tells the server which networks this worker takes part in, as far as it does not know.
    async fn plug(&mut self, channels: &BTreeMap<u32, (JobId, String)>) -> Result<(), String> {
        for channel in std::mem::take(&mut self.plugged) {
            if channels.contains_key(&channel) {
                self.plugged.insert(channel);
            } else {
                send(&mut self.socket, &ToServer::Unplug { channel }).await?;
            }
        }
        for (channel, (cluster, network)) in channels {
            if self.plugged.insert(*channel) {
                let plug = ToServer::Plug { cluster: *cluster, network: network.clone(), channel: *channel };
                send(&mut self.socket, &plug).await?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, hands: &mut Hands, text: &str) -> Result<(), String> {
        let message = serde_json::from_str(text)
            .map_err(|error| format!("the server's message is unreadable: {error}"))?;
        match message {
            ToWorker::Assign { held, job: _, name, settings, place } => {
                tracing::info!(attempt = %held.attempt, name, "assigned");
                hands.begin(held, settings, place);
                self.carry(hands, held.attempt, BTreeMap::new());
            }
            ToWorker::Cancel { held, reason, superseded } => {
                if let Some(running) = hands.running.get(&held.attempt).filter(|running| running.held == held)
                {
                    let _ = running.stop.send(Some(if superseded {
                        Stop::Superseded(reason)
                    } else {
                        Stop::Cancelled(reason)
                    }));
                }
            }
            ToWorker::Acked { attempt, stream, offset } => {
                if let Some(acks) = self.acks.get(&attempt) {
                    acks.send_modify(|acked| *acked.entry(stream).or_default() = offset);
                }
            }
            ToWorker::FinishedAck { attempt } => {
                self.acks.remove(&attempt);
                hands.forget(attempt, None);
            }
            ToWorker::Fenced { held, reason } => {
                self.acks.remove(&held.attempt);
                hands.forget(held.attempt, Some(Stop::Fenced(reason)));
            }
            ToWorker::Answer { attempt, ask, reply } => {
                if let Some(running) = hands.running.get(&attempt) {
                    running.questions.answered(ask, reply);
                }
            }
            ToWorker::Watch { attempt, on } => {
                if let Some(running) = hands.running.get(&attempt) {
                    let _ = running.watched.send(on);
                }
            }
            ToWorker::Welcome { .. } => return Err("the server said welcome twice".into()),
            ToWorker::Refused { reason, .. } => return Err(reason),
        }
        Ok(())
    }

    /// Starts to carry an attempt's record to the server on this connection.
    fn carry(&mut self, hands: &Hands, attempt: AttemptId, from: BTreeMap<Stream, u64>) {
        let Some(running) = hands.running.get(&attempt) else { return };
        if self.acks.contains_key(&attempt) {
            return;
        }
        let (acks, acked) = acks_channel(from);
        // Who watched through an earlier connection asks again through this one.
        running.watched.send_replace(false);
        self.acks.insert(attempt, acks);
        let uploader =
            Uploader::new(running, &self.server, &hands.config().token, acked, self.outgoing.clone());
        self.uploaders.spawn(uploader.run());
        let ask = super::upload::put_questions(running, self.outgoing.clone());
        self.uploaders.spawn(async move {
            ask.await;
            Ok(())
        });
        let show = super::upload::show_screen(running, self.outgoing.clone());
        self.uploaders.spawn(async move {
            show.await;
            Ok(())
        });
    }
}
