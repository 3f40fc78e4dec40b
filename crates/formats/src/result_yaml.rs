//! ResultYAML: results of tests as Taskotron's tasks wrote them.
//!
//! ```yaml
//! results:
//!   - item: bash-5.2.26-1.fc40
//!     type: koji_build
//!     testcase: dist.rpmlint
//!     outcome: PASSED
//!     note: no warnings
//!     ref_url: https://logs.example.org/1
//!     arch: x86_64
//! ```

use crate::diagnostic::{Diagnostic, Sink};
use crate::read::{Reader, one_or_more};
use crate::yaml::{self, Dialect, Kind, Node, Rules, Scalar};
use std::collections::BTreeMap;

/// A result as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct YamlResult {
    /// Where it is: the file and the line.
    pub place: String,
    /// The test case (`testcase`, or `checkname`).
    pub testcase: Option<String>,
    /// In capitals.
    pub outcome: String,
    /// A remark.
    pub note: Option<String>,
    /// Where the logs are (`ref_url`, `log_url` or `artifact`).
    pub ref_url: Option<String>,
    /// Everything else, with `item` and `type`.
    pub data: BTreeMap<String, Vec<String>>,
}

/// Reads a file. None if there is an error; everything that was found, in the order of the file.
pub fn load(name: &str, text: &str) -> (Option<Vec<YamlResult>>, Vec<Diagnostic>) {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = yaml::parse(text, file, Rules::plain(Dialect::Yaml12), &mut sink);
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let results = root.map(|root| {
        let entries = match root.get("results") {
            Some(results) => reader.list(results, "results").to_vec(),
            None if matches!(root.kind, Kind::Map(_)) => {
                let message = "there are no results; expected `results:` with a list";
                reader.sink.error("missing-key", root.place, message);
                Vec::new()
            }
            None => reader.list(&root, "results").to_vec(),
        };
        entries.iter().filter_map(|entry| result(&mut reader, entry)).collect::<Vec<_>>()
    });
    let failed = sink.has_errors();
    (results.filter(|_| !failed), sink.finish())
}

fn result(reader: &mut Reader<'_, '_>, node: &Node) -> Option<YamlResult> {
    let mut fields = reader.fields(node, "a result")?;
    let outcome = reader.required(&mut fields, "outcome");
    let outcome =
        outcome.and_then(|node| reader.name(node, "outcome")).map(|text| text.trim().to_uppercase());
    let place = reader.sink.show(node.place);
    let mut result = YamlResult { place, outcome: outcome.unwrap_or_default(), ..YamlResult::default() };
    for entry in fields.rest() {
        let key = &*entry.key.text;
        if matches!(entry.value.scalar(reader.dialect), Some(Scalar::Null)) {
            continue;
        }
        let mut text = |node| reader.text(node, key).map(str::to_owned);
        match key {
            "testcase" => {
                // Also as ResultsDB has it: a mapping with its name.
                let named = entry.value.get("name").unwrap_or(&entry.value);
                result.testcase = text(named);
            }
            "checkname" => result.testcase = result.testcase.take().or_else(|| text(&entry.value)),
            "note" | "summary" => result.note = result.note.take().or_else(|| text(&entry.value)),
            "ref_url" | "log_url" | "artifact" => {
                result.ref_url = result.ref_url.take().or_else(|| text(&entry.value));
            }
            // Read before; and whole logs, which belong where `ref_url` points to.
            "outcome" | "details" | "output" => {}
            _ if key.contains(':') => {
                let message = format!("the key `{key}` has a colon, which no store of results takes");
                reader.sink.error("key", entry.key.place, message);
            }
            _ => {
                let values = one_or_more(&entry.value).into_iter().filter_map(text).collect();
                result.data.insert(key.to_owned(), values);
            }
        }
    }
    reader.finish(fields);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let text = "\
results:
  - {item: bash-1, type: koji_build, checkname: dist.rpmlint, outcome: passed, arch: [x86_64, i386], note: null, release: 5}
  - item: bash-1
    type: koji_build
    testcase: {name: dist.depcheck, ref_url: http://x}
    outcome: NEEDS_INSPECTION
    log_url: http://logs
    details: |
      many
";
        let (results, found) = load("r.yaml", text);
        let results = results.unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!(results[0].testcase.as_deref(), Some("dist.rpmlint"));
        assert_eq!((results[0].outcome.as_str(), results[0].data["arch"].len()), ("PASSED", 2));
        assert_eq!((results[0].place.as_str(), results[1].place.as_str()), ("r.yaml:2", "r.yaml:3"));
        assert_eq!(results[0].data["release"], ["5"]);
        assert_eq!(
            (results[1].testcase.as_deref(), results[1].ref_url.as_deref()),
            (Some("dist.depcheck"), Some("http://logs"))
        );
        assert!(!results[1].data.contains_key("details"));
    }

    #[test]
    fn everything_wrong_is_said_with_its_place() {
        let (results, found) =
            load("r.yaml", "results:\n  - {item: a}\n  - 7\n  - {outcome: X, 'a:b': 1, note: [x]}\n");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(results.is_none());
        for part in [
            "r.yaml:2:5: error: a result needs the key `outcome`",
            "r.yaml:3:5: error: expected a mapping for a result",
            "r.yaml:4:18: error: the key `a:b` has a colon",
            "`note`: expected text, found a list",
        ] {
            assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
        }
        assert!(load("r.yaml", "x: 1").0.is_none());
    }

    proptest::proptest! {
        #[test]
        fn anything_may_stand_in_a_file(text in "(results:\n|  - |outcome: P\n|    note: |item: \\[a\\]\n|\\PC{0,20}\n){0,12}") {
            let _ = load("r.yaml", &text);
        }
    }
}
