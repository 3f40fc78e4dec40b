//! The run journal: every frame, key, serial byte and call of a run, with its time, one JSON object a line.
//!
//! A frame carries only the rectangles that changed, each as a PNG of its own, so that any frame of the run can be
//! put together again by drawing the rectangles in order.

use serde::{Deserialize, Serialize};

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since the run began.
    pub t: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub enum Entry {
    /// The screen changed.
    Frame {
        /// The frame's number.
        seq: u64,
        /// Width of the whole screen in pixels.
        w: u32,
        /// Height of the whole screen in pixels.
        h: u32,
        /// What changed.
        rects: Vec<FrameRect>,
    },
    /// The guest wrote to its serial port: bytes `offset..offset + len` of `serial0.txt`.
    Serial {
        /// Offset in bytes.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Keys went to the guest, in the notation of `send_key`; `***` for a secret.
    Keys {
        /// The keys.
        keys: String,
    },
    /// The mouse went to the guest.
    Pointer {
        /// Pixels from the left.
        x: u32,
        /// Pixels from the top.
        y: u32,
        /// Bit 0 left, 1 middle, 2 right.
        buttons: u8,
    },
    /// The power, the CD or the processors were touched.
    Machine {
        /// What was done.
        action: String,
    },
    /// The test made a call; secrets are left out.
    Call {
        /// Its name.
        name: String,
        /// Its arguments, as in the test-driver protocol.
        args: serde_json::Value,
    },
    /// The call was answered.
    Answer {
        /// Its name.
        name: String,
        /// The refusal, if it was one.
        error: Option<String>,
    },
}

/// A rectangle of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRect {
    /// Left edge in pixels.
    pub x: u32,
    /// Upper edge in pixels.
    pub y: u32,
    /// PNG, base64; its size is the rectangle's.
    pub png: String,
}
