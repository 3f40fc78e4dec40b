//! Our matcher against the recorded answers of os-autoinst's own. How they were recorded, and where and why
//! the two may differ: `oracle/README.md`.

#[path = "oracle/cases.rs"]
mod cases;

use std::sync::Arc;

use assay_screen::{AreaMatch, Matcher, Needle, NeedleMatch, ReferenceMatcher, Scene, similarity};
use serde::Deserialize;

/// Cases where os-autoinst's floating point sums choose among places that are equally good: only there the
/// places may differ, and nothing else.
const FLOAT_ERRORS: [&str; 1] = ["noisy-2"];

#[derive(Deserialize)]
struct Answer {
    name: String,
    matched: bool,
    error: f64,
    psnr: f64,
    areas: Vec<AnswerArea>,
}

#[derive(Deserialize, Debug)]
struct AnswerArea {
    x: u32,
    y: u32,
    w: u32,
    h: u32,
    similarity: f64,
    ok: bool,
}

#[test]
fn verdicts_places_and_similarities_are_those_of_os_autoinst() {
    let answers: Vec<Answer> = serde_json::from_str(include_str!("oracle/golden.json")).unwrap();
    let cases = cases::all();
    assert_eq!(answers.len(), cases.len(), "golden.json is older than the cases: see oracle/README.md");
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(case.name, answer.name, "golden.json is older than the cases: see oracle/README.md");
        let needle = Needle::parse(&case.name, case.json.as_bytes(), &case.needle_png()).unwrap();
        let scene = Scene::new(Arc::new(case.scene.clone()));
        let found = ReferenceMatcher.match_needle(&scene, &needle, case.search());
        let quick = ReferenceMatcher.matches(&scene, &needle, case.search());
        assert_eq!(quick, Some(found.clone()).filter(|found| found.matched), "{}: the short way", case.name);
        if !same(&found, answer) {
            wrong.push(format!("{}: {found:?}\n    os-autoinst: {:?}", case.name, answer.areas));
        }
        // os-autoinst was asked after painting over the needle's picture, so only where nothing was painted.
        if !case.name.starts_with("excluded") {
            let psnr = similarity(&case.scene, &case.needle);
            assert!(
                (psnr - answer.psnr).abs() < 1e-5,
                "{}: psnr {psnr}, os-autoinst {}",
                case.name,
                answer.psnr
            );
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn same(found: &NeedleMatch, answer: &Answer) -> bool {
    let any_place = FLOAT_ERRORS.contains(&answer.name.as_str());
    found.matched == answer.matched
        && (found.error - answer.error).abs() < 1e-8
        && found.areas.len() == answer.areas.len()
        && found.areas.iter().zip(&answer.areas).all(|(found, answer)| same_area(found, answer, any_place))
}

fn same_area(found: &AreaMatch, answer: &AnswerArea, any_place: bool) -> bool {
    (found.w, found.h, found.ok) == (answer.w, answer.h, answer.ok)
        && (found.similarity - answer.similarity).abs() < 1e-8
        && (any_place || (found.x, found.y) == (answer.x, answer.y))
}
