//! Does a needle fit a scene, and where?
//!
//! The rules are os-autoinst's (`tinycv.pm`, `tinycv_impl.cc`), checked against its binary: see
//! `tests/oracle`. Colour does not count, only gray; areas move within their search window, each by itself.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::Serialize;

use crate::gray::{BlurredSoFar, Plane, Rounding};
use crate::needle::Needle;
use crate::needle_json::{Area, ClickPoint};
use crate::rect::Rect;
use crate::scene::Scene;
use crate::search::Template;

/// How far beyond its margin an area is searched: 0 not at all, 1 everywhere on a usual screen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchRatio(f64);

impl SearchRatio {
    /// The margin alone.
    pub const MARGIN: SearchRatio = SearchRatio(0.0);
    /// What a waiting test uses: a margin of 50 pixels becomes 69.
    pub const NORMAL: SearchRatio = SearchRatio(0.02);
    /// 1024 pixels all round.
    pub const FULL: SearchRatio = SearchRatio(1.0);

    /// `ratio` cut to 0..=1.
    pub fn new(ratio: f64) -> SearchRatio {
        SearchRatio(if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) })
    }

    /// The margin in pixels that comes out: `margin + ratio * (1024 - margin)`, without the fraction.
    pub fn margin(self, margin: u32) -> u32 {
        let margin = f64::from(margin);
        (margin + self.0 * (1024.0 - margin)) as u32
    }
}

/// How well a needle fits a scene. Serialized it is what `assay needle match --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedleMatch {
    /// Name of the needle.
    #[serde(skip)]
    pub needle: Arc<str>,
    /// Whether the needle is a workaround.
    #[serde(skip)]
    pub workaround: bool,
    /// Every area reaches its level.
    pub matched: bool,
    /// Mean of `(1 - similarity)^2` over the areas: 0 perfect, 1 nothing alike.
    pub error: f64,
    /// The match areas, in the order of the file.
    pub areas: Vec<AreaMatch>,
}

/// Where an area fits best, in pixels of the scene.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AreaMatch {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// 0 to 1.
    pub similarity: f64,
    /// Reaches the area's match level.
    pub ok: bool,
    /// Where to click, if the needle says so for this area.
    #[serde(skip)]
    pub click_point: Option<ClickAt>,
}

/// A place to click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickAt {
    /// Pixels from the left of the scene.
    pub x: u32,
    /// Pixels from the top of the scene.
    pub y: u32,
    /// Tells several click points of a needle apart.
    pub id: Option<String>,
}

impl NeedleMatch {
    /// Where a click on the needle goes: at its click point of that id, at its (first) click point if no id
    /// is asked for, or in the middle of its last area if it has none. `None` if there is no such id.
    pub fn click_point(&self, id: Option<&str>) -> Option<(u32, u32)> {
        let points = || self.areas.iter().filter_map(|area| area.click_point.as_ref());
        if let Some(id) = id {
            return points().find(|point| point.id.as_deref() == Some(id)).map(|point| (point.x, point.y));
        }
        let middle = |area: &AreaMatch| (area.x + area.w / 2, area.y + area.h / 2);
        points().next().map(|point| (point.x, point.y)).or_else(|| self.areas.last().map(middle))
    }
}

/// Something that matches needles. All implementations give the same verdicts, places and similarities.
pub trait Matcher {
    /// Matches all areas of `needle` against `scene`.
    fn match_needle(&self, scene: &Scene, needle: &Needle, search: SearchRatio) -> NeedleMatch;

    /// The match if `needle` matches, else `None`, which is found much faster than how nearly it would have.
    /// For waiting: most frames do not fit.
    fn matches(&self, scene: &Scene, needle: &Needle, search: SearchRatio) -> Option<NeedleMatch> {
        Some(self.match_needle(scene, needle, search)).filter(|found| found.matched)
    }
}

/// The matcher that follows the definition: every place in the window counts, in order.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceMatcher;

impl Matcher for ReferenceMatcher {
    fn match_needle(&self, scene: &Scene, needle: &Needle, search: SearchRatio) -> NeedleMatch {
        let mut look = Look::new(scene, needle, search);
        let areas = needle.match_areas().map(|(area, template)| look.match_area(area, template));
        summary(needle, areas.collect())
    }

    fn matches(&self, scene: &Scene, needle: &Needle, search: SearchRatio) -> Option<NeedleMatch> {
        let mut look = Look::new(scene, needle, search);
        let mut areas = Vec::new();
        for (area, template) in needle.match_areas() {
            areas.push(look.match_area_if(area, template)?);
        }
        Some(summary(needle, areas)).filter(|found| found.matched)
    }
}

fn summary(needle: &Needle, areas: Vec<AreaMatch>) -> NeedleMatch {
    let count = areas.len() as f64;
    let squares: f64 = areas.iter().map(|area| (1.0 - area.similarity).powi(2)).sum();
    NeedleMatch {
        needle: Arc::clone(&needle.name),
        workaround: needle.is_workaround(),
        // A needle that looks at nothing must not match everything.
        matched: !areas.is_empty() && areas.iter().all(|area| area.ok),
        error: if areas.is_empty() { 1.0 } else { squares / count },
        areas,
    }
}

/// One look at a scene for one needle.
struct Look<'a> {
    scene: &'a Scene,
    needle: &'a Needle,
    hidden: Vec<Rect>,
    /// Of the scene. Each needle starts anew, so that its verdict does not depend on those matched before it.
    so_far: BlurredSoFar,
    search: SearchRatio,
}

