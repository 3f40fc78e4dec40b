//! Lines from a program that may send anything.

use std::io::{self, BufRead};

/// Longer lines are dropped: no call needs a megabyte.
pub(super) const MAX_LINE: usize = 1 << 20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its end.
    Text(String),
    /// Not UTF-8.
    Binary,
    /// So many bytes.
    TooLong(u64),
    /// The stream ended within a line of so many bytes.
    Cut(u64),
}

/// Reads up to the next line feed; `None` at the end. Never keeps more than `max` bytes.
pub(super) fn read_line(from: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let (mut kept, mut length, mut ended) = (Vec::new(), 0_u64, false);
    while !ended {
        let chunk = match from.fill_buf() {
            Ok(chunk) => chunk,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if chunk.is_empty() {
            return Ok((length > 0).then_some(Line::Cut(length)));
        }
        let part = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                ended = true;
                &chunk[..at]
            }
            None => chunk,
        };
        length += part.len() as u64;
        if kept.len() <= max {
            kept.extend_from_slice(&part[..part.len().min(max + 1 - kept.len())]);
        }
        let used = part.len() + usize::from(ended);
        from.consume(used);
    }
    if length > max as u64 {
        return Ok(Some(Line::TooLong(length)));
    }
    Ok(Some(String::from_utf8(kept).map_or(Line::Binary, Line::Text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hundred_megabytes_are_not_kept() {
        let mut input = io::BufReader::new(io::Read::chain(
            io::Read::take(io::repeat(b'x'), 100 << 20),
            io::Cursor::new(b"\nnext\n".to_vec()),
        ));
        assert_eq!(read_line(&mut input, MAX_LINE).unwrap(), Some(Line::TooLong(100 << 20)));
        assert_eq!(read_line(&mut input, MAX_LINE).unwrap(), Some(Line::Text("next".to_owned())));
        assert_eq!(read_line(&mut input, MAX_LINE).unwrap(), None);
    }

    #[test]
    fn exactly_the_longest_line_is_kept() {
        let mut input = io::Cursor::new(b"12345\n123456\n".to_vec());
        assert_eq!(read_line(&mut input, 5).unwrap(), Some(Line::Text("12345".to_owned())));
        assert_eq!(read_line(&mut input, 5).unwrap(), Some(Line::TooLong(6)));
    }

    proptest! {
        /// Whatever the chunks, the lines are those of the whole input.
        #[test]
        fn chunks_do_not_matter(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                                chunk in 1_usize..20) {
            let mut reader = io::BufReader::with_capacity(chunk, io::Cursor::new(input.clone()));
            let mut expected: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
            let rest = expected.pop().unwrap_or_default();
            for line in expected {
                let expected = match std::str::from_utf8(line) {
                    _ if line.len() > 16 => Line::TooLong(line.len() as u64),
                    Ok(text) => Line::Text(text.to_owned()),
                    Err(_) => Line::Binary,
                };
                prop_assert_eq!(read_line(&mut reader, 16).unwrap(), Some(expected));
            }
            let expected = (!rest.is_empty()).then_some(Line::Cut(rest.len() as u64));
            prop_assert_eq!(read_line(&mut reader, 16).unwrap(), expected);
        }
    }
}
