//! Every scenario of `tests/scenarios/gate` comes as it expects.

use assay_simulate::play::{parse, play};
use camino::Utf8Path;

#[test]
fn all_come_as_expected() {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios/gate");
    let mut files: Vec<_> = dir
        .read_dir_utf8()
        .expect("the scenarios")
        .filter_map(|entry| {
            Some(entry.expect("an entry").into_path()).filter(|path| path.extension() == Some("yaml"))
        })
        .collect();
    files.sort();
    let only = std::env::var("ASSAY_SCENARIO").ok();
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let text = fs_err::read_to_string(file).expect("a scenario");
        let beside = |other: &str| fs_err::read_to_string(dir.join(other)).map_err(|error| error.to_string());
        let played = match parse(&text, name) {
            Err(error) => Err(error),
            Ok(scenario) => play(&scenario, &beside).map_err(|error| error.to_string()),
        };
        match played {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(played) => {
                wrong.extend(played.misses.iter().map(|miss| format!("{name}: {miss}")));
                wrong.extend(played.violations.iter().map(|violation| format!("{name}: {violation}")));
                if only.is_some() {
                    for note in &played.timeline {
                        println!("{:>10.3} {:<9} {}", note.at_us as f64 / 1e6, note.what, note.text);
                    }
                }
            }
        }
    }
    assert!(files.len() >= 35, "only {} scenarios", files.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