/// An area that did not reach its level, and what is needed to find out where it fits best.
struct Miss {
    plane: Plane,
    window: Rect,
}

impl<'a> Look<'a> {
    fn new(scene: &'a Scene, needle: &'a Needle, search: SearchRatio) -> Look<'a> {
        let so_far = BlurredSoFar::nothing(scene.image().bounds());
        Look { scene, needle, hidden: needle.excluded(), so_far, search }
    }

    /// Where an area is expected: in a scene of another size than the needle's picture its position moves with
    /// the size, but it does not grow. (os-autoinst does so since 2025.)
    fn place(&self, area: &Area) -> Rect {
        let (image, needle) = (self.scene.image(), self.needle);
        Rect {
            x: scaled(area.rect.x, image.width(), needle.width),
            y: scaled(area.rect.y, image.height(), needle.height),
            ..area.rect
        }
    }

    fn match_area(&mut self, area: &Area, template: Option<&Template>) -> AreaMatch {
        let place = self.place(area);
        let Some(template) = template.filter(|_| self.scene.image().bounds().contains(place)) else {
            return area_match(area, place, (place.x, place.y), 0.0);
        };
        self.find(area, template, place).unwrap_or_else(|Miss { plane, window }| {
            let (x, y, squares) = template.search(&plane, window, place, u64::MAX);
            area_match(area, place, (x, y), similarity(squares, place.pixels()))
        })
    }

    /// As `match_area`, but `None` when it is sure that the area does not reach its level.
    fn match_area_if(&mut self, area: &Area, template: Option<&Template>) -> Option<AreaMatch> {
        let place = self.place(area);
        let template = template.filter(|_| self.scene.image().bounds().contains(place))?;
        self.find(area, template, place).ok()
    }

    fn find(&mut self, area: &Area, template: &Template, place: Rect) -> Result<AreaMatch, Miss> {
        let window = place.grown(self.search.margin(area.margin()), self.scene.image().bounds());
        let rounding = self.so_far.add(window);
        // Most looks at a screen that fits find everything in place: that costs only the area itself.
        if template.distance(&self.blurred(place, rounding), place.x, place.y) == 0 {
            return Ok(area_match(area, place, (place.x, place.y), 1.0));
        }
        let plane = self.blurred(window, rounding);
        let Some(known) = template.within(&plane, window, most_squares(area.level(), place.pixels())) else {
            return Err(Miss { plane, window });
        };
        let (x, y, squares) = template.search(&plane, window, place, known);
        Ok(area_match(area, place, (x, y), similarity(squares, place.pixels())))
    }

    fn blurred(&self, rect: Rect, rounding: Rounding) -> Plane {
        let ring = rect.grown(1, self.scene.image().bounds());
        let gray = self.scene.gray(ring);
        if self.hidden.is_empty() {
            return Plane::blurred(&gray, rect, rounding);
        }
        Plane::blurred(&gray.hiding(ring, &self.hidden), rect, rounding)
    }
}

fn area_match(area: &Area, place: Rect, (x, y): (u32, u32), similarity: f64) -> AreaMatch {
    AreaMatch {
        x,
        y,
        w: place.w,
        h: place.h,
        similarity,
        ok: similarity >= area.level(),
        click_point: area.click_point.as_ref().map(|point| click_at(point, Rect { x, y, ..place })),
    }
}

/// A coordinate of the needle's picture, in a scene of another size.
fn scaled(at: u32, scene: u32, needle: u32) -> u32 {
    (u64::from(at) * u64::from(scene) / u64::from(needle)) as u32
}

/// Similarity 1 up to a mean square error of 2, 0.96 at 17.2, 0.9 at 40, 0 from 382 on.
fn similarity(squares: u64, pixels: u64) -> f64 {
    let mean = squares as f64 / pixels as f64;
    (0.9 + (40.0 - mean) / 380.0).clamp(0.0, 1.0)
}

/// No fewer than the most squares with which `pixels` reach `level`.
fn most_squares(level: f64, pixels: u64) -> u64 {
    let mean = 40.0 - 380.0 * (level - 0.9);
    (mean * pixels as f64 * (1.0 + 1e-9)) as u64 + 1
}

fn click_at(point: &ClickPoint, area: Rect) -> ClickAt {
    let (x, y, id) = match point {
        ClickPoint::Center => (f64::from(area.w) / 2.0, f64::from(area.h) / 2.0, None),
        ClickPoint::At { x, y, id } => (*x, *y, id.clone()),
    };
    // The casts cut at 0 and at the largest coordinate.
    ClickAt { x: (f64::from(area.x) + x) as u32, y: (f64::from(area.y) + y) as u32, id }
}

/// The best match and the rest, both in order: matched before missed, then the smaller error, then
/// workarounds, then the name. The best is `None` if nothing matched; then all are candidates.
pub fn best_of(mut matches: Vec<NeedleMatch>) -> (Option<NeedleMatch>, Vec<NeedleMatch>) {
    matches.sort_by(order);
    if matches.first().is_some_and(|first| first.matched) {
        let rest = matches.split_off(1);
        return (matches.pop(), rest);
    }
    (None, matches)
}

fn order(a: &NeedleMatch, b: &NeedleMatch) -> Ordering {
    b.matched
        .cmp(&a.matched)
        .then(a.error.total_cmp(&b.error))
        .then(b.workaround.cmp(&a.workaround))
        .then_with(|| a.needle.cmp(&b.needle))
}
