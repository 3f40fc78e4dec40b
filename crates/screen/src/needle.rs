//! A needle: its JSON and its picture together, ready to be matched.

use std::sync::Arc;

use crate::gray::{BlurredSoFar, Gray, Plane};
use crate::image::Image;
use crate::needle_json::{Area, AreaKind, NeedleJson, NeedleJsonError, Property};
use crate::png::{self, ImageError};
use crate::rect::Rect;
use crate::search::Template;

/// The match areas of one needle may cover this many pixels together; a real one covers less than a screen.
const MAX_AREA_PIXELS: u64 = 128 << 20;

/// A needle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NeedleError {
    /// Its JSON.
    #[error(transparent)]
    Json(#[from] NeedleJsonError),
    /// Its picture.
    #[error("{file}: {source}")]
    Png {
        /// The needle's name and `.png`.
        file: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// Its areas are too much work.
    #[error(
        "{file}: its match areas cover {pixels} pixels, more than the {MAX_AREA_PIXELS} allowed; draw fewer or smaller ones"
    )]
    AreasTooLarge {
        /// The needle's name and `.json`.
        file: String,
        /// All match areas together.
        pixels: u64,
    },
}

/// A needle.
#[derive(Debug)]
pub struct Needle {
    /// The file name without `.json`.
    pub name: Arc<str>,
    /// All areas in the order of the file.
    pub areas: Vec<Area>,
    /// What tests ask for.
    pub tags: Vec<String>,
    /// Such as `workaround`.
    pub properties: Vec<Property>,
    /// What is odd but does no harm, each a sentence that names the file.
    pub warnings: Vec<String>,
    /// The bytes of the JSON file.
    pub json: Arc<[u8]>,
    /// The bytes of the PNG file.
    pub png: Arc<[u8]>,
    /// Width of the picture, pixels.
    pub width: u32,
    /// Height of the picture, pixels.
    pub height: u32,
    /// One for each area: what is looked for, if it is a match area inside the picture.
    templates: Vec<Option<Template>>,
}

impl Needle {
    /// Puts together the bytes of `NAME.json` and `NAME.png`.
    pub fn parse(name: &str, json: &[u8], png: &[u8]) -> Result<Needle, NeedleError> {
        let parsed = NeedleJson::parse(name, json)?;
        let image =
            png::decode(png).map_err(|source| NeedleError::Png { file: format!("{name}.png"), source })?;
        let mut warnings = parsed.warnings;
        for (index, area) in parsed.areas.iter().enumerate() {
            if !image.bounds().contains(area.rect) {
                let Rect { x, y, w, h } = area.rect;
                let consequence = match area.kind {
                    AreaKind::Match => "so it never matches; draw it again",
                    _ => "so it has no effect; draw it again",
                };
                warnings.push(format!(
                    "{name}.json: area {} ({w}x{h} at {x},{y}) sticks out of the {}x{} picture, {consequence}",
                    index + 1,
                    image.width(),
                    image.height()
                ));
            }
        }
        let templates = templates(name, &parsed.areas, &image)?;
        Ok(Needle {
            name: name.into(),
            areas: parsed.areas,
            tags: parsed.tags,
            properties: parsed.properties,
            warnings,
            json: json.into(),
            png: png.into(),
            width: image.width(),
            height: image.height(),
            templates,
        })
    }

    /// Its picture, decoded anew: needles are many, so only the compressed bytes are kept.
    pub fn image(&self) -> Result<Image, ImageError> {
        png::decode(&self.png)
    }

    /// Whether it has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// Whether a test that matches it only soft-fails.
    pub fn is_workaround(&self) -> bool {
        self.properties.iter().any(|property| property.name == "workaround")
    }

    /// What it works around, if it is a workaround: the property's value or the bug that the file name
    /// mentions as `-bsc123-` (also boo, bnc, poo), then written `bsc#123`.
    pub fn workaround(&self) -> Option<String> {
        if !self.is_workaround() {
            return None;
        }
        let mut named = self.properties.iter().filter(|property| property.name == "workaround");
        named.find_map(|property| property.value.clone()).or_else(|| bug_in_name(&self.name))
    }

    /// The areas that decide, each with what is looked for; `None` if it sticks out of the picture.
    pub(crate) fn match_areas(&self) -> impl Iterator<Item = (&Area, Option<&Template>)> {
        let areas = self.areas.iter().zip(&self.templates);
        areas
            .filter(|(area, _)| area.kind == AreaKind::Match)
            .map(|(area, template)| (area, template.as_ref()))
    }

    /// The rectangles that may look like anything.
    pub(crate) fn excluded(&self) -> Vec<Rect> {
        excluded(&self.areas)
    }
}

fn excluded(areas: &[Area]) -> Vec<Rect> {
    areas.iter().filter(|area| area.kind == AreaKind::Exclude).map(|area| area.rect).collect()
}

fn templates(name: &str, areas: &[Area], image: &Image) -> Result<Vec<Option<Template>>, NeedleError> {
    let usable = |area: &Area| area.kind == AreaKind::Match && image.bounds().contains(area.rect);
    let pixels = areas.iter().filter(|area| usable(area)).map(|area| area.rect.pixels()).sum();
    if pixels > MAX_AREA_PIXELS {
        return Err(NeedleError::AreasTooLarge { file: format!("{name}.json"), pixels });
    }
    let hidden = excluded(areas);
    let mut so_far = BlurredSoFar::nothing(image.bounds());
    let mut template = |rect: Rect| {
        let rounding = so_far.add(rect);
        let ring = rect.grown(1, image.bounds());
        let gray = Gray::of(image, ring).hiding(ring, &hidden);
        Template::new(Plane::blurred(&gray, rect, rounding))
    };
    Ok(areas.iter().map(|area| usable(area).then(|| template(area.rect))).collect())
}

/// The bug in a name such as `installer-bsc1037891-20170508`: a tracker, digits, between dashes, with
/// something before and after. As upstream the last such place counts.
fn bug_in_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('-').collect();
    let inner = 1..parts.len().saturating_sub(1);
    inner.rev().find_map(|index| {
        let (tracker, number) = parts[index].split_at_checked(3)?;
        let known = matches!(tracker, "bsc" | "poo" | "bnc" | "boo");
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let surrounded = parts[..index].iter().any(|part| !part.is_empty())
            && parts[index + 1..].iter().any(|part| !part.is_empty());
        (known && digits && surrounded).then(|| format!("{tracker}#{number}"))
    })
}
