//! How composes and updates are scheduled, in YAML (`docs/events.md`).

use crate::diagnostic::{Diagnostic, Sink};
use crate::read::{Fields, Reader};
use crate::yaml::{self, Dialect, Node};
use assay_engine::compose::{
    CandidateKind, Candidates, Extra, GroupComment, More, Release, Schedule, SettingsMap, Updates, Wanted,
    When,
};
use std::collections::BTreeMap;

/// What was read.
#[derive(Debug, Clone)]
pub struct LoadedSchedule {
    /// None if there is an error.
    pub schedule: Option<Schedule>,
    /// Everything that was found.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a file.
pub fn load(name: &str, text: &str) -> LoadedSchedule {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = yaml::parse(text, file, yaml::Rules::plain(Dialect::Yaml12), &mut sink);
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let schedule = root.as_ref().and_then(|root| read(&mut reader, root));
    if schedule.is_none() && !sink.has_errors() {
        let place = crate::diagnostic::Place { file, line: 1, column: 1 };
        sink.error("empty", place, "the schedule is empty; it says for example which `images` are wanted");
    }
    let schedule = schedule.filter(|_| !sink.has_errors());
    LoadedSchedule { schedule, diagnostics: sink.finish() }
}

fn read(reader: &mut Reader<'_, '_>, root: &Node) -> Option<Schedule> {
    let mut fields = reader.fields(root, "a schedule")?;
    let schedule = Schedule {
        settings: settings(reader, &mut fields, "settings"),
        more: entries(reader, &mut fields, "settings-of", more),
        beside: beside(reader, &mut fields),
        comments: entries(reader, &mut fields, "comments", comment),
        releases: entries(reader, &mut fields, "releases", release),
        images: entries(reader, &mut fields, "images", wanted),
        url_settings: map(reader, &mut fields, "url-settings"),
        extra: entries(reader, &mut fields, "extra", extra),
        updates: fields.get("updates").and_then(|node| updates(reader, node)).unwrap_or_default(),
        candidates: fields.get("candidates").map(|node| candidates(reader, node)).unwrap_or_default(),
    };
    reader.finish(fields);
    Some(schedule)
}

fn entries<T>(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    read: impl Fn(&mut Reader<'_, '_>, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    reader.list(node, key).iter().filter_map(|node| read(reader, node)).collect()
}

/// Names and texts as they are written.
fn map(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let Some(node) = fields.get(key) else { return all };
    let Some(mut inner) = reader.fields(node, "names and texts") else { return all };
    for entry in inner.rest() {
        if let Some(value) = reader.text(&entry.value, &entry.key.text) {
            all.insert(entry.key.text.to_string(), value.to_owned());
        }
    }
    all
}

fn settings(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> SettingsMap {
    map(reader, fields, key).into_iter().map(|(key, value)| (key.to_uppercase(), value)).collect()
}

fn lists(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
    key: &'static str,
) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let Some(node) = fields.get(key) else { return all };
    let Some(mut inner) = reader.fields(node, "names and lists") else { return all };
    for entry in inner.rest() {
        let values = reader.texts(&entry.value, &entry.key.text).into_iter().map(str::to_owned).collect();
        all.insert(entry.key.text.to_string(), values);
    }
    all
}

fn texts(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Vec<String> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    reader.texts(node, key).into_iter().map(str::to_owned).collect()
}

fn wanted(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Wanted> {
    let mut fields = reader.fields(node, "an image that is wanted")?;
    let wanted = Wanted {
        subvariants: texts(reader, &mut fields, "subvariant"),
        kinds: texts(reader, &mut fields, "type"),
        formats: texts(reader, &mut fields, "format"),
        arches: texts(reader, &mut fields, "arch"),
        flavor: fields.get("flavor").and_then(|node| reader.name(node, "flavor")).map(str::to_owned),
        when: when(reader, &mut fields),
        settings: settings(reader, &mut fields, "settings"),
    };
    reader.finish(fields);
    Some(wanted)
}

/// Which composes are meant.
fn when(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> When {
    fields.get("when").map(|node| composes(reader, node)).unwrap_or_default()
}

fn composes(reader: &mut Reader<'_, '_>, node: &Node) -> When {
    let Some(mut fields) = reader.fields(node, "which composes are meant") else { return When::default() };
    let when = When {
        shorts: texts(reader, &mut fields, "short"),
        versions: texts(reader, &mut fields, "version"),
        kinds: texts(reader, &mut fields, "type"),
        trees: texts(reader, &mut fields, "tree"),
        not: fields.get("not").map(|node| Box::new(composes(reader, node))),
    };
    reader.finish(fields);
    when
}

fn more(reader: &mut Reader<'_, '_>, node: &Node) -> Option<More> {
    let mut fields = reader.fields(node, "an entry of `settings-of`")?;
    let more = More { when: when(reader, &mut fields), settings: settings(reader, &mut fields, "settings") };
    reader.finish(fields);
    Some(more)
}

fn comment(reader: &mut Reader<'_, '_>, node: &Node) -> Option<GroupComment> {
    let mut fields = reader.fields(node, "an entry of `comments`")?;
    let when = when(reader, &mut fields);
    let mut text =
        |key| reader.required(&mut fields, key).and_then(|node| reader.name(node, key)).map(str::to_owned);
    let (group, text) = (text("group"), text("text"));
    reader.finish(fields);
    Some(GroupComment { when, group: group?, text: text? })
}

/// Settings, and the image whose address each gets.
fn beside(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> BTreeMap<String, Wanted> {
    let mut all = BTreeMap::new();
    let Some(node) = fields.get("beside") else { return all };
    let Some(mut inner) = reader.fields(node, "settings and images") else { return all };
    for entry in inner.rest() {
        all.extend(wanted(reader, &entry.value).map(|wanted| (entry.key.text.to_uppercase(), wanted)));
    }
    all
}

fn extra(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Extra> {
    let mut fields = reader.fields(node, "a flavor without an image")?;
    let flavor = reader.required(&mut fields, "flavor").and_then(|node| reader.name(node, "flavor"));
    let extra = Extra {
        flavor: flavor.unwrap_or_default().to_owned(),
        arches: texts(reader, &mut fields, "arch"),
        trees: texts(reader, &mut fields, "tree"),
        when: when(reader, &mut fields),
        settings: settings(reader, &mut fields, "settings"),
    };
    reader.finish(fields);
    Some(extra)
}

fn updates(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Updates> {
    let mut fields = reader.fields(node, "`updates`")?;
    let updates = Updates {
        arches: texts(reader, &mut fields, "arch"),
        groups: lists(reader, &mut fields, "groups"),
        packages: lists(reader, &mut fields, "packages"),
        upgrades: texts(reader, &mut fields, "upgrades"),
        settings: settings(reader, &mut fields, "settings"),
        automatic: settings(reader, &mut fields, "settings-of-automatic"),
    };
    reader.finish(fields);
    Some(updates)
}

fn candidates(reader: &mut Reader<'_, '_>, node: &Node) -> BTreeMap<CandidateKind, Candidates> {
    let mut all = BTreeMap::new();
    let Some(mut kinds) = reader.fields(node, "`candidates`") else { return all };
    for (key, kind) in [
        ("koji-task", CandidateKind::KojiTask),
        ("koji-tag", CandidateKind::KojiTag),
        ("copr", CandidateKind::Copr),
    ] {
        let Some(node) = kinds.get(key) else { continue };
        let Some(mut fields) = reader.fields(node, "an entry of `candidates`") else { continue };
        let flavors = texts(reader, &mut fields, "flavors");
        let settings = settings(reader, &mut fields, "settings");
        reader.finish(fields);
        all.insert(kind, Candidates { flavors, settings });
    }
    reader.finish(kinds);
    all
}

fn release(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Release> {
    let mut fields = reader.fields(node, "a release")?;
    let mut text =
        |key| reader.required(&mut fields, key).and_then(|node| reader.name(node, key)).map(str::to_owned);
    let (name, version) = (text("name"), text("version"));
    let mut date = |key| {
        let node = fields.get(key)?;
        let text = reader.text(node, key)?;
        let day = day(text);
        if day.is_none() {
            let message = format!("`{key}` is `{text}`; expected a day such as 2026-10-20");
            reader.sink.error("date", node.place, message);
        }
        day
    };
    let (branched, released, end) = (date("branched"), date("released"), date("end"));
    let automatic =
        fields.get("automatic-updates").and_then(|node| reader.boolean(node, "automatic-updates"));
    reader.finish(fields);
    Some(Release { name: name?, version: version?, branched, released, end, automatic })
}

/// Days since 1970 of `YYYY-MM-DD`.
fn day(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if text.len() != 10
        || !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    // Years that begin in March, so that the day of a leap year is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(days - 719_468)
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn days() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2000-03-01", Some(11_017)),
            ("2026-11-21", Some(20_778)),
            ("2026-13-01", None),
            ("26-1-1", None),
            ("x", None),
        ] {
            assert_eq!(day(text), expected, "{text}");
        }
    }
}
