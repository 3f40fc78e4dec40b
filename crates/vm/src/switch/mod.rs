//! A network of machines: a switch in user space, without rights and without a bridge of the host.
//!
//! A machine's card is a stream of frames between QEMU and this process (`-netdev stream`, QEMU 7.2): four bytes of
//! length, big-endian, then the frame. The other end is a [`Port`] of a [`Switch`]; a port may as well lead to
//! another host. Like every Ethernet it may lose frames: those for a port that is not read fast enough.

mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub use table::{Forward, Mac, NoMac, PortId, Table};

/// The longest frame that QEMU sends, in bytes.
pub const MAX_FRAME: usize = 4096 + 65536;

/// How many frames may wait for a port.
const QUEUE: usize = 512;

/// A switch; its clones are the same switch. It ends when nothing is plugged into it any more.
#[derive(Clone, Default)]
pub struct Switch(Arc<Inner>);

#[derive(Default)]
struct Inner {
    wires: Mutex<Wires>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Wires {
    table: Table,
    ports: BTreeMap<PortId, mpsc::Sender<Arc<[u8]>>>,
}

/// A place in a switch. Dropping it pulls the plug.
pub struct Port {
    id: PortId,
    switch: Switch,
    incoming: mpsc::Receiver<Arc<[u8]>>,
}

/// The sending half of a [`Port`], which does not keep it plugged in.
#[derive(Clone)]
pub struct Sender {
    id: PortId,
    switch: Switch,
}

impl Switch {
    /// A switch with nothing plugged in.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new port.
    pub fn plug(&self) -> Port {
        let (sender, incoming) = mpsc::channel(QUEUE);
        let mut wires = self.wires();
        let id = wires.table.plug();
        wires.ports.insert(id, sender);
        drop(wires);
        Port { id, switch: self.clone(), incoming }
    }

    /// How many frames were lost because their receiver did not read them.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn send(&self, from: PortId, frame: &[u8]) {
        let mut wires = self.wires();
        let receivers: Vec<mpsc::Sender<Arc<[u8]>>> = match wires.table.forward(from, frame) {
            Forward::To(port) => wires.ports.get(&port).into_iter().cloned().collect(),
            Forward::Flood => wires
                .ports
                .iter()
                .filter(|(port, _)| **port != from)
                .map(|(_, sender)| sender.clone())
                .collect(),
            Forward::Drop => Vec::new(),
        };
        drop(wires);
        let frame: Arc<[u8]> = Arc::from(frame);
        for receiver in receivers {
            if receiver.try_send(Arc::clone(&frame)).is_err() {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Sends a frame to whoever it is for.
    pub fn send(&self, frame: &[u8]) {
        self.switch.send(self.id, frame);
    }

    /// The next frame for this port.
    pub async fn receive(&mut self) -> Option<Arc<[u8]>> {
        self.incoming.recv().await
    }

    /// The sending half.
    pub fn sender(&self) -> Sender {
        Sender { id: self.id, switch: self.switch.clone() }
    }

    /// Carries frames between the port and QEMU until either end closes.
    pub async fn carry(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let (mut from_guest, mut to_guest) = tokio::io::split(stream);
        let sender = self.sender();
        let reading = async move {
            let mut frame = Vec::new();
            while read_frame(&mut from_guest, &mut frame).await? {
                sender.send(&frame);
            }
            Ok(())
        };
        let writing = async move {
            let mut buffer = Vec::new();
            while let Some(frame) = self.receive().await {
                buffer.clear();
                put_frame(&mut buffer, &frame);
                // What has come meanwhile goes out with it.
                while buffer.len() < MAX_FRAME
                    && let Ok(frame) = self.incoming.try_recv()
                {
                    put_frame(&mut buffer, &frame);
                }
                to_guest.write_all(&buffer).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    }
}

impl Sender {
    /// Sends a frame as if it came in at the port; dropped once that is unplugged.
    pub fn send(&self, frame: &[u8]) {
        self.switch.send(self.id, frame);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut wires = self.switch.wires();
        wires.table.unplug(self.id);
        wires.ports.remove(&self.id);
    }
}

/// Frames are never longer than [`MAX_FRAME`], so that their length fits.
fn put_frame(buffer: &mut Vec<u8>, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(frame);
}

/// Reads a frame in place of what `frame` holds; false at the end of the stream.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), frame: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        let why = format!("a frame of {length} bytes; the longest has {MAX_FRAME}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    frame.resize(length, 0);
    stream.read_exact(frame).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(to: u8, from: u8, text: &str) -> Vec<u8> {
        [[to; 6].as_slice(), &[from; 6], &[8, 0], text.as_bytes()].concat()
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            put_frame(&mut bytes, frame);
        }
        bytes
    }

    #[tokio::test]
    async fn two_machines_talk_and_a_third_hears_only_broadcasts() {
        let switch = Switch::new();
        let (mut one, one_end) = tokio::io::duplex(1 << 17);
        let (mut two, two_end) = tokio::io::duplex(1 << 17);
        let mut third = switch.plug();
        let mut lines = tokio::task::JoinSet::new();
        lines.spawn(switch.plug().carry(one_end));
        lines.spawn(switch.plug().carry(two_end));
        let hello = frame(0xff, 2, "who is there?");
        one.write_all(&framed(std::slice::from_ref(&hello))).await.expect("a line");
        assert_eq!(third.receive().await.as_deref(), Some(hello.as_slice()));
        let mut heard = Vec::new();
        assert!(read_frame(&mut two, &mut heard).await.expect("a line") && heard == hello);
        let answers = [frame(2, 4, "I am"), frame(2, 4, &"x".repeat(9000))];
        two.write_all(&framed(&answers)).await.expect("a line");
        for answer in answers {
            assert!(read_frame(&mut one, &mut heard).await.expect("a line") && heard == answer);
        }
        // A machine that goes takes its plug with it.
        drop(one);
        assert!(lines.join_next().await.expect("a line").is_ok());
        two.write_all(&framed(&[frame(2, 4, "still there?")])).await.expect("a line");
        assert_eq!(third.receive().await.as_deref(), Some(frame(2, 4, "still there?").as_slice()));
        assert!(third.incoming.try_recv().is_err(), "what was for the first only was for nobody else");
        assert_eq!(switch.lost(), 0);
    }

    #[test]
    fn a_port_that_is_not_read_loses_frames_and_nobody_waits() {
        let switch = Switch::new();
        let (sender, mut deaf) = (switch.plug(), switch.plug());
        for _ in 0..QUEUE + 3 {
            sender.send(&frame(0xff, 2, "x"));
        }
        assert_eq!(switch.lost(), 3);
        assert!(deaf.incoming.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_ends_the_line() {
        let (mut guest, end) = tokio::io::duplex(64);
        let carried = tokio::join!(Switch::new().plug().carry(end), async {
            guest.write_all(&(MAX_FRAME as u32 + 1).to_be_bytes()).await
        });
        assert_eq!(
            carried.0.expect_err("an error").to_string(),
            "a frame of 69633 bytes; the longest has 69632"
        );
    }

    proptest! {
        #[test]
        fn hostile_streams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), small in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let mut bytes = bytes;
            if small && bytes.len() > 3 {
                bytes[..3].fill(0);
            }
            let line = tokio::io::join(bytes.as_slice(), tokio::io::sink());
            let _ = runtime.block_on(Switch::new().plug().carry(line));
        }
    }
}
