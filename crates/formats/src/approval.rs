//! Requirements on votes, which Zuul and Assay write alike.

use crate::read::{Reader, one_or_more};
use crate::yaml::{Kind, Node};
use assay_engine::gate::config::ApprovalFilter;
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
/// Letters of times, with their seconds.
const UNITS: [(char, i64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];

/// Each entry of a list, or the one.
pub(crate) fn filters(
    reader: &mut Reader<'_, '_>,
    node: Option<&Arc<Node>>,
    what: &'static str,
) -> Vec<ApprovalFilter> {
    let nodes = node.map(|node| one_or_more(node)).unwrap_or_default();
    nodes.into_iter().filter_map(|node| filter(reader, node, what)).collect()
}

fn filter(reader: &mut Reader<'_, '_>, node: &Node, what: &'static str) -> Option<ApprovalFilter> {
    let mut fields = reader.fields(node, what)?;
    let mut filter = ApprovalFilter::default();
    if let Some(node) = fields.get("username") {
        filter.username = reader.pattern(node, "username");
    }
    // Zuul had the longer word first, and still takes it.
    let long = fields.get("email-filter");
    if let Some(node) = fields.get("email").or(long) {
        filter.email = reader.pattern(node, "email");
    }
    if let Some(node) = fields.get("older-than") {
        filter.older_than_us = age(reader, node, "older-than");
    }
    if let Some(node) = fields.get("newer-than") {
        filter.newer_than_us = age(reader, node, "newer-than");
    }
    for entry in fields.rest() {
        let label = entry.key.text.to_string();
        let values = one_or_more(&entry.value);
        if values.is_empty() {
            reader.expected(&entry.value, &label, "a vote, or a list of votes");
        }
        let values = values.into_iter().filter_map(|node| reader.vote(node, &label)).collect();
        filter.labels.push((label, values));
    }
    if filter.labels.len() > 1 {
        let message = "two labels in one entry: one vote cannot be for both, so this never matches; \
                       expected an entry for each";
        reader.sink.warning("never-matches", node.place, message);
    }
    if matches!(&node.kind, Kind::Map(entries) if entries.is_empty()) {
        reader.sink.warning("always-matches", node.place, "an empty entry matches every vote");
    }
    Some(filter)
}

/// `72h`, in microseconds.
fn age(reader: &mut Reader<'_, '_>, node: &Node, what: &str) -> Option<i64> {
    let text = reader.text(node, what)?;
    let value = seconds(text).and_then(|seconds| seconds.checked_mul(SECOND));
    if value.is_none() {
        let message =
            format!("`{what}` is `{text}`; expected a number with s, m, h, d or w, for example 24h");
        reader.sink.error("duration", node.place, message);
    }
    value
}

/// The seconds of `90s`, `72h`.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let unit = text.chars().last()?;
    let (_, factor) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
    let number: i64 = text[..text.len() - 1].trim_end().parse().ok().filter(|number| *number >= 0)?;
    number.checked_mul(*factor)
}
