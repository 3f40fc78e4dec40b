//! Carries one attempt's record to the server over one connection.

use super::{Running, is_silent};
use crate::attempt::{AttemptDir, Grown};
use crate::exec::{ScreenTap, Stop};
use assay_proto::worker::{Held, MAX_CHUNK, Report, Stream, ToServer, WorkPhase};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err::tokio as fs;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};

/// Bytes of one stream that may be under way without an acknowledgement.
const WINDOW: u64 = 1024 * 1024;
/// Small writes within this time go up together.
const GATHER: Duration = Duration::from_millis(40);
/// Bytes of a picture as it is sent; a message may have one mebibyte.
const SCREEN_LIMIT: usize = 1_000_000;
/// A viewer gets at most so many pictures: one in this time.
const SCREEN_PACE: Duration = Duration::from_millis(150);

/// What the server has acknowledged, stream by stream.
pub(super) type Acked = watch::Receiver<BTreeMap<Stream, u64>>;

/// A channel for acknowledgements that begins with what the server has.
pub(super) fn acks_channel(from: BTreeMap<Stream, u64>) -> (watch::Sender<BTreeMap<Stream, u64>>, Acked) {
    watch::channel(from)
}

/// Carries one attempt.
pub(super) struct Uploader {
    held: Held,
    dir: AttemptDir,
    grown: watch::Receiver<Grown>,
    ended: watch::Receiver<Option<Report>>,
    stop: watch::Receiver<Option<Stop>>,
    blobs_sent: Arc<AtomicUsize>,
    acked: Acked,
    outgoing: mpsc::Sender<ToServer>,
    sent: BTreeMap<Stream, u64>,
    phase: Option<WorkPhase>,
    server: String,
    token: String,
}

/// The connection is gone, or the blob store is: the next connection carries on.
pub(super) struct Broken;

impl Uploader {
    pub(super) fn new(
        running: &Running,
        server: &str,
        token: &str,
        acked: Acked,
        outgoing: mpsc::Sender<ToServer>,
    ) -> Self {
        let sent = acked.borrow().clone();
        Self {
            held: running.held,
            dir: running.dir.clone(),
            grown: running.dir.grown(),
            ended: running.ended.clone(),
            stop: running.stop.subscribe(),
            blobs_sent: running.blobs_sent.clone(),
            acked,
            outgoing,
            sent,
            phase: None,
            server: server.to_owned(),
            token: token.to_owned(),
        }
    }

