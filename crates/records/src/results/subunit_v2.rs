//! subunit version 2: packets with a checksum, as stestr, testrepository and oslotest write them, with anything
//! between them.

use super::collect::{Collector, bounded};
use super::subunit::{Event, Signal, Tests};
use super::{Format, Place, Report, TestStatus};

const SIGNATURE: u8 = 0xb3;
/// Version 2 in the upper four bits of the flags.
const VERSION: u16 = 0x2000;
const TEST_ID: u16 = 0x0800;
const ROUTE_CODE: u16 = 0x0400;
const TIMESTAMP: u16 = 0x0200;
const TAGS: u16 = 0x0080;
const FILE_CONTENT: u16 = 0x0040;
const MIME_TYPE: u16 = 0x0020;
const RESERVED: u16 = 0x0008;
/// Signature, flags, length of one byte, checksum.
const SHORTEST: usize = 8;
/// So many bytes of damaged packets are looked at again for packets within them.
const SECOND_LOOKS: usize = 256 << 20;

/// Reads a stream of packets.
pub fn subunit_v2(bytes: &[u8]) -> Report {
    let mut tests = Tests::new(Collector::new(Format::SubunitV2));
    let bytes = bounded(bytes, &mut tests.out);
    let mut looked = 0;
    let mut packets = 0_u64;
    let mut at = 0;
    // Up to here lie the remains of a broken packet, which are no output.
    let mut broken_until = 0;
    let mut packet_end = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let place = Place::Offset(at as u64);
        let next = |from: usize| {
            from + rest[from..].iter().position(|b| *b == SIGNATURE).unwrap_or(rest.len() - from)
        };
        if rest[0] != SIGNATURE {
            let skip = next(0);
            tests.output(&bytes[broken_until.clamp(at, at + skip)..at + skip]);
            at += skip;
            continue;
        }
        let skip = match packet(rest) {
            Ok((event, length)) => {
                packets += 1;
                tests.event(&event, place);
                at += length;
                packet_end = at;
                broken_until = broken_until.min(at);
                continue;
            }
            Err(_) if within_character(&bytes[packet_end..], at - packet_end) => next(1),
            Err(Broken::NotAPacket) => next(1),
            Err(Broken::Short(needed)) => {
                // What only looks like a long packet may hide whole ones; but it is said once.
                if broken_until < bytes.len() {
                    tests.out.problem(place, format!("the stream ends within a packet of {needed} bytes"));
                }
                broken_until = bytes.len();
                next(1)
            }
            Err(Broken::Damaged { what, length }) => {
                if at >= broken_until {
                    tests.out.problem(place, what);
                }
                broken_until = broken_until.max(at + length);
                looked += length;
                if looked < SECOND_LOOKS { next(1) } else { length }
            }
        };
        let from = broken_until.clamp(at, at + skip);
        tests.output(&bytes[from..at + skip]);
        at += skip;
    }
    let end = Place::Offset(bytes.len() as u64);
    if packets == 0 {
        tests.out.problem(end, "there is no subunit packet in it");
    }
    tests.finish(end)
}

/// True if the byte at `at` is in the middle of a UTF-8 character, as in `ó`.
fn within_character(bytes: &[u8], at: usize) -> bool {
    (1..=at.min(3)).any(|back| {
        let from = &bytes[at - back..];
        (back + 1..=4).any(|length| {
            let text = from.get(..length).and_then(|head| std::str::from_utf8(head).ok());
            text.is_some_and(|text| text.chars().count() == 1)
        })
    })
}

/// Why bytes that begin with the signature are no packet.
enum Broken {
    /// The byte stands there by chance.
    NotAPacket,
    /// The stream ends before the packet does.
    Short(usize),
    /// The checksum or the contents are wrong.
    Damaged { what: String, length: usize },
}

