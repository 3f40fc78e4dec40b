//! OpenStack's layout of February 2014 becomes what Zuul 2.6 makes of it: every job, tree, queue and attribute.

use assay_engine::gate::config::Config;
use assay_formats::assay;
use assay_formats::zuul::{self, Options};
use camino::Utf8PathBuf;
use serde_json::Value;

/// The data, which is no part of the project. Where it must be there and is not, this fails.
fn data() -> Option<Utf8PathBuf> {
    let dir = Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/openstack-2014"));
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none(), "{dir} is not there; it is needed where CI is set");
    eprintln!("skipped: {dir} is not there");
    None
}

/// Every difference, by its path.
fn differences(path: &str, ours: &Value, expected: &Value, found: &mut Vec<String>) {
    match (ours, expected) {
        (Value::Object(ours), Value::Object(expected)) => {
            let keys: std::collections::BTreeSet<_> = ours.keys().chain(expected.keys()).collect();
            for key in keys {
                let side =
                    |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or("(none)".into());
                differences(&format!("{path}/{key}"), &side(ours), &side(expected), found);
            }
        }
        _ if ours != expected => found.push(format!("{path}: ours {ours}, expected {expected}")),
        _ => {}
    }
}

#[test]
fn as_zuul_expands_it() {
    let Some(data) = data() else { return };
    let text = fs_err::read_to_string(data.join("layout.yaml")).expect("the layout");
    let expected =
        fs_err::read_to_string(data.join("expected/layout-expanded.json")).expect("what Zuul makes");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let options = Options { noop_joins: true, ..Options::default() };
    let import = zuul::import(&text, "layout.yaml", &options);
    let said: Vec<String> = import.diagnostics.iter().map(ToString::to_string).collect();
    let config = import.config.unwrap_or_else(|| panic!("errors: {said:#?}"));
    let mut found = Vec::new();
    differences("", &zuul::expanded_json(&config), &expected, &mut found);
    assert!(found.is_empty(), "{} differences, the first: {:#?}", found.len(), &found[..found.len().min(10)]);
    assert_eq!((config.jobs.len(), config.projects.len()), (1368, 234));
    let queues: Vec<_> =
        import.queues.iter().map(|queue| (queue.projects.len(), queue.joins[0].job.to_string())).collect();
    let expected = [(54, "gate-noop"), (32, "gate-tempest-dsvm-full"), (2, "gate-tempest-dsvm-savanna-full")];
    assert_eq!(queues, expected.map(|(projects, job)| (projects, job.to_owned())));

    // And as Assay's own YAML it is the same.
    let files = assay::to_files(&config);
    let sources: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let read = assay::load(&sources);
    let said: Vec<String> = read.diagnostics.iter().map(ToString::to_string).collect();
    let read = read.config.unwrap_or_else(|| panic!("errors: {said:#?}"));
    assert_eq!(Config { hash: config.hash.clone(), ..read }, config);
}