    /// Carries everything, then the report; ends when that is said or the connection is gone.
    pub(super) async fn run(mut self) -> Result<(), Broken> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_mins(1))
            .no_proxy()
            .build()
            .map_err(|_| Broken)?;
        loop {
            // The report is looked at before the growth: what has grown by then is all there will be.
            let report = self.ended.borrow_and_update().clone();
            let grown = self.grown.borrow_and_update().clone();
            self.carry_blobs(&http, grown.blobs).await?;
            if grown.phase != self.phase {
                self.phase = grown.phase;
                if let Some(phase) = grown.phase {
                    self.say(ToServer::Phase { held: self.held, phase }).await?;
                }
            }
            for (&stream, &length) in &grown.streams {
                self.carry_stream(stream, length).await?;
            }
            if let Some(report) = report {
                let silent = is_silent(self.stop.borrow().as_ref(), &report);
                if !silent {
                    self.say(ToServer::Finished { held: self.held, report }).await?;
                }
                return Ok(());
            }
            tokio::select! {
                changed = self.grown.changed() => changed.map_err(|_| Broken)?,
                changed = self.ended.changed() => changed.map_err(|_| Broken)?,
            }
            if self.ended.borrow().is_none() {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    async fn say(&self, message: ToServer) -> Result<(), Broken> {
        self.outgoing.send(message).await.map_err(|_| Broken)
    }

    /// Puts blobs until `count` are there. The server may answer that it is busy or be gone for a moment.
    async fn carry_blobs(&self, http: &reqwest::Client, count: usize) -> Result<(), Broken> {
        let from = self.blobs_sent.load(Ordering::SeqCst);
        if from >= count {
            return Ok(());
        }
        for sha in self.dir.blobs_from(from) {
            let bytes = fs::read(self.dir.path().join("blobs").join(&sha)).await.map_err(|_| Broken)?;
            let url = format!("{}/worker/v1/blobs/{sha}", self.server);
            let mut pause = Duration::from_millis(100);
            loop {
                let answer = http.put(&url).bearer_auth(&self.token).body(bytes.clone()).send().await;
                match answer {
                    Ok(answer) if answer.status().is_success() => break,
                    // Too large, or damaged on the way to our own disk: no repetition mends it.
                    Ok(answer) if matches!(answer.status().as_u16(), 413 | 422) => {
                        tracing::error!(status = %answer.status(), sha, "the server refuses a picture; the page will miss it");
                        break;
                    }
                    Ok(answer) => {
                        tracing::warn!(status = %answer.status(), sha, "the server did not take a picture; trying again");
                    }
                    Err(error) => tracing::debug!(%error, "blob upload failed"),
                }
                if self.outgoing.is_closed() {
                    return Err(Broken);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            self.blobs_sent.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn carry_stream(&mut self, stream: Stream, length: u64) -> Result<(), Broken> {
        let mut sent = self.sent.get(&stream).copied().unwrap_or(0);
        if sent >= length {
            return Ok(());
        }
        let mut file = fs::File::open(self.dir.path().join(stream.file_name())).await.map_err(|_| Broken)?;
        file.seek(std::io::SeekFrom::Start(sent)).await.map_err(|_| Broken)?;
        while sent < length {
            let mut bytes = vec![0; MAX_CHUNK.min((length - sent) as usize)];
            file.read_exact(&mut bytes).await.map_err(|_| Broken)?;
            let message =
                ToServer::Append { held: self.held, stream, offset: sent, data: STANDARD.encode(&bytes) };
            self.say(message).await?;
            sent += bytes.len() as u64;
            self.sent.insert(stream, sent);
            let room = |acked: &BTreeMap<Stream, u64>| {
                sent - acked.get(&stream).copied().unwrap_or(0).min(sent) <= WINDOW
            };
            self.acked.wait_for(room).await.map_err(|_| Broken)?;
        }
        Ok(())
    }
}

/// Sends pictures of the screen while somebody watches.
pub(super) fn show_screen(
    running: &Running,
    outgoing: mpsc::Sender<ToServer>,
) -> impl Future<Output = ()> + Send + use<> {
    let (held, tap) = (running.held, running.tap.clone());
    let (mut watched, mut ended) = (running.watched.subscribe(), running.ended.clone());
    let watch = async move {
        loop {
            if watched.wait_for(|on| *on).await.is_err() {
                return;
            }
            let _ = show_until_unwatched(held, &tap, &outgoing, &mut watched).await;
        }
    };
    async move {
        tokio::select! {
            () = watch => {}
            _ = ended.wait_for(Option::is_some) => {}
        }
    }
}

/// Asks the server what the attempt's test asks, and what has no answer from an earlier connection.
pub(super) fn put_questions(
    running: &Running,
    outgoing: mpsc::Sender<ToServer>,
) -> impl Future<Output = ()> + Send + use<> {
    let (held, questions, mut ended) = (running.held, running.questions.clone(), running.ended.clone());
    let put = async move {
        let mut newest = questions.newest();
        let mut put = 0;
        loop {
            newest.borrow_and_update();
            for (ask, question) in questions.after(put) {
                put = ask;
                if outgoing.send(ToServer::Ask { held, ask, question }).await.is_err() {
                    return;
                }
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    };
    async move {
        tokio::select! {
            () = put => {}
            _ = ended.wait_for(Option::is_some) => {}
        }
    }
}

async fn show_until_unwatched(
    held: Held,
    tap: &ScreenTap,
    outgoing: &mpsc::Sender<ToServer>,
    watched: &mut watch::Receiver<bool>,
) -> Option<()> {
    while *watched.borrow_and_update() {
        let frames = tap.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(mut frames) = frames {
            let frame = frames.borrow_and_update().clone();
            let png =
                tokio::task::spawn_blocking(move || assay_screen::png::encode(&frame.image)).await.ok()?;
            let png = STANDARD.encode(png);
            // A picture that does not fit into a message is left out; the next one may fit.
            if png.len() < SCREEN_LIMIT {
                outgoing.send(ToServer::Screen { held, png }).await.ok()?;
            }
            tokio::select! {
                // An error says that the machine is gone; the pause below keeps the wait for its end calm.
                _ = frames.changed() => {}
                changed = watched.changed() => changed.ok()?,
            }
        }
        tokio::time::sleep(SCREEN_PACE).await;
    }
    Some(())
}
