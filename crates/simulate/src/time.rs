//! Durations as people write them: `90s`, `5m`, `1.5h`, `250ms`; spans of them: `1s..5s`.

use serde::{Deserialize, Serialize};

/// A length of time, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Length(pub i64);

const UNITS: [(&str, i64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl TryFrom<String> for Length {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a length of time; write 90s, 5m, 1.5h, 2d or 250ms");
        let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(at);
        let (_, us) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let length = number * *us as f64;
        if !(0.0..1e17).contains(&length) {
            return Err(wrong());
        }
        Ok(Self(length.round() as i64))
    }
}

impl From<Length> for String {
    fn from(length: Length) -> Self {
        let fitting = UNITS.iter().rev().find(|(_, us)| length.0 != 0 && length.0 % us == 0);
        let (unit, us) = fitting.unwrap_or(&("s", 1_000_000));
        format!("{}{unit}", length.0 / us)
    }
}

/// From one length to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range(pub i64, pub i64);

impl TryFrom<String> for Range {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((&text, &text));
        let (from, to) = (Length::try_from(from.to_owned())?, Length::try_from(to.to_owned())?);
        if from > to {
            return Err(format!("{text:?} begins after its end"));
        }
        Ok(Self(from.0, to.0))
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        let (from, to) = (String::from(Length(range.0)), String::from(Length(range.1)));
        if from == to { from } else { format!("{from}..{to}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, us) in
            [("90s", 90_000_000), ("1.5h", 5_400_000_000), ("0s", 0), ("7us", 7), ("250ms", 250_000)]
        {
            let length = Length::try_from(text.to_owned()).expect(text);
            assert_eq!(length, Length(us), "{text}");
            assert_eq!(Length::try_from(String::from(length)), Ok(length));
        }
        for text in ["", "5", "s", "5 parsecs", "-1s", "1e99d"] {
            assert!(Length::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(Range::try_from("1s..5s".to_owned()), Ok(Range(1_000_000, 5_000_000)));
        assert!(Range::try_from("5s..1s".to_owned()).is_err());
    }
}
