//! Reading and writing needles: openQA's defaults, its tolerance, and messages for what cannot be used.

use assay_screen::{AreaKind, ClickPoint, Image, Needle, NeedleJson, Property, Rect, png};

fn parse(json: &str) -> NeedleJson {
    NeedleJson::parse("menu", json.as_bytes()).expect("a good needle")
}

fn error(json: &str) -> String {
    NeedleJson::parse("menu", json.as_bytes()).expect_err("a bad needle").to_string()
}

fn with_area(keys: &str) -> String {
    format!("{{\n  \"area\": [\n    {{{keys}}}\n  ],\n  \"tags\": [\"a\"]\n}}")
}

const PLACE: &str = r#""xpos": 1, "ypos": 2, "width": 3, "height": 4"#;

#[test]
fn defaults_are_those_of_openqa() {
    let needle = parse(&with_area(PLACE));
    let area = &needle.areas[0];
    assert_eq!(area.rect, Rect { x: 1, y: 2, w: 3, h: 4 });
    assert_eq!(
        (&area.kind, area.level(), area.margin(), &area.click_point),
        (&AreaKind::Match, 0.96, 50, &None)
    );
    assert_eq!((needle.properties.len(), needle.tags), (0, vec!["a".to_owned()]));
    assert_eq!(needle.warnings, Vec::<String>::new());
    // 0 is taken as not given, there and here.
    let zero = parse(&with_area(&format!(r#"{PLACE}, "match": 0, "margin": 0, "type": """#)));
    assert_eq!((zero.areas[0].level(), zero.areas[0].margin()), (0.96, 50));
}

#[test]
fn numbers_come_in_three_spellings() {
    let area = parse(&with_area(
        r#""xpos": "10", "ypos": 20.9, "width": " 30 ", "height": 4e1, "match": "97.5", "margin": 300, "max_offset": "3""#,
    ))
    .areas
    .remove(0);
    assert_eq!(area.rect, Rect { x: 10, y: 20, w: 30, h: 40 });
    assert_eq!((area.level(), area.margin()), (0.975, 300));
}

#[test]
fn what_is_odd_is_let_through_with_a_warning() {
    let needle = parse(
        r#"{"area":[{"xpos":0,"width":3,"height":4,"colour":1},{"xpos":0,"ypos":0,"width":1,"height":1,"type":"exlude"}],
            "tags":["a","b","a"],"author":"me","properties":null}"#,
    );
    assert_eq!(needle.tags, ["a", "b"]);
    assert_eq!(
        needle.warnings,
        [
            "menu.json: key `author` is unknown and without effect",
            "menu.json: area 1: key `colour` is unknown and without effect",
            "menu.json: tag `a` is given twice",
            "menu.json: area 2: type `exlude` is unknown and the area without effect; use match, exclude or ocr",
        ]
    );
    let warnings = parse(r#"{"area":[{"width":3,"height":4,"type":"ocr"}]}"#).warnings;
    assert!(warnings[0].contains("no tags") && warnings[1].contains("can never match"), "{warnings:?}");
}

#[test]
fn errors_name_file_place_expectation_and_remedy() {
    for (json, wanted) in [
        ("", "menu.json:1:0: EOF while parsing a value; the file is cut off, copy or write it again"),
        (
            "{\"area\": [",
            "menu.json:1:10: EOF while parsing a list; the file is cut off, copy or write it again",
        ),
        ("{\n\"area\" 1}", "menu.json:2:8: expected `:`; correct the JSON there"),
        (
            "[]",
            "menu.json:1:2: invalid length 0, expected a needle: an object with the keys area, properties and tags",
        ),
        (
            "7",
            "menu.json:1:1: invalid type: integer `7`, expected a needle: an object with the keys area, properties and tags",
        ),
        ("{}", "menu.json:1:1: no area of type match or ocr, expected at least one; add a match area"),
    ] {
        assert_eq!(error(json), wanted, "{json}");
    }
    for (keys, wanted) in [
        (
            r#""xpos": 1, "ypos": 2, "height": 4"#,
            "menu.json:3:39: `width` of the area ending here is 0, expected 1 to 65535; draw the area again",
        ),
        (
            r#""xpos": -1, "ypos": 2, "width": 3, "height": 4"#,
            "menu.json:3:52: `xpos` of the area ending here is -1, expected 0 to 65535; draw the area again",
        ),
        (
            r#""xpos": 1, "ypos": 2, "width": 3, "height": 4, "match": 101"#,
            "menu.json:3:65: `match` of the area ending here is 101, expected 0 to 100; draw the area again",
        ),
        (r#""xpos": "left""#, "menu.json:3:19: invalid value: string \"left\", expected a number"),
        (
            r#""click_point": "middle""#,
            "menu.json:3:28: invalid value: string \"middle\", expected a click point: \"center\" or an object with xpos and ypos in the area",
        ),
    ] {
        assert_eq!(error(&with_area(keys)), wanted);
    }
    assert!(
        error(&with_area(&format!(r#"{PLACE}, "type": "exclude""#))).contains("no area of type match or ocr")
    );
    let hundred = vec![format!("{{{PLACE}}}"); 101].join(",");
    assert!(
        error(&format!(r#"{{"area":[{hundred}]}}"#))
            .contains("101 areas, expected at most 100; split the needle")
    );
}

#[test]
fn several_click_points_need_ids() {
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"area":[{{{PLACE},"click_point":{first}}},{{{PLACE},"click_point":{second}}}],"tags":["a"]}}"#
        )
    };
    let named = r#"{"xpos":0,"ypos":1.5,"id":"ok"}"#;
    let needle = parse(&two(named, &named.replace("ok", "no")));
    let wanted = ClickPoint::At { x: 0.0, y: 1.5, id: Some("ok".into()) };
    assert_eq!(needle.areas[0].click_point.as_ref(), Some(&wanted));
    for other in [r#""center""#, r#"{"xpos":1,"ypos":2}"#] {
        let message = error(&two(named, other));
        assert!(message.ends_with("expected one or an `id` in each; remove some or name them"), "{message}");
    }
}

#[test]
fn a_workaround_names_its_bug_in_the_property_or_the_file_name() {
    let picture = png::encode(&Image::filled(9, 9, [0; 3]));
    let workaround = |name: &str, properties: &str| {
        let json = format!(r#"{{"area":[{{{PLACE}}}],"properties":{properties},"tags":["a"]}}"#);
        Needle::parse(name, json.as_bytes(), &picture).unwrap().workaround()
    };
    let bug = |text: &str| Some(text.to_owned());
    assert_eq!(workaround("x-bsc1037891-20170508", r#"["workaround"]"#), bug("bsc#1037891"));
    assert_eq!(workaround("x-poo1-y-boo22-z", r#"["workaround"]"#), bug("boo#22"));
    assert_eq!(workaround("x-poo1-y", r#"[{"name":"workaround","value":"gh#5"}]"#), bug("gh#5"));
    assert_eq!(workaround("x-poo1-y", r#"["ENV-X"]"#), None);
    for name in ["poo1-y", "x-poo1", "x-poo-y", "x-poo1a-y", "x-poé1-y", "--poo1--"] {
        assert_eq!(workaround(name, r#"["workaround"]"#), None, "{name}");
    }
    assert_eq!(
        parse(r#"{"area":[{"width":1,"height":1}],"properties":["p"]}"#).property("p").unwrap().value,
        None
    );
}

#[test]
fn a_written_needle_has_openqas_keys_and_reads_the_same() {
    let needle = NeedleJson {
        areas: vec![
            parse(&with_area(PLACE)).areas.remove(0),
            parse(&with_area(&format!(
                r#"{PLACE}, "match": 90.5, "margin": 7, "click_point": {{"xpos": 1, "ypos": 2.5, "id": "i"}}"#
            )))
            .areas
            .remove(0),
        ],
        properties: vec![
            Property { name: "p".into(), value: None },
            Property { name: "workaround".into(), value: Some("bug".into()) },
        ],
        tags: vec!["a".into(), "b".into()],
        warnings: Vec::new(),
    };
    let text = needle.to_pretty();
    assert!(text.starts_with("{\n  \"area\": [\n    {\n      \"xpos\": 1,\n      \"ypos\": 2,\n      \"width\": 3,\n      \"height\": 4,\n      \"type\": \"match\"\n    },\n"), "{text}");
    assert!(text.contains("\"margin\": 7,\n      \"match\": 90.5,\n      \"click_point\": {\n        \"xpos\": 1,\n        \"ypos\": 2.5,\n        \"id\": \"i\""), "{text}");
    assert!(text.ends_with("\"tags\": [\n    \"a\",\n    \"b\"\n  ]\n}\n"), "{text}");
    assert_eq!(NeedleJson::parse("menu", text.as_bytes()).unwrap(), needle);
}

#[test]
fn a_bad_picture_names_its_file() {
    let json = with_area(PLACE);
    let message = |bytes: &[u8]| Needle::parse("menu", json.as_bytes(), bytes).unwrap_err().to_string();
    assert_eq!(message(b""), "menu.png: the file is empty; write the picture again");
    assert!(message(b"GIF89a").starts_with("menu.png: this is no PNG"));
    let good = png::encode(&Image::filled(9, 9, [1, 2, 3]));
    assert_eq!(message(&good[..good.len() / 2]), "menu.png: the PNG is cut off; copy or write it again");
    let needle = Needle::parse("menu", json.as_bytes(), &good).unwrap();
    assert_eq!(needle.image().unwrap(), Image::filled(9, 9, [1, 2, 3]));
    assert!(needle.has_tag("a") && !needle.has_tag("b"));
}

#[test]
fn too_much_area_is_refused() {
    let area = r#"{"width":8192,"height":4096}"#;
    let json = format!(r#"{{"area":[{}],"tags":["a"]}}"#, [area; 5].join(","));
    let picture = png::encode(&Image::filled(8192, 4096, [0; 3]));
    let message = Needle::parse("menu", json.as_bytes(), &picture).unwrap_err().to_string();
    assert!(message.contains("menu.json: its match areas cover 167772160 pixels"), "{message}");
}
