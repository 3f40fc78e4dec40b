//! Which blobs the steps of an attempt name. When its streams are closed, that becomes two lists beside them, so that
//! nobody has to read all steps of all jobs to know whether a picture is still wanted.

use crate::app::App;
use assay_proto::worker::Stream;
use assay_store::blobs::{BlobRef, Sha256};
use assay_store::{StoreError, Streams};
use std::collections::BTreeSet;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Pictures and the needles on them.
pub(super) const SCREENS: &str = "screens.list";
/// What was uploaded.
pub(super) const FILES: &str = "files.list";
/// A line longer than this is no step.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;
/// Digits of a hash.
const DIGITS: usize = 64;

/// True for a stream that people read.
pub(crate) fn is_shown(name: &str) -> bool {
    name != SCREENS && name != FILES && name != super::removed::REMOVED
}

/// What is named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    screens: BTreeSet<Sha256>,
    files: BTreeSet<Sha256>,
}

impl Named {
    fn take(&mut self, line: &[u8]) {
        let is = |kind: &[u8]| line.starts_with(kind);
        let of_files = is(br#"{"type":"artifact""#) || is(br#"{"type":"test_cases""#);
        let kind = if of_files { &mut self.files } else { &mut self.screens };
        kind.extend(hashes(line));
    }
}

/// Every run of exactly so many hex digits.
pub(super) fn hashes(line: &[u8]) -> impl Iterator<Item = Sha256> {
    line.split(|byte| !byte.is_ascii_hexdigit())
        .filter(|run| run.len() == DIGITS)
        .filter_map(|run| std::str::from_utf8(run).ok()?.parse().ok())
}

impl App {
    /// Adds the lists to streams that are closed.
    pub(crate) async fn list_blobs(&self, streams: &mut Streams) -> Result<(), StoreError> {
        if streams.contains_key(SCREENS) {
            return Ok(());
        }
        let Some(steps) = streams.get(Stream::Steps.file_name()) else { return Ok(()) };
        let named = self.named(*steps).await?;
        for (list, hashes) in [(SCREENS, named.screens), (FILES, named.files)] {
            let lines: Vec<String> = hashes.iter().map(ToString::to_string).chain([String::new()]).collect();
            let text = if lines.len() > 1 { lines.join("\n") } else { String::new() };
            let blob = self.blobs.put(text.into_bytes(), None).await?;
            streams.insert(list.to_owned(), blob);
        }
        Ok(())
    }

    async fn named(&self, steps: BlobRef) -> Result<Named, StoreError> {
        let mut named = Named::default();
        let Some(open) = self.blobs.open(steps.sha256).await? else { return Ok(named) };
        let (mut reader, mut line) = (BufReader::new(open.reader), Vec::new());
        loop {
            line.clear();
            let mut rest = (&mut reader).take(LONGEST_LINE);
            if rest.read_until(b'\n', &mut line).await.map_err(StoreError::File)? == 0 {
                return Ok(named);
            }
            named.take(&line);
        }
    }

    /// What a list names; of an attempt without lists, what its steps name.
    pub(super) async fn listed(&self, streams: &Streams, list: &str) -> Result<BTreeSet<Sha256>, StoreError> {
        let Some(blob) = streams.get(list) else {
            let Some(steps) = streams.get(Stream::Steps.file_name()) else { return Ok(BTreeSet::new()) };
            let named = self.named(*steps).await?;
            return Ok(if list == FILES { named.files } else { named.screens });
        };
        if blob.size == 0 {
            return Ok(BTreeSet::new());
        }
        let text = self.blobs.get_verified(blob.sha256).await?.unwrap_or_default();
        Ok(hashes(&text).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_name() {
        let (one, two, three) = ("1".repeat(DIGITS), "2a".repeat(DIGITS / 2), "3".repeat(DIGITS));
        let mut named = Named::default();
        named
            .take(format!(r#"{{"type":"step","screenshot":{{"sha256":"{one}"}},"png":"{two}"}}"#).as_bytes());
        named.take(format!(r#"{{"type":"artifact","path":"x","sha256":"{three}"}}"#).as_bytes());
        named.take(format!("\"{one}0\" {}", "f".repeat(DIGITS - 1)).as_bytes());
        let set = |texts: &[&String]| texts.iter().map(|text| text.parse().expect("a hash")).collect();
        assert_eq!(named, Named { screens: set(&[&one, &two]), files: set(&[&three]) });
    }
}
