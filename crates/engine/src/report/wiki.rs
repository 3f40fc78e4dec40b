//! Results on wiki pages, in Wikitcms's way: which cells a passed job fills, and the text of the page with them.
//!
//! Only passes are told. A cell is found by its test case, section, name and environment; if more than one row fits, or
//! none, nothing is written.

use super::JobFact;
use crate::decision::glob_match;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Which tests stand for which rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// Who we are in cells.
    pub user: String,
    /// Titles of pages: the first whose `version` fits.
    pub pages: Vec<PageTitle>,
    /// Tests and the cases that they stand for.
    pub suites: BTreeMap<String, Suite>,
    /// Cases by name.
    pub cases: BTreeMap<String, Case>,
}

/// A page's title, with `{SETTING}`, `{type}` and `{compose}` (what comes after the last `-` of the build) in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageTitle {
    /// For these values of `VERSION`, where `*` stands for anything.
    pub version: String,
    /// The title.
    pub title: String,
}

/// What a test stands for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Suite {
    /// These cases, if it passes.
    Plain(Vec<String>),
    /// Cases with conditions.
    Conditional(BTreeMap<String, Conditions>),
}

/// What has to be so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// These modules passed, whatever the job did.
    #[serde(default)]
    pub modules: Vec<String>,
    /// These tests of the same build, machine and flavor passed, too.
    #[serde(default)]
    pub testsuites: Vec<String>,
}

/// Where a case is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The kind of page: `Installation`, `Base`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The section, if it is in more than one.
    pub section: Option<String>,
    /// The column.
    pub env: Option<String>,
    /// The text of the link, if there is more than one row.
    pub name: Option<String>,
}

/// What is known besides the job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// Modules that passed.
    pub modules: Vec<String>,
    /// Tests of the same build, machine and flavor that passed.
    pub tests: Vec<String>,
}

/// A cell to fill.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// The page.
    pub page: String,
    /// The case.
    pub case: String,
    /// The section.
    pub section: Option<String>,
    /// The link's text.
    pub name: Option<String>,
    /// The column.
    pub env: Option<String>,
}

/// The cells that a job fills; or why it cannot be said which.
pub fn placements(cases: &Cases, job: &JobFact, passed: &Passed) -> Result<Vec<Placement>, String> {
    let test = job.get("TEST").unwrap_or(&job.name);
    let Some(suite) = cases.suites.get(test).filter(|_| job.withheld().is_none()) else {
        return Ok(Vec::new());
    };
    let whole = job.outcome == Some(crate::outcome::Outcome::Passed);
    let names: Vec<&String> = match suite {
        Suite::Plain(names) if whole => names.iter().collect(),
        Suite::Plain(_) => Vec::new(),
        Suite::Conditional(all) => {
            let fits = |conditions: &Conditions| {
                (whole || !conditions.modules.is_empty())
                    && conditions.modules.iter().all(|one| passed.modules.contains(one))
                    && conditions.testsuites.iter().all(|one| passed.tests.contains(one))
            };
            all.iter().filter(|(_, conditions)| fits(conditions)).map(|(name, _)| name).collect()
        }
    };
    let mut placements = Vec::new();
    for name in names {
        let case = cases.cases.get(name).ok_or_else(|| {
            format!("the case {name:?} of the test {test:?} is not among the cases of the file")
        })?;
        let filled = |text: &Option<String>| text.as_ref().map(|text| filled(text, job)).transpose();
        placements.push(Placement {
            page: title(cases, job, &case.kind)?,
            case: name.clone(),
            section: filled(&case.section)?,
            name: filled(&case.name)?,
            env: filled(&case.env)?,
        });
    }
    Ok(placements)
}

