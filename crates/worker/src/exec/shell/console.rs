//! What a shell job prints, as lines with their time.

use super::redact::{Filter, Secrets};
use assay_engine::ids::Timestamp;

/// Longer lines are cut into pieces.
const LONGEST_LINE: usize = 8 * 1024;

/// Turns bytes as they come into lines: secrets covered, ANSI sequences kept, progress bars folded to their last state,
/// and no more of it than the job may write.
#[derive(Debug)]
pub(super) struct Console {
    filter: Filter,
    secrets: Secrets,
    line: Vec<u8>,
    returned: bool,
    limit: u64,
    written: u64,
    left_out: u64,
    lines: u64,
    /// The last line that the job itself printed and that says something.
    last: String,
}

impl Console {
    /// `limit`: bytes of what the job itself prints.
    pub(super) fn new(secrets: Secrets, limit: u64) -> Self {
        Self {
            filter: Filter::new(secrets.clone()),
            secrets,
            line: Vec::new(),
            returned: false,
            limit,
            written: 0,
            left_out: 0,
            lines: 0,
            last: String::new(),
        }
    }

    /// More of the job's output; answers what is to be written.
    pub(super) fn feed(&mut self, bytes: &[u8], now: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        if self.left_out > 0 {
            self.left_out += bytes.len() as u64;
            return out;
        }
        let shown = self.filter.push(bytes);
        self.take(&shown, now, &mut out);
        out
    }

    /// A line of the worker's own. It stands after everything that came before it, and is never left out.
    pub(super) fn say(&mut self, text: &str, now: Timestamp) -> Vec<u8> {
        let mut out = self.flush(now);
        for line in self.secrets.cover(text).lines() {
            self.lines += 1;
            prefixed(line, now, &mut out);
        }
        out
    }

    /// Nothing more comes for now: a line without its end is a line.
    pub(super) fn flush(&mut self, now: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        let rest = self.filter.finish();
        self.take(&rest, now, &mut out);
        if !self.line.is_empty() {
            self.end_line(now, &mut out);
        }
        self.returned = false;
        out
    }

    /// The last line that the job itself printed.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Bytes of the job's output that were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Lines written so far.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    fn take(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.left_out > 0 {
                self.left_out += (bytes.len() - at) as u64;
                return;
            }
            if byte == b'\n' {
                self.returned = false;
                self.end_line(now, out);
                continue;
            }
            if byte == b'\r' {
                self.returned = true;
                continue;
            }
            if std::mem::take(&mut self.returned) {
                // What follows a carriage return is written over the line.
                self.line.clear();
            }
            match byte {
                0x08 => drop(self.line.pop()),
                // Neither text nor part of a sequence: shown as what cannot be shown.
                0..=0x1f | 0x7f if byte != b'\t' && byte != 0x1b => {
                    self.line.extend_from_slice("\u{fffd}".as_bytes());
                }
                _ => self.line.push(byte),
            }
            if self.line.len() >= LONGEST_LINE {
                self.split_line(now, out);
            }
        }
    }

    /// Ends a line that is too long, between two characters.
    fn split_line(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        let continues = |byte: &u8| byte & 0xc0 == 0x80;
        let back = self.line.iter().rev().take(4).position(|byte| !continues(byte)).unwrap_or(0);
        let last = self.line.len() - 1 - back;
        let whole = match self.line[last] {
            0xf0.. => back == 3,
            0xe0.. => back == 2,
            0xc0.. => back == 1,
            _ => true,
        };
        let rest = if whole { Vec::new() } else { self.line.split_off(last) };
        self.end_line(now, out);
        self.line = rest;
    }

    fn end_line(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let before = out.len();
        let text = String::from_utf8_lossy(&line);
        prefixed(&text, now, out);
        if !text.trim().is_empty() {
            text.trim().clone_into(&mut self.last);
        }
        let length = (out.len() - before) as u64;
        if self.written + length > self.limit {
            out.truncate(before);
            self.left_out += line.len() as u64 + 1;
            let note = format!(
                "[the console ends here: the job printed more than limits.log_bytes={}; it goes on unheard]",
                self.limit
            );
            prefixed(&note, now, out);
        } else {
            self.written += length;
        }
        self.lines += 1;
    }
}

/// `2015-02-03 04:05:06.789 | text`, in UTC.
fn prefixed(line: &str, now: Timestamp, out: &mut Vec<u8>) {
    use std::io::Write;
    let at = jiff::Timestamp::from_microsecond(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let _ = writeln!(out, "{} | {line}", at.strftime("%Y-%m-%d %H:%M:%S.%3f"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_422_936_306_789_012);

    fn lines_of(limit: u64, pieces: &[&[u8]]) -> Vec<String> {
        let mut console = Console::new(Secrets::new(["hunter2"]), limit);
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| console.feed(piece, NOW)).collect();
        out.extend(console.flush(NOW));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(console.lines(), text.lines().count() as u64);
        let line = |line: &str| line.strip_prefix("2015-02-03 04:05:06.789 | ").expect("a time").to_owned();
        text.lines().map(line).collect()
    }

    #[test]
    fn bytes_become_lines() {
        let table: &[(&[&[u8]], &[&str])] = &[
            (&[b"one\ntw", b"o\n", b"\n"], &["one", "two", ""]),
            (&[b"no end"], &["no end"]),
            (&[b"dos\r", b"\nunix\n"], &["dos", "unix"]),
            (&[b" 1%\r 50%", b"\r100%\n"], &["100%"]),
            (&[b"abc\x08\x08d\n"], &["ad"]),
            (&[b"\x1b[31mred\x1b[0m\tx\n"], &["\x1b[31mred\x1b[0m\tx"]),
            (&[b"\xff\xfe \xc3", b"\xa4\0\n"], &["\u{fffd}\u{fffd} \u{e4}\u{fffd}"]),
            (&[b"a hun", b"ter2 b\n", b"hunt"], &["a *** b", "hunt"]),
        ];
        for (pieces, wanted) in table {
            assert_eq!(&lines_of(1 << 20, pieces), wanted);
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "x".to_owned() + &"\u{1f980}".repeat(5000);
        let lines = lines_of(1 << 20, &[text.as_bytes()]);
        assert_eq!(lines.concat(), text);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= LONGEST_LINE), "{}", lines.len());
    }

    #[test]
    fn too_much_is_left_out_and_the_worker_is_still_heard() {
        let mut console = Console::new(Secrets::new([]), 100);
        let mut out = Vec::new();
        for _ in 0..1000 {
            out.extend(console.feed(b"y\ny\ny\n", NOW));
        }
        out.extend(console.say("the worker", NOW));
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(" | ").unwrap().1).collect();
        let note =
            "[the console ends here: the job printed more than limits.log_bytes=100; it goes on unheard]";
        assert_eq!(lines, ["y", "y", "y", note, "the worker"]);
        assert_eq!(console.left_out(), 6000 - 6);
    }
}
