//! Suites, good and bad, with the diagnostics that they get: `tests/suites/*.txt`.
//! The part after `=== expect` is what the check says.

use crate::common::{golden, temporary, write_suite};
use assay_script::{Checks, Suite};

fn key(text: &str) -> Result<(), String> {
    if ["ret", "esc", "ctrl-alt-f2"].contains(&text) {
        Ok(())
    } else {
        Err(format!("there is no key {text:?}"))
    }
}

fn pattern(text: &str) -> Result<(), String> {
    if text.matches('(').count() == text.matches(')').count() {
        Ok(())
    } else {
        Err("unclosed group".to_owned())
    }
}

fn verdict(text: &str) -> String {
    let dir = temporary();
    write_suite(&dir.path, text);
    let schedule = crate::common::sections(text).into_iter().find(|(name, _)| *name == "schedule");
    let schedule: Option<Vec<String>> =
        schedule.map(|(_, list)| list.trim().split(',').map(str::to_owned).collect());
    let checks = Checks { key: Some(key), pattern: Some(pattern) };
    let lines: Vec<String> = match Suite::load_with(&dir.path, schedule.as_deref(), &checks) {
        Ok((suite, warnings)) => {
            let modules = suite.modules().iter().map(|module| {
                let assay_script::Module { name, file, flags, timeout, has_post_fail, .. } = module;
                format!("module {name} ({file}) {flags:?} timeout {timeout:?} post_fail {has_post_fail}")
            });
            let tags = suite.screen_tags().iter().map(|tags| format!("tags {tags:?}"));
            warnings.iter().map(ToString::to_string).chain(modules).chain(tags).collect()
        }
        Err(errors) => errors.iter().map(|error| format!("[{}] {error}", error.code)).collect(),
    };
    lines.iter().map(|line| format!("{}\n", line.replace(dir.path.as_str(), "DIR"))).collect()
}

#[test]
fn suites() {
    let dir = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites");
    let mut files: Vec<_> =
        dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = fs_err::read_to_string(dir.join(&file)).unwrap();
        let (input, _) = text.split_once("=== expect\n").unwrap_or((&text, ""));
        golden(&format!("suites/{file}"), &format!("{input}=== expect\n{}", verdict(input)));
    }
}