fn title(cases: &Cases, job: &JobFact, kind: &str) -> Result<String, String> {
    let version = job.get("VERSION").unwrap_or_default();
    let page = cases.pages.iter().find(|page| glob_match(&page.version, version));
    let page = page.ok_or_else(|| format!("no page is named for the version {version:?}"))?;
    let mut title = String::new();
    let mut rest = page.title.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) =
            after.split_once('}').ok_or_else(|| format!("the title {:?} lacks a }}", page.title))?;
        let build = job.get("BUILD").unwrap_or_default();
        let value = match key {
            "type" => kind,
            "compose" => build.rsplit_once('-').map_or(build, |(_, compose)| compose),
            key => {
                job.get(key).ok_or_else(|| format!("the job has no {key}, which is in the page's title"))?
            }
        };
        title.extend([before, value]);
        rest = after;
    }
    title.push_str(rest);
    Ok(title)
}

/// `$WORD$` in a text: a word of Wikitcms's, or a setting.
fn filled(text: &str, job: &JobFact) -> Result<String, String> {
    let mut out = String::new();
    let mut parts = text.split('$');
    out.push_str(parts.next().unwrap_or_default());
    while let Some(word) = parts.next() {
        let value = word_of(word, job).ok_or_else(|| format!("the job says nothing of ${word}$"))?;
        out.push_str(&value);
        out.push_str(parts.next().unwrap_or_default());
    }
    Ok(out)
}

fn word_of(word: &str, job: &JobFact) -> Option<String> {
    let arch = job.get("ARCH").unwrap_or_default();
    let uefi =
        job.get("UEFI").is_some() || job.get("MACHINE").is_some_and(|machine| machine.contains("uefi"));
    let firmware = if uefi || arch == "aarch64" { "UEFI" } else { "BIOS" };
    let test = job.get("TEST").unwrap_or(&job.name);
    let subvariant = job.get("SUBVARIANT").map(|name| name.replace('_', " "));
    match word {
        "RUNARCH" if arch == "arm" || arch == "armhfp" => Some("ARM".to_owned()),
        "FIRMWARE" => Some(firmware.to_owned()),
        "BOOTMETHOD" if arch == "x86_64" => Some(format!("x86_64 {firmware}")),
        "RUNARCH" | "BOOTMETHOD" => job.get("ARCH").map(str::to_owned),
        "SUBVARIANT_OR_LOCAL" if test.starts_with("desktop_") || test.contains("update") => {
            Some("Local".to_owned())
        }
        "SUBVARIANT" | "SUBVARIANT_OR_LOCAL" => subvariant,
        "CLOUD_OR_BASE" => Some(
            if subvariant.is_some_and(|name| name.contains("Cloud")) { "Cloud" } else { "Base" }.to_owned(),
        ),
        "FS" => test.rsplit('_').next().map(str::to_owned),
        "APP" => test.strip_prefix("desktop_app_").or_else(|| test.rsplit('_').next()).map(str::to_owned),
        "FREEIPA_OR_AD" => Some(if test.contains("_ad") { "Active Directory" } else { "FreeIPA" }.to_owned()),
        key => job.get(key).map(str::to_owned),
    }
}

/// What became of the cells of one page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edited {
    /// The page's new text, if it is another one.
    pub text: Option<String>,
    /// Cells that were filled.
    pub filled: Vec<String>,
    /// Cells that cannot be found, and why.
    pub unclear: Vec<String>,
}

/// A cell of a table.
struct Cell {
    range: Range<usize>,
}

/// A row of a table that names a test case.
struct Row {
    section: String,
    columns: Vec<String>,
    case: String,
    name: String,
    cells: Vec<Cell>,
}

