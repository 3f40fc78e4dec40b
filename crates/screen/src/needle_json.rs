//! A needle's JSON file: openQA's format, its defaults and its tolerance.
//!
//! Format and defaults: os-autoinst's `needle.pm` and openQA's documentation. As there, a `match` or `margin`
//! of 0 means the default, and keys that nobody knows are let through (reported as warnings).

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rect::Rect;

/// Match level, percent, of an area that names none.
pub const DEFAULT_MATCH: f64 = 96.0;

/// Pixels around an area that are searched if it names no margin.
pub const DEFAULT_MARGIN: u32 = 50;

/// No needle has more areas; more would only cost time.
const MAX_AREAS: usize = 100;

/// Coordinates and sizes beyond this are mistakes.
const MAX_COORDINATE: f64 = 65_535.0;

/// What a needle's JSON says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedleJson {
    /// What is compared, left out or read.
    #[serde(rename = "area")]
    pub areas: Vec<Area>,
    /// Such as `workaround`.
    pub properties: Vec<Property>,
    /// What tests ask for.
    pub tags: Vec<String>,
    /// What is odd but does no harm, each a sentence that names the file.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// One rectangle of a needle.
#[derive(Debug, Clone, PartialEq)]
pub struct Area {
    /// Where, in pixels of the needle's picture. Never empty.
    pub rect: Rect,
    /// What it is for.
    pub kind: AreaKind,
    /// Percent, above 0 to 100, if the file says so; see [`Area::level`].
    pub match_percent: Option<f64>,
    /// Pixels, if the file says so; see [`Area::margin`].
    pub margin_pixels: Option<u32>,
    /// Where to click once it is found.
    pub click_point: Option<ClickPoint>,
}

impl Area {
    /// The similarity it must reach, 0 to 1.
    pub fn level(&self) -> f64 {
        self.match_percent.unwrap_or(DEFAULT_MATCH) / 100.0
    }

    /// How far around its place it is looked for, pixels.
    pub fn margin(&self) -> u32 {
        self.margin_pixels.unwrap_or(DEFAULT_MARGIN)
    }
}

/// What an area is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AreaKind {
    /// Must look like this.
    Match,
    /// May look like anything.
    Exclude,
    /// Text to be read; never decides.
    Ocr,
    /// Not known to openQA, which takes no notice of it.
    Unknown(String),
}

impl AreaKind {
    /// The word in the file.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Match => "match",
            Self::Exclude => "exclude",
            Self::Ocr => "ocr",
            Self::Unknown(word) => word,
        }
    }
}

/// Where to click in an area.
#[derive(Debug, Clone, PartialEq)]
pub enum ClickPoint {
    /// In its middle.
    Center,
    /// At a place in it.
    At {
        /// Pixels from the area's left edge.
        x: f64,
        /// Pixels from the area's upper edge.
        y: f64,
        /// Tells several click points apart.
        id: Option<String>,
    },
}

/// A property of a needle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// For example `workaround`.
    pub name: String,
    /// For example the bug it works around.
    pub value: Option<String>,
}

/// A needle's JSON that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct NeedleJsonError {
    /// The needle's name and `.json`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1; 0 at the end of an empty line.
    pub column: usize,
    /// What was expected, and what to do.
    pub message: String,
}

impl NeedleJson {
    /// Reads the bytes of `NAME.json`.
    pub fn parse(name: &str, json: &[u8]) -> Result<NeedleJson, NeedleJsonError> {
        let file = format!("{name}.json");
        let raw: RawNeedle =
            serde_json::from_slice(json).map_err(|error| json_error(file.clone(), json, &error))?;
        let mut warnings = unknown_keys(json);
        let mut tags: Vec<String> = Vec::new();
        for tag in raw.tags.unwrap_or_default() {
            if tags.contains(&tag) {
                warnings.push(format!("tag `{tag}` is given twice"));
            } else {
                tags.push(tag);
            }
        }
        if tags.is_empty() {
            warnings.push("it has no tags, so no test can ask for it; add some".into());
        }
        for (index, area) in raw.area.iter().enumerate() {
            if let AreaKind::Unknown(word) = &area.kind {
                warnings.push(format!(
                    "area {}: type `{word}` is unknown and the area without effect; use match, exclude or ocr",
                    index + 1
                ));
            }
        }
        if raw.area.iter().all(|area| area.kind != AreaKind::Match) {
            warnings.push(
                "it has only ocr areas, which never decide: it can never match; add a match area".into(),
            );
        }
        for warning in &mut warnings {
            *warning = format!("{file}: {warning}");
        }
        Ok(NeedleJson { areas: raw.area, properties: raw.properties.unwrap_or_default(), tags, warnings })
    }

