//! Whom a pipeline tells what.

use crate::read::{Reader, one_or_more};
use crate::yaml::{Entry, Kind, Node, Scalar};
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::SourceName;

/// Keys of a mail.
const MAIL: [&str; 4] = ["to", "from", "subject", "connection"];

/// The actions of one occasion: by connection, each a mapping or a list of them.
pub(super) fn read(reader: &mut Reader<'_, '_>, node: &Node) -> Vec<ReportAction> {
    let Some(mut fields) = reader.fields(node, "a reporter") else { return Vec::new() };
    let mut actions = Vec::new();
    for entry in fields.rest() {
        let source: SourceName = (&*entry.key.text).into();
        for node in one_or_more(&entry.value) {
            actions.extend(match kind(&entry.key.text, node) {
                Sort::Mail => mail(reader, node, source.clone()),
                Sort::Sql => sql(reader, node, source.clone()),
                Sort::Review => review(reader, node, source.clone()),
            });
        }
    }
    actions
}

enum Sort {
    Review,
    Mail,
    Sql,
}

/// A layout names connections, not what they are: that is seen from what they are given.
fn kind(source: &str, node: &Node) -> Sort {
    let only = |known: &[&str]| {
        matches!(&node.kind, Kind::Map(entries)
            if !entries.is_empty() && entries.iter().all(|entry| known.contains(&&*entry.key.text)))
    };
    match source {
        "gerrit" => Sort::Review,
        "smtp" => Sort::Mail,
        "sql" => Sort::Sql,
        _ if only(&MAIL) => Sort::Mail,
        _ if only(&["score"]) => Sort::Sql,
        _ => Sort::Review,
    }
}

fn review(reader: &mut Reader<'_, '_>, node: &Node, source: SourceName) -> Option<ReportAction> {
    let mut fields = reader.fields(node, "a Gerrit report")?;
    let (mut labels, mut flags, mut submit) = (Vec::new(), Vec::new(), false);
    for entry in fields.rest() {
        let Entry { key, value } = entry;
        match value.scalar(reader.dialect) {
            Some(Scalar::Bool(on)) if *key.text == *"submit" => submit = on,
            Some(Scalar::Bool(true)) => flags.push((key.text.to_string(), String::new())),
            Some(Scalar::Bool(false)) => {
                let message = format!("`{}: false` says nothing to Gerrit; leave it out", key.text);
                reader.sink.warning("no-effect", key.place, message);
            }
            Some(Scalar::Int(_)) => {
                labels.extend(reader.vote(value, &key.text).map(|vote| (key.text.to_string(), vote)));
            }
            Some(Scalar::Text(text)) => {
                let text = text.trim();
                match text.strip_prefix('+').unwrap_or(text).parse() {
                    Ok(vote) => labels.push((key.text.to_string(), vote)),
                    Err(_) => flags.push((key.text.to_string(), text.to_owned())),
                }
            }
            _ => reader.expected(value, &key.text, "a vote, true, or text"),
        }
    }
    Some(ReportAction::Review { source, labels, submit, flags })
}

fn mail(reader: &mut Reader<'_, '_>, node: &Node, source: SourceName) -> Option<ReportAction> {
    let mut fields = reader.fields(node, "a mail")?;
    // Once the name of the connection; never used.
    fields.get("connection");
    let mut text = |key| fields.get(key).and_then(|node| reader.text(node, key)).map(ToOwned::to_owned);
    let (to, from, subject) = (text("to"), text("from"), text("subject"));
    if to.is_none() {
        reader.sink.note("no-recipient", node.place, "no `to`: goes to the mail connection's own default");
    }
    reader.finish(fields);
    Some(ReportAction::Mail { source, from, to: to.unwrap_or_default(), subject })
}

/// What becomes of rows for Zuul's database.
const SQL_NOTE: &str = "an SQL report writes nothing: builds and buildsets are in Assay's own history, at /jobs/NAME/history and in the API";

fn sql(reader: &mut Reader<'_, '_>, node: &Node, source: SourceName) -> Option<ReportAction> {
    let mut fields = reader.fields(node, "an SQL report")?;
    let score = fields.get("score").and_then(|node| reader.vote(node, "score"));
    reader.sink.note("sql-report", node.place, SQL_NOTE);
    reader.finish(fields);
    Some(ReportAction::Sql { source, score })
}
