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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const POINTER: [u8; 6] = [5, 1, 0, 2, 0, 3];
    const NUDGED: [u8; 8] = [6, 0, 0, 0, 0, 0, 0, 0];

    /// A connected screen of 2 x 1 pixels and the server's end, all of the handshake read.
    async fn connected(tasks: &mut JoinSet<()>) -> (Screen, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut hello = b"RFB 003.008\n\x01\x01\0\0\0\0\0\x02\0\x01".to_vec();
        hello.extend_from_slice(&[0; 20]);
        theirs.write_all(&hello).await.unwrap();
        let screen = Screen::connect(ours, Instant::now(), None, tasks).await.unwrap();
        // Version, security, sharing, pixel format, six encodings, one request.
        let mut said = [0; 12 + 1 + 1 + 20 + 4 + 24 + 10];
        theirs.read_exact(&mut said).await.unwrap();
        (screen, theirs)
    }

    async fn point(screen: &Screen) {
        screen.actions().send(Action::Pointer { x: 2, y: 3, buttons: 1 }).await.unwrap();
    }

    #[tokio::test]
    async fn a_screen_is_paced_as_long_as_somebody_waits() {
        let mut tasks = JoinSet::new();
        let (screen, mut server) = connected(&mut tasks).await;
        // Nobody waits: the pointer position is the first that comes.
        let mut message = [0; 6];
        point(&screen).await;
        server.read_exact(&mut message).await.unwrap();
        assert_eq!(message, POINTER);
        let demand = (screen.demand(), screen.demand());
        for _ in 0..4 {
            let mut message = [0; 8];
            server.read_exact(&mut message).await.unwrap();
            assert_eq!(message, NUDGED);
        }
        drop(demand);
        point(&screen).await;
        let mut rest = vec![0; 1024];
        let mut n = 0;
        while !rest[..n].ends_with(&POINTER) {
            n += server.read(&mut rest[n..]).await.unwrap();
        }
        // One nudge may have been on its way.
        assert!(n <= NUDGED.len() + POINTER.len(), "{:?}", &rest[..n]);
    }

    #[tokio::test]
    async fn an_update_becomes_a_frame_and_the_end_is_told() {
        let mut tasks = JoinSet::new();
        let (screen, mut server) = connected(&mut tasks).await;
        let mut frames = screen.frames();
        assert_eq!(frames.borrow().seq, 0);
        server.write_all(&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 30, 20, 10, 0]).await.unwrap();
        let frame = frames.wait_for(|f| f.seq == 1).await.unwrap().clone();
        assert_eq!(frame.image.rgb(), [0, 0, 0, 10, 20, 30]);
        // The first picture is new everywhere.
        assert_eq!(frame.dirty[..], [crate::Rect { x: 0, y: 0, w: 2, h: 1 }]);
        // A request for the next update follows.
        let mut request = [0; 10];
        server.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [3, 1, 0, 0, 0, 0, 0, 2, 0, 1]);
        drop(server);
        let mut lost = screen.lost();
        let why = lost.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(why.as_deref(), Some("QEMU closed the connection"));
    }
}
