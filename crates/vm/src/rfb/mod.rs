//! A client of RFB 3.8 (RFC 6143, the protocol of VNC) without I/O: bytes in, events out, bytes to send.
//!
//! It speaks what QEMU offers over a local socket: no authentication, raw pixels, changes of size, keys
//! by scancode, absolute pointers. Whatever bytes arrive it answers with an error, never with a panic,
//! and it never holds more than one picture and one incomplete message head.

mod wire;

use assay_screen::Image;

use crate::frames::Rect;

/// Longest side of a screen that is accepted, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels of a screen that are accepted (as many as 8192 x 4096).
pub const MAX_PIXELS: u32 = 33_554_432;
/// Longest text (desktop name, reason of a refusal) that is accepted, in bytes.
const MAX_TEXT: u32 = 65_536;
const PIXEL: usize = 4;

/// What the server may put into a rectangle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Pixels as they are.
    Raw,
    /// A part of the picture moved elsewhere.
    CopyRect,
    /// New size of the screen.
    DesktopSize,
    /// The same with a list of monitors; understood, not asked for.
    ExtendedDesktopSize,
    /// No more rectangles in this update.
    LastRect,
    /// QEMU: keys may be sent by scancode.
    ScancodeKeys,
    /// QEMU: whether pointer positions are absolute.
    PointerType,
}

impl Encoding {
    const ALL: [Self; 7] = [
        Self::CopyRect,
        Self::Raw,
        Self::DesktopSize,
        Self::LastRect,
        Self::ScancodeKeys,
        Self::PointerType,
        Self::ExtendedDesktopSize,
    ];
    /// Announced to the server, the preferred first.
    const WANTED: &'static [Self] = Self::ALL.split_at(6).0;

    fn number(self) -> i32 {
        match self {
            Self::Raw => 0,
            Self::CopyRect => 1,
            Self::DesktopSize => -223,
            Self::LastRect => -224,
            Self::PointerType => -257,
            Self::ScancodeKeys => -258,
            Self::ExtendedDesktopSize => -308,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.number() == number)
    }
}

/// What the bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is over; the screen has this size in pixels.
    Ready {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The picture changed in these places. After a change of size this is the first update that
    /// brought pixels, and covers the whole screen.
    Update(Vec<Rect>),
    /// The guest rang the bell.
    Bell,
}

/// The server sent what it must not; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RfbError {
    /// Not an RFB greeting.
    #[error("the other side does not speak RFB: it greets with {0:?}")]
    NotRfb(String),
    /// Older than 3.8.
    #[error("the VNC server speaks RFB {0}.{1}; 3.8 or later is needed")]
    TooOld(u32, u32),
    /// Every offered kind of authentication needs a secret.
    #[error("the VNC server asks for a password (security types {0:?}); start it without one")]
    SecurityUnsupported(Vec<u8>),
    /// The server gave this reason.
    #[error("the VNC server refuses the connection: {0}")]
    Refused(String),
    /// A text longer than 64 KiB.
    #[error("the VNC server announces a text of {0} bytes; at most {MAX_TEXT} are accepted")]
    TextTooLong(u32),
    /// A screen larger than [`MAX_SIDE`] or [`MAX_PIXELS`], or empty.
    #[error(
        "the guest's screen of {0}x{1} pixels is not accepted (1 to {MAX_SIDE} a side, \
         {MAX_PIXELS} in all); choose a smaller XRES and YRES"
    )]
    BadSize(u32, u32),
    /// A rectangle that leaves the screen.
    #[error("the VNC server sent {what} at {rect:?}, outside the screen of {width}x{height}")]
    OutOfScreen {
        /// What was sent.
        what: &'static str,
        /// Where.
        rect: Rect,
        /// Width of the screen.
        width: u32,
        /// Height of the screen.
        height: u32,
    },
    /// An encoding that was not asked for: its length is unknown.
    #[error("the VNC server used encoding {0}, which was not asked for")]
    UnknownEncoding(i32),
    /// A message of unknown type.
    #[error("the VNC server sent a message of unknown type {0}")]
    UnknownMessage(u8),
}

#[derive(Debug)]
enum Phase {
    Version,
    SecurityTypes,
    SecurityResult,
    Reason,
    ServerInit,
    Name(u32),
    Message,
    Rectangles {
        left: Option<u16>,
    },
    Raw {
        rect: Rect,
        done: usize,
        left: Option<u16>,
    },
    CopyRect {
        rect: Rect,
        left: Option<u16>,
    },
    Monitors {
        width: u32,
        height: u32,
        left: Option<u16>,
    },
    /// Bytes of no interest, then the next message, or the next rectangle of an update.
    Skip {
        bytes: u64,
        then: Next,
    },
}

