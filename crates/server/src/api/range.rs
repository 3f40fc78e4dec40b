//! HTTP's `Range`, as far as one range of bytes goes.

/// What a `Range` header asks of a body of `size` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no header, or one that may be ignored.
    All,
    /// These bytes; `end` is the first one that is not wanted.
    Part {
        /// First byte.
        start: u64,
        /// One after the last byte.
        end: u64,
    },
    /// None of what there is.
    Nothing,
}

/// Reads `bytes=A-B`, `bytes=A-` and `bytes=-N`; anything else counts as no header (RFC 9110 §14.2).
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if last.is_empty() => part(first, size, size),
        (Ok(first), Ok(last)) if first <= last => part(first, last.saturating_add(1).min(size), size),
        (Err(_), Ok(0)) if first.is_empty() => Wanted::Nothing,
        (Err(_), Ok(count)) if first.is_empty() => part(size.saturating_sub(count), size, size),
        _ => Wanted::All,
    }
}

fn part(start: u64, end: u64, size: u64) -> Wanted {
    if start >= size { Wanted::Nothing } else { Wanted::Part { start, end } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |start, end| Wanted::Part { start, end };
        let cases = [
            (None, Wanted::All),
            (Some("bytes=0-0"), part(0, 1)),
            (Some("bytes=2-5"), part(2, 6)),
            (Some("bytes=2-500"), part(2, 10)),
            (Some("bytes=4-"), part(4, 10)),
            (Some("bytes=-3"), part(7, 10)),
            (Some("bytes=-30"), part(0, 10)),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=10-"), Wanted::Nothing),
            (Some("bytes=5-2"), Wanted::All),
            (Some("bytes=0-1,4-5"), Wanted::All),
            (Some("bytes=x-y"), Wanted::All),
            (Some("lines=1-2"), Wanted::All),
            (Some("bytes=99999999999999999999-"), Wanted::All),
        ];
        for (header, want) in cases {
            assert_eq!(wanted(header, 10), want, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }
}