    /// The text of the file: openQA's keys in openQA's order, two spaces a level, a newline at the end.
    pub fn to_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("all keys are strings, all numbers finite");
        text.push('\n');
        text
    }

    /// The property of that name.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }
}

fn json_error(file: String, json: &[u8], error: &serde_json::Error) -> NeedleJsonError {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let what = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    let message = match error.classify() {
        serde_json::error::Category::Data => what.to_owned(),
        serde_json::error::Category::Eof => format!("{what}; the file is cut off, copy or write it again"),
        _ => format!("{what}; correct the JSON there"),
    };
    let (line, column) = if line == 0 { area_key(json) } else { (line, column) };
    NeedleJsonError { file, line, column, message }
}

/// Line and column of the key `area`, or of the beginning: where to look for what is wrong with the whole.
fn area_key(json: &[u8]) -> (usize, usize) {
    let key = b"\"area\"";
    let before = json.windows(key.len()).position(|window| window == key).map_or(&[][..], |at| &json[..at]);
    let lines: Vec<&[u8]> = before.split(|&byte| byte == b'\n').collect();
    (lines.len(), 1 + lines.last().map_or(0, |line| line.len()))
}

/// A second look at JSON that is known to be good, for keys that the first look passes over.
fn unknown_keys(json: &[u8]) -> Vec<String> {
    const NEEDLE: &[&str] = &["area", "properties", "tags"];
    const AREA: &[&str] = &[
        "xpos",
        "ypos",
        "width",
        "height",
        "type",
        "margin",
        "match",
        "click_point",
        // Read and never used by openQA.
        "max_offset",
        "processing_flags",
    ];
    let Ok(serde_json::Value::Object(needle)) = serde_json::from_slice(json) else { return Vec::new() };
    let unknown = |keys: &serde_json::Map<String, serde_json::Value>, known: &[&str], place: &str| {
        let odd = keys.keys().filter(|key| !known.contains(&key.as_str()));
        odd.map(|key| format!("{place}key `{key}` is unknown and without effect")).collect::<Vec<_>>()
    };
    let mut warnings = unknown(&needle, NEEDLE, "");
    let areas = needle.get("area").and_then(serde_json::Value::as_array);
    for (index, area) in areas.into_iter().flatten().enumerate() {
        if let Some(keys) = area.as_object() {
            warnings.extend(unknown(keys, AREA, &format!("area {}: ", index + 1)));
        }
    }
    warnings
}

#[derive(Deserialize)]
#[serde(try_from = "UncheckedNeedle")]
struct RawNeedle {
    area: Vec<Area>,
    properties: Option<Vec<Property>>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a needle: an object with the keys area, properties and tags")]
struct UncheckedNeedle {
    area: Option<Vec<Area>>,
    properties: Option<Vec<Property>>,
    tags: Option<Vec<String>>,
}

impl TryFrom<UncheckedNeedle> for RawNeedle {
    type Error = String;

    fn try_from(raw: UncheckedNeedle) -> Result<Self, String> {
        let area = raw.area.unwrap_or_default();
        if area.len() > MAX_AREAS {
            return Err(format!("{} areas, expected at most {MAX_AREAS}; split the needle", area.len()));
        }
        if !area.iter().any(|area| matches!(area.kind, AreaKind::Match | AreaKind::Ocr)) {
            return Err("no area of type match or ocr, expected at least one; add a match area".into());
        }
        let clicks = || area.iter().filter_map(|area| area.click_point.as_ref());
        let nameless = clicks().any(|click| !matches!(click, ClickPoint::At { id: Some(_), .. }));
        if clicks().count() > 1 && nameless {
            return Err(
                "more than one click_point, expected one or an `id` in each; remove some or name them".into(),
            );
        }
        Ok(Self { area, properties: raw.properties, tags: raw.tags })
    }
}

#[derive(Deserialize)]
struct UncheckedArea {
    xpos: Option<Number>,
    ypos: Option<Number>,
    width: Option<Number>,
    height: Option<Number>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "match")]
    match_percent: Option<Number>,
    margin: Option<Number>,
    click_point: Option<ClickPoint>,
}

impl<'de> Deserialize<'de> for Area {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Checks while the parser still stands at the end of the area, so that errors point there.
        struct AreaVisitor;
        impl<'de> Visitor<'de> for AreaVisitor {
            type Value = Area;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an area: an object with the keys xpos, ypos, width and height")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Area, A::Error> {
                Area::check(UncheckedArea::deserialize(MapAccessDeserializer::new(map))?)
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(AreaVisitor)
    }
}