/// What follows skipped bytes.
#[derive(Clone, Copy, Debug)]
enum Next {
    Message,
    /// With so many rectangles left.
    Rectangle(Option<u16>),
}

/// The client's side of one connection.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    image: Image,
    dirty: Vec<Rect>,
    /// The size changed and no pixel of the new picture has come yet.
    resized: bool,
    scancodes: bool,
    absolute: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            phase: Phase::Version,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            image: Image::filled(1, 1, [0; 3]),
            dirty: Vec::new(),
            resized: false,
            scancodes: false,
            absolute: false,
        }
    }
}

impl Client {
    /// The picture as of the last bytes received; whole when [`Event::Update`] was just returned.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether the server takes keys by scancode.
    pub fn takes_scancodes(&self) -> bool {
        self.scancodes
    }

    /// Whether the guest listens to absolute pointer positions (a tablet) at this moment.
    pub fn pointer_is_absolute(&self) -> bool {
        self.absolute
    }

    /// Bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Forgets the first `bytes` of [`Client::output`]: they were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
    }

    /// Queues a key by its scancode: set 1, and 0x80 added where the set has an 0xe0 before it.
    pub fn key(&mut self, scancode: u8, down: bool) {
        wire::scancode_event(&mut self.output, scancode, down);
    }

    /// Queues a pointer position with pressed buttons (bit 0 left, 1 middle, 2 right, 3 and 4 wheel).
    pub fn pointer(&mut self, x: u16, y: u16, buttons: u8) {
        wire::pointer_event(&mut self.output, x, y, buttons);
    }

    /// Queues an empty clipboard text. It does not reach the guest, but QEMU looks at the screen within
    /// 30 ms after any message other than a request for an update.
    pub fn nudge(&mut self) {
        wire::empty_cut_text(&mut self.output);
    }

    /// Takes what arrived; any way to cut the stream into pieces gives the same events.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, RfbError> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.advance(&mut events)? {}
        self.input.drain(..self.used);
        self.used = 0;
        Ok(events)
    }

    fn available(&self) -> usize {
        self.input.len() - self.used
    }

    /// The next `N` bytes, taken; `None` if they are not all there yet.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.input.get(self.used..self.used + N)?.try_into().ok()?;
        self.used += N;
        Some(bytes)
    }

    /// Looks at the next `n` bytes without taking them.
    fn peek(&self, n: usize) -> Option<&[u8]> {
        self.input.get(self.used..self.used.checked_add(n)?)
    }

    /// One step; false if more bytes are needed.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<bool, RfbError> {
        match self.phase {
            Phase::Version => self.version(),
            Phase::SecurityTypes => self.security_types(),
            Phase::SecurityResult => Ok(self.security_result()),
            Phase::Reason => self.reason(),
            Phase::ServerInit => self.server_init(),
            Phase::Name(length) => Ok(self.name(length, events)),
            Phase::Message => self.message(events),
            Phase::Rectangles { left } => self.rectangle(left, events),
            Phase::Raw { rect, done, left } => Ok(self.raw(rect, done, left)),
            Phase::CopyRect { rect, left } => self.copy_rect(rect, left),
            Phase::Monitors { width, height, left } => self.monitors(width, height, left),
            Phase::Skip { bytes, then } => Ok(self.skip(bytes, then)),
        }
    }

    fn version(&mut self) -> Result<bool, RfbError> {
        let Some(bytes) = self.take::<12>() else { return Ok(false) };
        let (major, minor) = parse_version(&bytes)
            .ok_or_else(|| RfbError::NotRfb(String::from_utf8_lossy(&bytes).into_owned()))?;
        if (major, minor) < (3, 8) {
            return Err(RfbError::TooOld(major, minor));
        }
        self.output.extend_from_slice(b"RFB 003.008\n");
        self.phase = Phase::SecurityTypes;
        Ok(true)
    }

    fn security_types(&mut self) -> Result<bool, RfbError> {
        let Some(&[count]) = self.peek(1) else { return Ok(false) };
        let Some(types) = self.peek(1 + usize::from(count)).map(|b| b[1..].to_vec()) else {
            return Ok(false);
        };
        self.used += 1 + usize::from(count);
        if count == 0 {
            self.phase = Phase::Reason;
            return Ok(true);
        }
        if !types.contains(&1) {
            return Err(RfbError::SecurityUnsupported(types));
        }
        self.output.push(1);
        self.phase = Phase::SecurityResult;
        Ok(true)
    }

    fn security_result(&mut self) -> bool {
        let Some(result) = self.take::<4>() else { return false };
        if result == [0; 4] {
            self.output.push(1); // other clients may stay
            self.phase = Phase::ServerInit;
        } else {
            self.phase = Phase::Reason;
        }
        true
    }

    fn reason(&mut self) -> Result<bool, RfbError> {
        let Some(head) = self.peek(4) else { return Ok(false) };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if length > MAX_TEXT {
            return Err(RfbError::TextTooLong(length));
        }
        match self.peek(4 + length as usize) {
            Some(text) => Err(RfbError::Refused(String::from_utf8_lossy(&text[4..]).into_owned())),
            None => Ok(false),
        }
    }

    fn server_init(&mut self) -> Result<bool, RfbError> {
        let Some(b) = self.take::<24>() else { return Ok(false) };
        self.resize(be16(&b, 0), be16(&b, 2))?;
        let length = u32::from_be_bytes([b[20], b[21], b[22], b[23]]);
        if length > MAX_TEXT {
            return Err(RfbError::TextTooLong(length));
        }
        self.phase = Phase::Name(length);
        Ok(true)
    }

    fn name(&mut self, length: u32, events: &mut Vec<Event>) -> bool {
        if self.peek(length as usize).is_none() {
            return false;
        }
        self.used += length as usize;
        wire::set_pixel_format(&mut self.output);
        wire::set_encodings(&mut self.output, Encoding::WANTED);
        wire::update_request(&mut self.output, false, self.image.width(), self.image.height());
        events.push(Event::Ready { width: self.image.width(), height: self.image.height() });
        self.phase = Phase::Message;
        true
    }

    fn message(&mut self, events: &mut Vec<Event>) -> Result<bool, RfbError> {
        let Some(&[kind]) = self.peek(1) else { return Ok(false) };
        match kind {
            0 => {
                let Some(b) = self.take::<4>() else { return Ok(false) };
                let count = u16::from_be_bytes([b[2], b[3]]);
                // 0xffff: as many as come before a LastRect.
                self.phase = Phase::Rectangles { left: (count != u16::MAX).then_some(count) };
            }
            1 => {
                let Some(b) = self.take::<6>() else { return Ok(false) };
                self.phase = Phase::Skip { bytes: u64::from(be16(&b, 4)) * 6, then: Next::Message };
            }
            2 => {
                self.used += 1;
                events.push(Event::Bell);
            }
            3 => {
                let Some(b) = self.take::<8>() else { return Ok(false) };
                // A negative length announces an extended clipboard message of that many bytes.
                let length = i32::from_be_bytes([b[4], b[5], b[6], b[7]]).unsigned_abs();
                self.phase = Phase::Skip { bytes: u64::from(length), then: Next::Message };
            }
            other => return Err(RfbError::UnknownMessage(other)),
        }
        Ok(true)
    }

    fn rectangle(&mut self, left: Option<u16>, events: &mut Vec<Event>) -> Result<bool, RfbError> {
        if left == Some(0) {
            self.end_of_update(events);
            return Ok(true);
        }
        let Some(b) = self.take::<12>() else { return Ok(false) };
        let rect = Rect { x: be16(&b, 0), y: be16(&b, 2), w: be16(&b, 4), h: be16(&b, 6) };
        let number = i32::from_be_bytes([b[8], b[9], b[10], b[11]]);
        let encoding = Encoding::from_number(number).ok_or(RfbError::UnknownEncoding(number))?;
        let left = left.map(|n| n - 1);
        self.phase = Phase::Rectangles { left };
        match encoding {
            Encoding::Raw => {
                self.inside("pixels", rect)?;
                self.phase = Phase::Raw { rect, done: 0, left };
            }
            Encoding::CopyRect => {
                self.inside("a copied rectangle", rect)?;
                self.phase = Phase::CopyRect { rect, left };
            }
            Encoding::DesktopSize => self.resize(rect.w, rect.h)?,
            Encoding::ExtendedDesktopSize => {
                self.phase = Phase::Monitors { width: rect.w, height: rect.h, left };
            }
            Encoding::LastRect => self.phase = Phase::Rectangles { left: Some(0) },
            Encoding::ScancodeKeys => self.scancodes = true,
            Encoding::PointerType => self.absolute = rect.x != 0,
        }
        Ok(true)
    }

    fn end_of_update(&mut self, events: &mut Vec<Event>) {
        let (width, height) = (self.image.width(), self.image.height());
        let dirty = std::mem::take(&mut self.dirty);
        if !dirty.is_empty() {
            // A picture of a new size is told of once it has pixels: the black one was never shown.
            let whole = Rect { x: 0, y: 0, w: width, h: height };
            events.push(Event::Update(if self.resized { vec![whole] } else { dirty }));
            self.resized = false;
        }
        wire::update_request(&mut self.output, true, width, height);
        self.phase = Phase::Message;
    }

    fn raw(&mut self, rect: Rect, mut done: usize, left: Option<u16>) -> bool {
        let (w, total) = (rect.w as usize, rect.w as usize * rect.h as usize);
        let stride = self.image.width() as usize * 3;
        let ready = (self.available() / PIXEL).min(total - done);
        let source = &self.input[self.used..self.used + ready * PIXEL];
        self.used += ready * PIXEL;
        let mut pixels = source.chunks_exact(PIXEL);
        let mut rest = ready;
        while rest > 0 {
            let (row, column) = (done / w, done % w);
            let run = (w - column).min(rest);
            let start = (rect.y as usize + row) * stride + (rect.x as usize + column) * 3;
            let target = &mut self.image.rgb_mut()[start..start + run * 3];
            for (to, from) in target.chunks_exact_mut(3).zip(pixels.by_ref().take(run)) {
                to[0] = from[2];
                to[1] = from[1];
                to[2] = from[0];
            }
            done += run;
            rest -= run;
        }
        if done < total {
            self.phase = Phase::Raw { rect, done, left };
            return false;
        }
        self.finish_rectangle(rect, left);
        true
    }

    fn copy_rect(&mut self, rect: Rect, left: Option<u16>) -> Result<bool, RfbError> {
        let Some(b) = self.take::<4>() else { return Ok(false) };
        let from = Rect { x: be16(&b, 0), y: be16(&b, 2), ..rect };
        self.inside("a rectangle to copy", from)?;
        let stride = self.image.width() as usize * 3;
        let length = rect.w as usize * 3;
        let at = |r: Rect, row: u32| (r.y + row) as usize * stride + r.x as usize * 3;
        for i in 0..rect.h {
            // Rows in the order that does not overwrite what is still to be copied.
            let row = if rect.y > from.y { rect.h - 1 - i } else { i };
            let start = at(from, row);
            self.image.rgb_mut().copy_within(start..start + length, at(rect, row));
        }
        self.finish_rectangle(rect, left);
        Ok(true)
    }

    fn monitors(&mut self, width: u32, height: u32, left: Option<u16>) -> Result<bool, RfbError> {
        let Some([count, ..]) = self.take::<4>() else { return Ok(false) };
        if (width, height) != (self.image.width(), self.image.height()) {
            self.resize(width, height)?;
        }
        self.phase = Phase::Skip { bytes: u64::from(count) * 16, then: Next::Rectangle(left) };
        Ok(true)
    }

    fn skip(&mut self, bytes: u64, then: Next) -> bool {
        let now = bytes.min(self.available() as u64);
        self.used += now as usize;
        self.phase = match then {
            _ if now < bytes => Phase::Skip { bytes: bytes - now, then },
            Next::Message => Phase::Message,
            Next::Rectangle(left) => Phase::Rectangles { left },
        };
        now == bytes
    }

    fn finish_rectangle(&mut self, rect: Rect, left: Option<u16>) {
        if rect.w > 0 && rect.h > 0 {
            self.dirty.push(rect);
        }
        self.phase = Phase::Rectangles { left };
    }

    fn inside(&self, what: &'static str, rect: Rect) -> Result<(), RfbError> {
        let (width, height) = (self.image.width(), self.image.height());
        if rect.x + rect.w <= width && rect.y + rect.h <= height {
            return Ok(());
        }
        Err(RfbError::OutOfScreen { what, rect, width, height })
    }

    fn resize(&mut self, width: u32, height: u32) -> Result<(), RfbError> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || width * height > MAX_PIXELS {
            return Err(RfbError::BadSize(width, height));
        }
        self.image = Image::filled(width, height, [0; 3]);
        self.dirty.clear();
        self.resized = true;
        Ok(())
    }
}

fn be16(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// `RFB 003.008\n` as (3, 8).
fn parse_version(bytes: &[u8; 12]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (major, minor) = text.strip_prefix("RFB ")?.strip_suffix('\n')?.split_once('.')?;
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok()).flatten();
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests;