/// Fills cells of a page: what is empty gets the result, what is not gets one more, and a result of ours that is there
/// stays as it is.
pub fn edit(text: &str, placements: &[Placement], user: &str) -> Edited {
    let rows = rows(text);
    let mut edited = Edited::default();
    let result = format!("{{{{result|pass|{user}|bot=true}}}}");
    let mut changes: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    for place in placements {
        let cell = match find(text, &rows, place) {
            Ok(cell) => cell,
            Err(why) => {
                edited.unclear.push(why);
                continue;
            }
        };
        if is_there(&text[cell.clone()], user) {
            continue;
        }
        if changes.insert(cell.start, cell).is_none() {
            edited.filled.push(place.case.clone());
        }
    }
    if changes.is_empty() {
        return edited;
    }
    // From the end, so that what comes before stays where it is.
    let mut new = text.to_owned();
    for cell in changes.into_values().rev() {
        let content = &text[cell.clone()];
        let content = if let Some(empty) = none(content) {
            format!("{}{result}{}", &content[..empty.start], &content[empty.end..])
        } else {
            let kept = content.trim_end();
            let space = if kept.is_empty() || kept.ends_with('}') { "" } else { " " };
            format!("{kept}{space}{result}{}", &content[kept.len()..])
        };
        new.replace_range(cell, &content);
    }
    edited.text = Some(new);
    edited
}

/// `{{result|none}}`, in any spelling.
fn none(cell: &str) -> Option<Range<usize>> {
    let start = templates(cell).find(|range| {
        let inner: Vec<&str> = cell[range.start + 2..range.end - 2].split('|').map(str::trim).collect();
        matches!(inner[..], ["result" | "Result", "none"])
    })?;
    Some(start)
}

fn is_there(cell: &str, user: &str) -> bool {
    templates(cell).any(|range| {
        let parts: Vec<&str> = cell[range.start + 2..range.end - 2].split('|').map(str::trim).collect();
        match parts[..] {
            ["result" | "Result", status, by, ..] => status == "pass" && by.eq_ignore_ascii_case(user),
            ["testresult/pass", by, ..] => by.eq_ignore_ascii_case(user),
            _ => false,
        }
    })
}

/// The innermost `{{…}}`.
fn templates(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let end = from + text.get(from..)?.find("}}")? + 2;
        let start = text[from..end].rfind("{{").map(|start| from + start);
        let range = start.filter(|start| start + 4 <= end).map(|start| start..end);
        from = end;
        Some(range)
    })
    .flatten()
}

