//! The screen and input of a local machine, over RFB on a Unix socket.
//!
//! QEMU looks at the guest's screen every 30 ms while it changes and backs off to once in 3 s when it is
//! quiet. As long as somebody waits for a frame, an empty clipboard text every 25 ms keeps QEMU at 30 ms
//! (docs/adr/0003-frame-source.md).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use assay_screen::Image;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::frames::{Demand, Frame, FrameObserver, FrameSource};
use crate::input::Action;
use crate::rfb::{Client, Event, RfbError};

/// Shorter than QEMU's 30 ms, so that none of its looks is put off.
const NUDGE: Duration = Duration::from_millis(25);
const READ_SIZE: usize = 256 * 1024;

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VncError {
    #[error(transparent)]
    Protocol(#[from] RfbError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("QEMU closed the connection")]
    Closed,
}

/// A connected screen; the connection lives in the machine's task set.
pub(crate) struct Screen {
    frames: watch::Receiver<Frame>,
    waiting: Arc<watch::Sender<usize>>,
    actions: mpsc::Sender<Action>,
    lost: watch::Receiver<Option<String>>,
}

impl FrameSource for Screen {
    fn frames(&self) -> watch::Receiver<Frame> {
        self.frames.clone()
    }

    fn demand(&self) -> Demand {
        Demand::new(&self.waiting)
    }
}

impl Screen {
    /// Where keys and pointer positions go.
    pub(crate) fn actions(&self) -> mpsc::Sender<Action> {
        self.actions.clone()
    }

    /// Becomes the reason when the connection ends.
    pub(crate) fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    /// Shakes hands and starts to read. Times of frames count from `epoch`.
    pub(crate) async fn connect(
        stream: UnixStream,
        epoch: Instant,
        observer: Option<FrameObserver>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, VncError> {
        let mut client = Client::default();
        let mut buffer = vec![0; READ_SIZE];
        let image = loop {
            flush(&stream, &mut client).await?;
            stream.readable().await?;
            let events = match read(&stream, &mut client, &mut buffer) {
                Err(VncError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?,
            };
            if let Some(Event::Ready { width, height }) = events.first() {
                break Image::filled(*width, *height, [0; 3]);
            }
        };
        flush(&stream, &mut client).await?;
        let first = Frame { seq: 0, at: epoch.elapsed(), image: Arc::new(image), dirty: Arc::new([]) };
        let (frames_tx, frames) = watch::channel(first);
        let (waiting, waiting_rx) = watch::channel(0);
        let (actions, actions_rx) = mpsc::channel(64);
        let (lost_tx, lost) = watch::channel(None);
        let link = Link {
            stream,
            client,
            buffer,
            frames: frames_tx,
            waiting: waiting_rx,
            actions: actions_rx,
            observer,
            epoch,
        };
        tasks.spawn(async move {
            let why = link.run().await;
            lost_tx.send_replace(Some(why.to_string()));
        });
        Ok(Self { frames, waiting: Arc::new(waiting), actions, lost })
    }
}

/// Reads once and feeds the client; `WouldBlock` if there is nothing.
fn read(stream: &UnixStream, client: &mut Client, buffer: &mut [u8]) -> Result<Vec<Event>, VncError> {
    match stream.try_read(buffer)? {
        0 => Err(VncError::Closed),
        n => Ok(client.receive(&buffer[..n])?),
    }
}

async fn flush(stream: &UnixStream, client: &mut Client) -> Result<(), VncError> {
    while !client.output().is_empty() {
        stream.writable().await?;
        write(stream, client)?;
    }
    Ok(())
}

fn write(stream: &UnixStream, client: &mut Client) -> Result<(), VncError> {
    match stream.try_write(client.output()) {
        Ok(n) => client.sent(n),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

struct Link {
    stream: UnixStream,
    client: Client,
    buffer: Vec<u8>,
    frames: watch::Sender<Frame>,
    waiting: watch::Receiver<usize>,
    actions: mpsc::Receiver<Action>,
    observer: Option<FrameObserver>,
    epoch: Instant,
}

impl Link {
    async fn run(mut self) -> VncError {
        match self.serve().await {
            Ok(()) => VncError::Closed,
            Err(e) => e,
        }
    }

    async fn serve(&mut self) -> Result<(), VncError> {
        let mut pace = tokio::time::interval(NUDGE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wanted = *self.waiting.borrow_and_update() > 0;
            // A QEMU that does not read must not make the queue grow: one nudge at a time is enough.
            let idle = self.client.output().is_empty();
            tokio::select! {
                ready = self.stream.readable() => {
                    ready?;
                    self.read()?;
                }
                ready = self.stream.writable(), if !idle => {
                    ready?;
                    write(&self.stream, &mut self.client)?;
                }
                action = self.actions.recv(), if idle => match action {
                    Some(Action::Key { key, down }) => self.client.key(key.scancode(), down),
                    Some(Action::Pointer { x, y, buttons }) => self.client.pointer(x, y, buttons),
                    None => return Ok(()),
                },
                _ = pace.tick(), if wanted && idle => self.client.nudge(),
                changed = self.waiting.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    if !wanted {
                        pace.reset_immediately();
                    }
                }
            }
            // Most messages go out at once; what does not waits for `writable`.
            if !self.client.output().is_empty() {
                write(&self.stream, &mut self.client)?;
            }
        }
    }

    fn read(&mut self) -> Result<(), VncError> {
        // A few reads in a row drain a whole picture, and still let keys through.
        for _ in 0..16 {
            let events = match read(&self.stream, &mut self.client, &mut self.buffer) {
                Err(VncError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            for event in events {
                if let Event::Update(dirty) = event {
                    self.publish(dirty.into());
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, dirty: Arc<[crate::Rect]>) {
        let frame = Frame {
            seq: self.frames.borrow().seq + 1,
            at: self.epoch.elapsed(),
            image: Arc::new(self.client.image().clone()),
            dirty,
        };
        if let Some(observer) = &self.observer {
            observer(&frame);
        }
        self.frames.send_replace(frame);
    }
}
