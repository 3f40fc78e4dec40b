//! What a screen shows, as a stream of frames.

use std::sync::Arc;
use std::time::Duration;

use assay_screen::Image;
use tokio::sync::watch;

/// A rectangle in pixels; the origin is the top left corner of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

/// One state of the screen.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Counts published frames; 0 is the black picture that stands before the first one.
    pub seq: u64,
    /// When it arrived, since the machine's start.
    pub at: Duration,
    /// The whole screen.
    pub image: Arc<Image>,
    /// What differs from frame `seq - 1`. Who missed frames in between takes everything as changed.
    pub dirty: Arc<[Rect]>,
}

/// Called with every frame, none left out, in order, on the task that reads the screen: be quick.
pub type FrameObserver = Arc<dyn Fn(&Frame) + Send + Sync>;

/// Something that shows a screen.
pub trait FrameSource: Send + Sync {
    /// The latest frame and notice of each new one; who is slow sees only the latest.
    fn frames(&self) -> watch::Receiver<Frame>;

    /// Asks for frames as soon as the screen changes, until the guard is dropped. Without any demand
    /// frames still come, but up to three seconds late.
    fn demand(&self) -> Demand;
}

/// While one of these lives the source looks at the screen at its fastest pace.
#[derive(Debug)]
pub struct Demand {
    waiting: Arc<watch::Sender<usize>>,
}

impl Demand {
    pub(crate) fn new(waiting: &Arc<watch::Sender<usize>>) -> Self {
        waiting.send_modify(|n| *n += 1);
        Self { waiting: Arc::clone(waiting) }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.waiting.send_modify(|n| *n -= 1);
    }
}