fn plain(text: &str) -> String {
    text.replace('_', " ").split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn find(text: &str, rows: &[Row], place: &Placement) -> Result<Range<usize>, String> {
    let case = plain(&place.case);
    let mut found: Vec<&Row> = rows.iter().filter(|row| plain(&row.case) == case).collect();
    if found.is_empty() {
        return Err(format!("{}: no row of the page has it", place.case));
    }
    let mut narrow = |wanted: &Option<String>, of: fn(&Row) -> &str, what: &str| {
        let Some(wanted) = wanted.as_ref().filter(|_| found.len() > 1) else { return Ok(()) };
        let (exact, close): (Vec<&Row>, Vec<&Row>) = (
            found.iter().copied().filter(|row| plain(of(row)) == plain(wanted)).collect(),
            found.iter().copied().filter(|row| plain(of(row)).contains(&plain(wanted))).collect(),
        );
        found = if exact.is_empty() { close } else { exact };
        if found.is_empty() {
            Err(format!("{}: no row has the {what} {wanted:?}", place.case))
        } else {
            Ok(())
        }
    };
    narrow(&place.section, |row| &row.section, "section")?;
    narrow(&place.name, |row| &row.name, "name")?;
    let mut cells = Vec::new();
    for row in found {
        cells.extend(
            column(row, place.env.as_deref())
                .and_then(|column| row.cells.get(column))
                .map(|cell| cell.range.clone()),
        );
    }
    match cells.len() {
        1 => cells.pop().filter(|cell| text.is_char_boundary(cell.start)).ok_or_else(|| place.case.clone()),
        0 => {
            Err(format!("{}: no column is {:?}", place.case, place.env.as_deref().unwrap_or("the only one")))
        }
        count => Err(format!("{}: {count} cells fit; name its section, name and env", place.case)),
    }
}

/// The column of an environment: called like it, the only one with it in its name, or the only one at all.
fn column(row: &Row, env: Option<&str>) -> Option<usize> {
    let results: Vec<usize> = (0..row.columns.len().min(row.cells.len()))
        .filter(|column| !is_head(&row.columns[*column]))
        .collect();
    let Some(env) = env else {
        return if let [only] = results[..] { Some(only) } else { None };
    };
    let env = plain(env);
    let called = |fits: &dyn Fn(&str) -> bool| {
        let found: Vec<usize> =
            results.iter().copied().filter(|column| fits(&plain(&row.columns[*column]))).collect();
        if let [only] = found[..] { Some(only) } else { None }
    };
    called(&|name| name == env)
        .or_else(|| called(&|name| name.contains(&env)))
        .or_else(|| called(&|name| env.contains(name) && !name.is_empty()))
        .or(if let [only] = results[..] { Some(only) } else { None })
}

/// Columns that hold no results.
fn is_head(name: &str) -> bool {
    let name = plain(name);
    name.contains("milestone")
        || name.contains("test case")
        || name.contains("references")
        || name.contains("release level")
}

/// Every row of every table that names a test case.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut section, mut columns, mut cells) = (String::new(), Vec::new(), Vec::new());
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let bare = line.trim_end_matches(['\n', '\r']);
        if let Some(title) = heading(bare) {
            title.clone_into(&mut section);
        } else if bare.starts_with("{|") {
            columns.clear();
            cells.clear();
        } else if bare.starts_with("|-") || bare.starts_with("|}") {
            push_row(&mut rows, text, &section, &columns, std::mem::take(&mut cells));
        } else if let Some(rest) = bare.strip_prefix('!') {
            for (part, _) in split(rest, start + 1, "!!") {
                columns.push(without_attributes(part).1.trim().to_owned());
            }
        } else if let Some(rest) = bare.strip_prefix('|') {
            for (part, at) in split(rest, start + 1, "||") {
                let (skipped, content) = without_attributes(part);
                let at = at + skipped;
                cells.push(Cell { range: at..at + content.len() });
            }
        } else if let Some(last) = cells.last_mut() {
            // A cell goes on in the next line.
            last.range.end = start + bare.len();
        }
    }
    push_row(&mut rows, text, &section, &columns, cells);
    rows
}

fn push_row(rows: &mut Vec<Row>, text: &str, section: &str, columns: &[String], cells: Vec<Cell>) {
    let named = cells.iter().find_map(|cell| link(&text[cell.range.clone()]));
    if let Some((case, name)) = named {
        rows.push(Row {
            section: section.to_owned(),
            columns: columns.to_vec(),
            case: case.to_owned(),
            name: name.to_owned(),
            cells,
        });
    }
}

fn heading(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let inner = line.strip_prefix("==")?.strip_suffix("==")?;
    Some(inner.trim_matches('=').trim())
}

/// `[[QA:Testcase name|text]]` or `{{testcase|name}}`-like links: the page and the text.
fn link(cell: &str) -> Option<(&str, &str)> {
    let (_, rest) = cell.split_once("[[")?;
    let (inner, _) = rest.split_once("]]")?;
    let (page, name) = inner.split_once('|').unwrap_or((inner, inner));
    page.to_lowercase().contains("testcase").then_some((page.trim(), name.trim()))
}

