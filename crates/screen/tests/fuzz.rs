//! Whatever comes in, nothing panics and nothing takes for ever.

use std::sync::Arc;

use assay_screen::{Image, Matcher, Needle, NeedleJson, ReferenceMatcher, Scene, SearchRatio, png};
use proptest::prelude::*;

const JSON: &str = r#"{"area":[{"xpos":1,"ypos":2,"width":3,"height":4,"type":"match","match":96.5,"margin":"50","click_point":{"xpos":1,"ypos":2,"id":"a"}},{"xpos":0,"ypos":0,"width":5,"height":5,"type":"exclude"}],"properties":["workaround",{"name":"p","value":"v"}],"tags":["a","b"]}"#;

/// Bytes overwritten, cut out or doubled at a few places.
fn mutated(original: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8, 1..40_usize);
    proptest::collection::vec(edit, 1..8).prop_map(move |edits| {
        let mut bytes = original.clone();
        for (index, value, kind, length) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes
    })
}

fn picture() -> Vec<u8> {
    let data = (0..24 * 18 * 3_u32).map(|i| (i * 7 % 251) as u8).collect();
    png::encode(&Image::from_rgb(24, 18, data).expect("24 x 18 pixels"))
}

fn area() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (0..40_i64).prop_map(|n| n.to_string()),
        Just("65535".to_owned()),
        Just("\"7.5\"".to_owned())
    ];
    let kind = prop_oneof![3 => Just("match"), 1 => Just("exclude"), 1 => Just("ocr"), 1 => Just("odd")];
    let place = (number.clone(), number.clone(), number.clone(), number.clone());
    (place, kind, 0..=100_u32, number).prop_map(|((x, y, w, h), kind, level, margin)| {
        format!(r#"{{"xpos":{x},"ypos":{y},"width":{w},"height":{h},"type":"{kind}","match":{level},"margin":{margin}}}"#)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_png(bytes in mutated(picture())) {
        if let Ok(image) = png::decode(&bytes) {
            prop_assert_eq!(image.rgb().len(), image.width() as usize * image.height() as usize * 3);
        }
    }

    #[test]
    fn random_png(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(png::decode(&bytes).is_err());
        let signed = [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes].concat();
        prop_assert!(png::decode(&signed).is_err());
    }

    #[test]
    fn mutated_json(bytes in mutated(JSON.as_bytes().to_vec())) {
        match NeedleJson::parse("n", &bytes) {
            Err(error) => prop_assert!(error.to_string().starts_with("n.json:")),
            Ok(needle) => {
                prop_assert!(needle.areas.iter().all(|area| !area.rect.is_empty()));
                let text = needle.to_pretty();
                prop_assert_eq!(NeedleJson::parse("n", text.as_bytes()).unwrap().areas, needle.areas);
            }
        }
    }

    #[test]
    fn random_json(text in "[\\[\\]{}:,\"0-9eE.ntruefalsarey -]{0,200}") {
        let _ = NeedleJson::parse("n", text.as_bytes());
    }

    #[test]
    fn any_geometry(
        areas in proptest::collection::vec(area(), 1..5),
        needle_size in (1..50_u32, 1..50_u32),
        scene_size in (1..50_u32, 1..50_u32),
        same in any::<bool>(),
        ratio in 0.0..1.2_f64,
    ) {
        let image = |(w, h): (u32, u32)| {
            let data = (0..w * h * 3).map(|i| (i * 31 % 255) as u8).collect();
            Image::from_rgb(w, h, data).unwrap()
        };
        let json = format!(r#"{{"area":[{}],"tags":["t"]}}"#, areas.join(","));
        let scene = Scene::new(Arc::new(image(if same { needle_size } else { scene_size })));
        if let Ok(needle) = Needle::parse("n", json.as_bytes(), &png::encode(&image(needle_size))) {
            let search = SearchRatio::new(ratio);
            let found = ReferenceMatcher.match_needle(&scene, &needle, search);
            prop_assert!((0.0..=1.0).contains(&found.error));
            for area in &found.areas {
                prop_assert!((0.0..=1.0).contains(&area.similarity));
                prop_assert!(area.similarity == 0.0 || area.x + area.w <= scene.image().width());
            }
            let quick = ReferenceMatcher.matches(&scene, &needle, search);
            prop_assert_eq!(quick, Some(found).filter(|found| found.matched));
        }
    }
}