impl Area {
    fn check(raw: UncheckedArea) -> Result<Area, String> {
        let number = |key: &str, value: Option<Number>, least: f64, most: f64| {
            let value = value.map_or(0.0, |number| number.0);
            if (least..=most).contains(&value) {
                return Ok(value);
            }
            Err(format!(
                "`{key}` of the area ending here is {value}, expected {least} to {most}; draw the area again"
            ))
        };
        let rect = Rect {
            x: number("xpos", raw.xpos, 0.0, MAX_COORDINATE)? as u32,
            y: number("ypos", raw.ypos, 0.0, MAX_COORDINATE)? as u32,
            w: number("width", raw.width, 1.0, MAX_COORDINATE)? as u32,
            h: number("height", raw.height, 1.0, MAX_COORDINATE)? as u32,
        };
        let match_percent = number("match", raw.match_percent, 0.0, 100.0)?;
        let margin = number("margin", raw.margin, 0.0, MAX_COORDINATE)? as u32;
        let kind = match raw.kind.as_deref() {
            None | Some("" | "match") => AreaKind::Match,
            Some("exclude") => AreaKind::Exclude,
            Some("ocr") => AreaKind::Ocr,
            Some(other) => AreaKind::Unknown(other.to_owned()),
        };
        Ok(Area {
            rect,
            kind,
            match_percent: (match_percent > 0.0).then_some(match_percent),
            margin_pixels: (margin > 0).then_some(margin),
            click_point: raw.click_point,
        })
    }
}

/// A number as needles have them: an integer, a float, or either in quotes.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl<'de> Visitor<'de> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Number, E> {
                let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                number.map(Number).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
            }

            /// How serde_json hands out floats if another crate turned on its `arbitrary_precision`.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Number, A::Error> {
                let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map)).ok();
                let number = number.and_then(|number| number.as_f64()).filter(|number| number.is_finite());
                number.map(Number).ok_or_else(|| A::Error::invalid_type(Unexpected::Map, &self))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl<'de> Deserialize<'de> for ClickPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Place {
            xpos: Number,
            ypos: Number,
            id: Option<String>,
        }
        struct ClickVisitor;
        impl<'de> Visitor<'de> for ClickVisitor {
            type Value = ClickPoint;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a click point: \"center\" or an object with xpos and ypos in the area")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<ClickPoint, E> {
                match value {
                    "center" => Ok(ClickPoint::Center),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClickPoint, A::Error> {
                let place = Place::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ClickPoint::At { x: place.xpos.0, y: place.ypos.0, id: place.id })
            }
        }
        deserializer.deserialize_any(ClickVisitor)
    }
}

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            value: Option<String>,
        }
        struct PropertyVisitor;
        impl<'de> Visitor<'de> for PropertyVisitor {
            type Value = Property;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a property: a string or an object with name and value")
            }

            fn visit_str<E>(self, value: &str) -> Result<Property, E> {
                Ok(Property { name: value.to_owned(), value: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Property, A::Error> {
                let Named { name, value } = Named::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Property { name, value })
            }
        }
        deserializer.deserialize_any(PropertyVisitor)
    }
}

/// Writes whole numbers without a fraction, as openQA does.
struct Plain(f64);

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl Serialize for Area {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            xpos: u32,
            ypos: u32,
            width: u32,
            height: u32,
            #[serde(rename = "type")]
            kind: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            margin: Option<u32>,
            #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
            match_percent: Option<Plain>,
            #[serde(skip_serializing_if = "Option::is_none")]
            click_point: Option<&'a ClickPoint>,
        }
        let Rect { x: xpos, y: ypos, w: width, h: height } = self.rect;
        let written = Written {
            xpos,
            ypos,
            width,
            height,
            kind: self.kind.as_str(),
            margin: self.margin_pixels,
            match_percent: self.match_percent.map(Plain),
            click_point: self.click_point.as_ref(),
        };
        written.serialize(serializer)
    }
}

impl Serialize for ClickPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Place<'a> {
            xpos: Plain,
            ypos: Plain,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
        }
        match self {
            Self::Center => serializer.serialize_str("center"),
            Self::At { x, y, id } => {
                Place { xpos: Plain(*x), ypos: Plain(*y), id: id.as_deref() }.serialize(serializer)
            }
        }
    }
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
            value: &'a str,
        }
        match &self.value {
            None => serializer.serialize_str(&self.name),
            Some(value) => Named { name: &self.name, value }.serialize(serializer),
        }
    }
}