/// Parts of a line between separators that are not within links or templates, and where each begins.
fn split<'t>(line: &'t str, offset: usize, separator: &str) -> Vec<(&'t str, usize)> {
    let mut parts = Vec::new();
    let (mut from, mut depth, mut at) = (0, 0_usize, 0);
    while at < line.len() {
        let rest = &line[at..];
        if rest.starts_with("[[") || rest.starts_with("{{") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("]]") || rest.starts_with("}}") {
            depth = depth.saturating_sub(1);
            at += 2;
        } else if depth == 0 && rest.starts_with(separator) {
            parts.push((&line[from..at], offset + from));
            at += separator.len();
            from = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    parts.push((&line[from..], offset + from));
    parts
}

/// A cell's content, and how many bytes of attributes come before it: `style="x" | content`.
fn without_attributes(part: &str) -> (usize, &str) {
    match split(part, 0, "|")[..] {
        [(attributes, _), (content, at), ..] if attributes.contains('=') && !attributes.contains("{{") => {
            let _ = content;
            (at, &part[at..])
        }
        _ => (0, part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use proptest::prelude::*;

    const PAGE: &str = "\
== Default boot and install (x86_64) ==
{| class=\"wikitable\" width=100%
! style=\"width: 5em\" | Milestone !! Test Case !! x86_64 BIOS !! x86_64 UEFI
|-
| Basic
| [[QA:Testcase_Boot_default_install|Server dvd]]
| {{result|none}}
| {{result|none}}
|-
| Basic
| [[QA:Testcase_Boot_default_install|Everything boot]]
| {{result|pass|alice}}<ref>fine</ref>
| {{result|none}} || 
|}
=== Other ===
{|
! Milestone
! Test Case
! Result
|-
| Final || [[QA:Testcase base selinux]] || {{result|warn|bob|1234}}
|}
";

    fn place(case: &str, name: Option<&str>, env: Option<&str>) -> Placement {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Placement { page: "p".into(), case: case.into(), section: None, name: owned(name), env: owned(env) }
    }

    #[test]
    fn the_right_cell_is_filled() {
        let install = "QA:Testcase Boot default install";
        let bot = "{{result|pass|coconut|bot=true}}";
        for (places, from, to) in [
            (
                vec![place(install, Some("Server dvd"), Some("x86_64 UEFI"))],
                "| {{result|none}}\n| {{result|none}}\n|-",
                format!("| {{{{result|none}}}}\n| {bot}\n|-"),
            ),
            (
                vec![place(install, Some("Everything boot"), Some("BIOS"))],
                "| {{result|pass|alice}}<ref>fine</ref>\n",
                format!("| {{{{result|pass|alice}}}}<ref>fine</ref> {bot}\n"),
            ),
            (
                vec![
                    place("QA:Testcase_base_selinux", None, Some("x86_64")),
                    place(install, Some("Server"), Some("x86_64 BIOS")),
                    place("QA:Testcase_base_selinux", None, None),
                ],
                "{{result|warn|bob|1234}}\n",
                format!("{{{{result|warn|bob|1234}}}}{bot}\n"),
            ),
        ] {
            let edited = edit(PAGE, &places, "coconut");
            assert_eq!(edited.unclear, Vec::<String>::new());
            let text = edited.text.unwrap();
            assert_ne!(PAGE.replace(from, &to), PAGE, "{from}");
            if places.len() == 1 {
                assert_eq!(text, PAGE.replace(from, &to));
            } else {
                assert!(text.contains(&to) && text.matches(bot).count() == 2, "{text}");
            }
            assert_eq!(edit(&text, &places, "Coconut").text, None, "it is there already");
        }
    }

    #[test]
    fn what_is_unclear_is_left_alone() {
        let install = "QA:Testcase_Boot_default_install";
        for (place, why) in [
            (place("QA:Testcase_other", None, None), "no row of the page has it"),
            (place(install, Some("Cloud"), None), "no row has the name \"Cloud\""),
            (place(install, None, Some("x86_64 BIOS")), "2 cells fit"),
            (place(install, Some("Server dvd"), Some("ppc64le")), "no column is \"ppc64le\""),
            (place(install, Some("Server dvd"), None), "no column is"),
        ] {
            let edited = edit(PAGE, std::slice::from_ref(&place), "coconut");
            assert_eq!(edited.text, None, "{place:?}");
            assert!(edited.unclear[0].contains(why), "{:?}", edited.unclear);
        }
    }

    #[test]
    fn a_job_and_its_cells() {
        let cases = Cases {
            user: "coconut".into(),
            pages: vec![PageTitle {
                version: "Rawhide".into(),
                title: "Test Results:Fedora {RAWREL} Rawhide {compose} {type}".into(),
            }],
            suites: BTreeMap::from([
                ("install".to_owned(), Suite::Plain(vec!["QA:Testcase_a".into()])),
                (
                    "parts".to_owned(),
                    Suite::Conditional(BTreeMap::from([
                        (
                            "QA:Testcase_a".to_owned(),
                            Conditions { modules: vec!["m".into()], ..Conditions::default() },
                        ),
                        (
                            "QA:Testcase_b".to_owned(),
                            Conditions { testsuites: vec!["install".into()], ..Conditions::default() },
                        ),
                    ])),
                ),
            ]),
            cases: BTreeMap::from([
                (
                    "QA:Testcase_a".to_owned(),
                    Case {
                        kind: "Installation".into(),
                        section: None,
                        env: Some("$BOOTMETHOD$".into()),
                        name: Some("$SUBVARIANT$ $IMAGETYPE$".into()),
                    },
                ),
                (
                    "QA:Testcase_b".to_owned(),
                    Case { kind: "Base".into(), section: None, env: Some("$RUNARCH$".into()), name: None },
                ),
            ]),
        };
        let job = |test: &str, outcome| {
            let settings = [
                ("TEST", test),
                ("VERSION", "Rawhide"),
                ("RAWREL", "45"),
                ("ARCH", "x86_64"),
                ("UEFI", "1"),
                ("BUILD", "Fedora-Rawhide-20261121.n.0"),
                ("SUBVARIANT", "Server"),
                ("IMAGETYPE", "dvd"),
            ];
            let settings =
                settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            JobFact { settings, outcome: Some(outcome), ..JobFact::default() }
        };
        let none = Passed::default();
        let found = placements(&cases, &job("install", Outcome::Passed), &none).unwrap();
        assert_eq!(
            found,
            [Placement {
                page: "Test Results:Fedora 45 Rawhide 20261121.n.0 Installation".into(),
                case: "QA:Testcase_a".into(),
                section: None,
                name: Some("Server dvd".into()),
                env: Some("x86_64 UEFI".into()),
            }]
        );
        for outcome in [Outcome::Softfailed, Outcome::Failed] {
            assert_eq!(placements(&cases, &job("install", outcome), &none), Ok(vec![]), "only passes");
        }
        assert_eq!(placements(&cases, &job("other", Outcome::Passed), &none), Ok(vec![]));
        let some = Passed { modules: vec!["m".into()], tests: vec!["install".into()] };
        let names = |outcome, passed: &Passed| {
            placements(&cases, &job("parts", outcome), passed)
                .unwrap()
                .into_iter()
                .map(|one| one.case)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Outcome::Failed, &some), ["QA:Testcase_a"]);
        assert_eq!(names(Outcome::Passed, &some), ["QA:Testcase_a", "QA:Testcase_b"]);
        let mut old = job("install", Outcome::Passed);
        old.settings.remove("RAWREL");
        assert!(placements(&cases, &old, &none).unwrap_err().contains("no RAWREL"));
    }

    proptest! {
        #[test]
        fn any_page_can_be_edited(page in "([|!{}=\\[\\] \n-]|QA:Testcase_a|result|none|\\PC){0,120}") {
            let places = [place("QA:Testcase_a", None, None), place("QA:Testcase_a", Some("x"), Some("y"))];
            let edited = edit(&page, &places, "u");
            if let Some(text) = edited.text {
                prop_assert!(text.len() > page.len().saturating_sub(40));
                prop_assert_eq!(edit(&text, &places, "u").text, None);
            }
        }
    }
}