/// The packet at the beginning of `bytes`, and its length.
fn packet(bytes: &[u8]) -> Result<(Event<'_>, usize), Broken> {
    let &[_, high, low, ref after @ ..] = bytes else {
        return Err(Broken::Short(SHORTEST));
    };
    let flags = u16::from_be_bytes([high, low]);
    if flags & 0xf000 != VERSION || flags & RESERVED != 0 {
        return Err(Broken::NotAPacket);
    }
    let Some((length, size)) = number(after) else { return Err(Broken::Short(SHORTEST)) };
    if length < SHORTEST || size > 3 {
        return Err(Broken::NotAPacket);
    }
    let Some(whole) = bytes.get(..length) else { return Err(Broken::Short(length)) };
    let damaged = |what: &str| Broken::Damaged { what: what.into(), length };
    let (content, checksum) = whole.split_at(length - 4);
    let mut body = content.get(3 + size..).ok_or_else(|| damaged("a packet's length is wrong"))?;
    // The cheap look first: most of what is no packet fails here.
    let event =
        fields(flags, &mut body).ok_or_else(|| damaged("a packet's contents do not fit its length"))?;
    if crc32fast::hash(content).to_be_bytes() != checksum {
        return Err(damaged("a packet's checksum is wrong"));
    }
    Ok((event, length))
}

fn fields<'a>(flags: u16, body: &mut &'a [u8]) -> Option<Event<'a>> {
    let mut event = Event::default();
    if flags & TIMESTAMP != 0 {
        let seconds = u32::from_be_bytes(take(body, 4)?.try_into().ok()?);
        let nanoseconds = take_number(body)?;
        event.at_us = Some(i64::from(seconds) * 1_000_000 + nanoseconds as i64 / 1000);
    }
    if flags & TEST_ID != 0 {
        event.test = Some(take_text(body)?);
    }
    if flags & TAGS != 0 {
        let count = take_number(body)?;
        let mut tags = Vec::new();
        for _ in 0..count {
            // Each takes at least a byte, so that a wrong count ends here soon.
            tags.push(take_text(body)?);
        }
        event.tags = Some(tags);
    }
    if flags & MIME_TYPE != 0 {
        event.mime = Some(take_text(body)?);
    }
    if flags & FILE_CONTENT != 0 {
        let name = take_text(body)?;
        let length = take_number(body)?;
        event.file = Some((name, take(body, length)?));
    }
    if flags & ROUTE_CODE != 0 {
        event.route = Some(take_text(body)?);
    }
    event.signal = signal(flags & 0x7);
    body.is_empty().then_some(event)
}

fn take<'a>(body: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = body.split_at_checked(length)?;
    *body = tail;
    Some(head)
}

fn take_number(body: &mut &[u8]) -> Option<usize> {
    let (value, size) = number(body)?;
    take(body, size)?;
    Some(value)
}

fn take_text<'a>(body: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_number(body)?;
    std::str::from_utf8(take(body, length)?).ok()
}

/// A number of one to four bytes: the two upper bits of the first say how many follow it. Also how many it took.
fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    let size = usize::from(first >> 6) + 1;
    let more = bytes.get(1..size)?;
    Some((more.iter().fold(usize::from(first & 0x3f), |value, byte| value << 8 | usize::from(*byte)), size))
}

/// What the status bits say.
fn signal(bits: u16) -> Signal {
    match bits {
        1 => Signal::Exists,
        2 => Signal::Began,
        3 => Signal::Ended(TestStatus::Passed),
        4 => Signal::Ended(TestStatus::UnexpectedSuccess),
        5 => Signal::Ended(TestStatus::Skipped),
        6 => Signal::Ended(TestStatus::Failed),
        7 => Signal::Ended(TestStatus::ExpectedFailure),
        _ => Signal::Nothing,
    }
}

/// True if the bytes hold a packet, or are the beginning of one.
pub(super) fn looks_like_packets(bytes: &[u8]) -> bool {
    let begins = matches!(packet(bytes), Err(Broken::Short(length)) if length > SHORTEST);
    begins || (0..bytes.len()).any(|at| bytes[at] == SIGNATURE && packet(&bytes[at..]).is_ok())
}
