//! The matcher's rules one by one, and its search against the plain definition.

#[path = "oracle/cases.rs"]
#[expect(dead_code, reason = "shared with the oracle test, which uses more of it")]
mod cases;

use std::sync::Arc;

use assay_screen::gray::{BlurredSoFar, Gray, Plane};
use assay_screen::{
    Image, Matcher, Needle, NeedleMatch, Rect, ReferenceMatcher, Scene, SearchRatio, best_of, png,
};
use proptest::prelude::*;

fn needle(name: &str, json: &str, image: &Image) -> Needle {
    Needle::parse(name, json.as_bytes(), &png::encode(image)).expect("a good needle")
}

fn found(scene: &Image, needle: &Needle, search: SearchRatio) -> NeedleMatch {
    let scene = Scene::new(Arc::new(scene.clone()));
    let found = ReferenceMatcher.match_needle(&scene, needle, search);
    let quick = ReferenceMatcher.matches(&scene, needle, search);
    assert_eq!(quick, Some(found.clone()).filter(|found| found.matched), "the short way");
    found
}

fn one_area(more: &str) -> String {
    format!(r#"{{"area":[{{"xpos":40,"ypos":30,"width":32,"height":16{more}}}],"tags":["a"]}}"#)
}

/// A screen with a word at 40,30, and the same with the word somewhere else.
fn word_at(x: u32, y: u32) -> Image {
    let mut image = Image::filled(200, 150, [10, 20, 60]);
    cases::text(&mut image, Rect { x, y, w: 32, h: 16 }, 7, [255; 3]);
    image
}

#[test]
fn margins_grow_with_the_ratio() {
    assert_eq!(SearchRatio::MARGIN.margin(50), 50);
    assert_eq!(SearchRatio::NORMAL.margin(50), 69);
    assert_eq!(SearchRatio::FULL.margin(50), 1024);
    assert_eq!(SearchRatio::NORMAL.margin(300), 314);
    assert_eq!(SearchRatio::FULL.margin(2000), 1024, "upstream's formula shrinks what is larger");
    assert_eq!(SearchRatio::new(7.0), SearchRatio::FULL);
    assert_eq!(SearchRatio::new(f64::NAN), SearchRatio::MARGIN);
}

#[test]
fn a_moved_area_is_found_within_its_margin_only() {
    let needle = needle("n", &one_area(r#","margin":20"#), &word_at(40, 30));
    let moved = found(&word_at(60, 40), &needle, SearchRatio::MARGIN);
    assert!(moved.matched && moved.error < 1e-12);
    assert_eq!((moved.areas[0].x, moved.areas[0].y), (60, 40));
    let far = found(&word_at(61, 40), &needle, SearchRatio::MARGIN);
    assert!(!far.matched, "{far:?}");
    assert!(found(&word_at(61, 40), &needle, SearchRatio::FULL).matched);
}

#[test]
fn what_is_printed_is_exactly_this() {
    let needle = needle("n", &one_area(r#","click_point":"center""#), &word_at(40, 30));
    let found = found(&word_at(40, 30), &needle, SearchRatio::MARGIN);
    let wanted =
        r#"{"matched":true,"error":0.0,"areas":[{"x":40,"y":30,"w":32,"h":16,"similarity":1.0,"ok":true}]}"#;
    assert_eq!(serde_json::to_string(&found).unwrap(), wanted);
}

#[test]
fn an_area_outside_of_picture_or_scene_has_similarity_0() {
    let outside = needle("n", &one_area("").replace("\"xpos\":40", "\"xpos\":190"), &word_at(40, 30));
    assert!(outside.warnings[0].contains("sticks out of the 200x150 picture"), "{:?}", outside.warnings);
    let missed = found(&word_at(40, 30), &outside, SearchRatio::FULL);
    assert!(!missed.matched && missed.areas[0].similarity <= 0.0 && missed.error >= 1.0, "{missed:?}");
    let inside = needle("n", &one_area(""), &word_at(40, 30));
    assert!(!found(&Image::filled(20, 10, [0; 3]), &inside, SearchRatio::FULL).matched);
}

#[test]
fn positions_scale_with_the_scene() {
    let needle = needle("n", &one_area(r#","margin":4"#), &word_at(40, 30));
    let mut large = Image::filled(400, 300, [10, 20, 60]);
    cases::text(&mut large, Rect { x: 82, y: 61, w: 32, h: 16 }, 7, [255; 3]);
    let found = found(&large, &needle, SearchRatio::MARGIN);
    assert_eq!((found.matched, found.areas[0].x, found.areas[0].y), (true, 82, 61));
}

#[test]
fn of_equal_copies_the_lower_right_one_wins() {
    let needle =
        needle("n", &one_area(r#","margin":60"#).replace("\"xpos\":40", "\"xpos\":80"), &word_at(80, 30));
    let mut scene = word_at(60, 30);
    cases::text(&mut scene, Rect { x: 110, y: 30, w: 32, h: 16 }, 7, [255; 3]);
    // 60 is nearer to 80 than 110, but the window starts at 20 and there 60 counts as 40, 110 as 90.
    assert_eq!(found(&scene, &needle, SearchRatio::MARGIN).areas[0].x, 110);
}

#[test]
fn excluded_rectangles_do_not_count() {
    let area = r#"{"xpos":30,"ypos":20,"width":60,"height":40,"margin":4}"#;
    let exclude = r#"{"xpos":40,"ypos":30,"width":32,"height":16,"type":"exclude"}"#;
    let json = format!(r#"{{"area":[{area},{exclude}],"tags":["a"]}}"#);
    let blank = Image::filled(200, 150, [10, 20, 60]);
    let with = needle("n", &json, &word_at(40, 30));
    assert!(found(&blank, &with, SearchRatio::MARGIN).matched);
    let without = needle("n", &format!(r#"{{"area":[{area}],"tags":["a"]}}"#), &word_at(40, 30));
    assert!(!found(&blank, &without, SearchRatio::MARGIN).matched);
}

#[test]
fn a_needle_that_looks_at_nothing_matches_nothing() {
    let needle = needle("n", &one_area(r#","type":"ocr""#), &word_at(40, 30));
    let found = found(&word_at(40, 30), &needle, SearchRatio::FULL);
    assert!(!found.matched && found.error >= 1.0 && found.areas.is_empty());
}

#[test]
fn colour_does_not_count_but_brightness_does() {
    let red = needle("n", &one_area(""), &Image::filled(200, 150, [255, 0, 0]));
    assert!(
        found(&Image::filled(200, 150, [0, 130, 0]), &red, SearchRatio::MARGIN).areas[0].similarity >= 1.0
    );
    // 5 gray levels apart: mean square error 25.
    let darker = found(&Image::filled(200, 150, [71, 71, 71]), &red, SearchRatio::MARGIN);
    assert!((darker.areas[0].similarity - (0.9 + 15.0 / 380.0)).abs() < 1e-12 && !darker.matched);
    let lenient = needle("n", &one_area(r#","match":93.9"#), &Image::filled(200, 150, [255, 0, 0]));
    assert!(found(&Image::filled(200, 150, [71, 71, 71]), &lenient, SearchRatio::MARGIN).matched);
}

#[test]
fn clicks_go_to_the_click_point_or_the_middle_of_the_last_area() {
    let two = |first: &str, second: &str| {
        let json = format!(
            r#"{{"area":[{{"xpos":40,"ypos":30,"width":32,"height":16{first}}},{{"xpos":0,"ypos":0,"width":11,"height":7{second}}}],"tags":["a"]}}"#
        );
        found(&word_at(43, 31), &needle("n", &json, &word_at(40, 30)), SearchRatio::MARGIN)
    };
    assert_eq!(two("", "").click_point(None), Some((5, 3)));
    assert_eq!(two(r#","click_point":"center""#, "").click_point(None), Some((59, 39)));
    assert_eq!(two(r#","click_point":{"xpos":2.5,"ypos":-40}"#, "").click_point(None), Some((45, 0)));
    let named = two(
        r#","click_point":{"xpos":1,"ypos":2,"id":"ok"}"#,
        r#","click_point":{"xpos":3,"ypos":4,"id":"no"}"#,
    );
    assert_eq!(named.click_point(Some("no")), Some((3, 4)));
    assert_eq!(named.click_point(None), Some((44, 33)));
    assert_eq!(named.click_point(Some("maybe")), None);
}

#[test]
fn the_best_needle_matched_with_least_error_then_workaround_then_name() {
    let make = |needle: &str, workaround, matched, error| NeedleMatch {
        needle: needle.into(),
        workaround,
        matched,
        error,
        areas: Vec::new(),
    };
    let names = |list: &[NeedleMatch]| list.iter().map(|found| found.needle.to_string()).collect::<Vec<_>>();
    let (best, rest) = best_of(vec![
        make("missed", false, false, 0.0),
        make("b", false, true, 0.01),
        make("z", true, true, 0.01),
        make("a", false, true, 0.01),
        make("far", false, true, 0.02),
    ]);
    assert_eq!(best.unwrap().needle.as_ref(), "z");
    assert_eq!(names(&rest), ["a", "b", "far", "missed"]);
    let (best, rest) = best_of(vec![make("far", false, false, 0.5), make("near", false, false, 0.1)]);
    assert_eq!((best, names(&rest)), (None, vec!["near".to_owned(), "far".to_owned()]));
    assert_eq!(best_of(Vec::new()), (None, Vec::new()));
}

/// The definition, word by word: every place of the window in order, no short cuts.
fn by_definition(scene: &Image, needle: &Image, area: Rect, margin: u32) -> (u32, u32, f64) {
    let window = area.grown(margin, scene.bounds());
    let plane = |image: &Image, rect: Rect| {
        let rounding = BlurredSoFar::nothing(image.bounds()).add(rect);
        Plane::blurred(&Gray::of(image, image.bounds()), rect, rounding)
    };
    let (own, other) = (plane(needle, area), plane(scene, window));
    let distance = |x: u32, y: u32| -> f64 {
        let rows = (0..area.h).flat_map(|row| {
            let a = own.row(area.x, area.y + row, area.w).iter();
            a.zip(other.row(x, y + row, area.w)).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        });
        rows.sum()
    };
    let mut smallest = distance(area.x, area.y);
    let mut kept = Vec::new();
    for y in 0..=window.h - area.h {
        for x in 0..=window.w - area.w {
            let here = distance(window.x + x, window.y + y);
            if here < smallest {
                smallest = here;
                kept.clear();
            }
            if here <= smallest + 10.0 {
                kept.push((x, y, here));
            }
        }
    }
    if distance(area.x, area.y) == 0.0 {
        return (area.x, area.y, 1.0);
    }
    let away = |x: u32, y: u32| (f64::from(x) - f64::from(area.x)).hypot(f64::from(y) - f64::from(area.y));
    let &(x, y, squares) = kept
        .iter()
        .min_by(|a, b| away(a.0, a.1).total_cmp(&away(b.0, b.1)))
        .expect("the place itself is kept");
    let mean = squares / (f64::from(area.w) * f64::from(area.h));
    (window.x + x, window.y + y, (0.9 + (40.0 - mean) / 380.0).clamp(0.0, 1.0))
}

#[derive(Debug, Clone)]
struct Scenery {
    seed: u64,
    kind: u8,
    strength: u32,
    area: Rect,
    margin: u32,
    level: u32,
}

fn scenery() -> impl Strategy<Value = Scenery> {
    let area = (0..60_u32, 0..40_u32, 1..70_u32, 1..40_u32);
    (any::<u64>(), 0..6_u8, 0..12_u32, area, 1..40_u32, 1..=100_u32).prop_map(
        |(seed, kind, strength, (x, y, w, h), margin, level)| {
            let area = Rect { x, y, w: w.min(96 - x), h: h.min(64 - y) };
            Scenery { seed, kind, strength, area, margin, level }
        },
    )
}

fn scene_of(kind: u8, seed: u64, strength: u32, needle: &Image) -> Image {
    let mut scene = match kind {
        0 => Image::filled(96, 64, [seed as u8; 3]),
        1 => cases::screen(96, 64, seed),
        2 | 3 => {
            let mut moved = Image::filled(96, 64, [0; 3]);
            cases::paste(&mut moved, needle, (seed % 11) as u32, (seed % 7) as u32);
            moved
        }
        _ => needle.clone(),
    };
    if kind % 2 == 1 {
        cases::noise(&mut scene, seed, strength);
    }
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_cuts_change_nothing(setup in scenery()) {
        let Scenery { seed, kind, strength, area, margin, level } = setup;
        let picture = cases::screen(96, 64, seed ^ 1);
        let scene = scene_of(kind, seed, strength, &picture);
        let Rect { x, y, w, h } = area;
        let json = format!(
            r#"{{"area":[{{"xpos":{x},"ypos":{y},"width":{w},"height":{h},"margin":{margin},"match":{level}}}],"tags":["a"]}}"#
        );
        let found = found(&scene, &needle("n", &json, &picture), SearchRatio::MARGIN);
        let (x, y, similarity) = by_definition(&scene, &picture, area, margin);
        prop_assert_eq!((found.areas[0].x, found.areas[0].y), (x, y));
        prop_assert!((found.areas[0].similarity - similarity).abs() < 1e-9);
    }
}
