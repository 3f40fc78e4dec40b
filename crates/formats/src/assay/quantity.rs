//! Times and sizes.

use crate::read::Reader;
use crate::yaml::{Node, Scalar};

/// Units of sizes, with their bytes.
const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Seconds: a number, or a number with s, m, h, d or w.
pub(crate) fn seconds(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<u64> {
    let value = match node.scalar(reader.dialect) {
        Some(Scalar::Int(value)) => Some(value),
        Some(Scalar::Text(text)) => crate::approval::seconds(text),
        _ => None,
    };
    let value = value.and_then(|value| u64::try_from(value).ok());
    if value.is_none() {
        let message = format!("`{what}`: expected a time such as 90, 45s, 30m or 2h");
        reader.sink.error("duration", node.place, message);
    }
    value
}

/// Bytes: a number, or a number with kB, MB, GB, KiB, MiB, GiB or TiB.
pub(crate) fn bytes(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<u64> {
    let value = match node.scalar(reader.dialect) {
        Some(Scalar::Int(value)) => u64::try_from(value).ok(),
        Some(Scalar::Text(text)) => parse_bytes(text),
        _ => None,
    };
    if value.is_none() {
        let message = format!("`{what}`: expected a size such as 64 MiB or 20 GiB");
        reader.sink.error("size", node.place, message);
    }
    value
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (unit, factor) = SIZES.iter().find(|(unit, _)| text.ends_with(unit))?;
    text[..text.len() - unit.len()].trim().parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("20 GiB"), Some(20 << 30));
        assert_eq!(parse_bytes("1kB"), Some(1000));
        assert_eq!(parse_bytes("7B"), Some(7));
        for wrong in ["GiB", "1.5 MiB", "-1 MiB", "1 gib", "", "99999999999 TiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
