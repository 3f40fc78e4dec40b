//! Steps as cards and pictures with areas, for the job's page and the step's page.

use super::frame::{Badge, percent, percent_encoded, span};
use crate::record::{Module, step_subject, step_title};
use assay_records::step::{AreaHit, ModuleResult, NeedleHit, Picture, Step, StepBody, StepResult};

/// A rectangle over a picture, in its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Area {
    /// `ok`, `miss` or `exclude`: a class of the style sheet.
    pub(super) kind: &'static str,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
    pub(super) percent: String,
    /// `1: 97.2 %`
    pub(super) label: String,
    pub(super) label_x: u32,
    pub(super) label_y: u32,
}

impl Area {
    /// The areas of a needle as they were found on a picture of this size.
    pub(super) fn found(hit: &NeedleHit, shot: &Picture) -> Vec<Self> {
        hit.areas.iter().enumerate().map(|(index, area)| Self::new(index, area, shot)).collect()
    }

    fn new(index: usize, area: &AreaHit, shot: &Picture) -> Self {
        let percent = percent(area.similarity);
        // Above the area; below it where there is no room, and never beyond the right edge.
        let below = (area.y.saturating_add(area.h).saturating_add(28)).min(shot.height.saturating_sub(8));
        Self {
            kind: if area.ok { "ok" } else { "miss" },
            label: format!("{}: {percent}", index + 1),
            label_x: area.x.min(shot.width.saturating_sub(140)),
            label_y: if (34..shot.height).contains(&area.y) { area.y - 8 } else { below },
            percent,
            x: area.x,
            y: area.y,
            w: area.w,
            h: area.h,
        }
    }

    /// An area of a needle's own picture.
    pub(super) fn own(kind: &'static str, x: u32, y: u32, w: u32, h: u32) -> Self {
        Self { kind, x, y, w, h, percent: String::new(), label: String::new(), label_x: x, label_y: y }
    }
}

/// A picture with areas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shot {
    pub(super) sha256: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) areas: Vec<Area>,
}

/// What a card shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Face {
    Shot(Shot),
    Words { title: String, text: String },
}

/// A step as a thumbnail.
#[derive(Debug, Clone)]
pub(super) struct Card {
    /// Also the fragment under which the step is found: `step/boot/1`.
    pub(super) id: String,
    pub(super) href: String,
    pub(super) title: String,
    /// What it was about; the call itself where there is nothing else to say.
    pub(super) what: String,
    pub(super) call: String,
    pub(super) kind: &'static str,
    pub(super) face: Face,
    /// How well the best needle fits.
    pub(super) percent: Option<String>,
    /// Loaded with the page, not only when it is scrolled to.
    pub(super) eager: bool,
}

impl Card {
    pub(super) fn new(base: &str, query: &str, step: &Step) -> Self {
        Self {
            id: format!("step/{}/{}", step.module, step.number),
            href: href(base, query, &step.module, step.number),
            title: step_title(step),
            what: Some(step_subject(step))
                .filter(|what| !what.is_empty())
                .unwrap_or_else(|| step.call.clone()),
            call: step.call.clone(),
            kind: kind(step.result),
            percent: best(step).map(average),
            face: face(step),
            eager: false,
        }
    }

    pub(super) fn path(&self) -> &'static str {
        Badge::of(self.kind).path()
    }

    pub(super) fn kind_label(&self) -> &'static str {
        Badge::of(self.kind).label()
    }
}

/// The address of a step's page; `query` is empty or begins with `?`.
pub(super) fn href(base: &str, query: &str, module: &str, number: u32) -> String {
    format!("{base}/steps/{}/{number}{query}", percent_encoded(module))
}

/// The style sheet's word for a step's result.
pub(super) fn kind(result: StepResult) -> &'static str {
    match result {
        StepResult::Ok => "ok",
        StepResult::Unknown => "unknown",
        StepResult::Softfail => "softfail",
        StepResult::Fail => "fail",
    }
}

/// The needle that matched, or the one that came nearest.
pub(super) fn best(step: &Step) -> Option<&NeedleHit> {
    match &step.body {
        StepBody::Look { matched, candidates, .. } => matched.as_ref().or_else(|| candidates.first()),
        _ => None,
    }
}

/// openQA's average similarity of a candidate: `1 - √error`.
pub(super) fn average(hit: &NeedleHit) -> String {
    percent(1.0 - hit.error.max(0.0).sqrt())
}

fn face(step: &Step) -> Face {
    let shot = |picture: &Picture| {
        let areas = best(step).map(|hit| Area::found(hit, picture)).unwrap_or_default();
        Face::Shot(Shot {
            sha256: picture.sha256.clone(),
            width: picture.width,
            height: picture.height,
            areas,
        })
    };
    let words = |title: &str, text: &str| Face::Words { title: title.into(), text: start_of(text) };
    match (&step.body, &step.screenshot) {
        (StepBody::Look { .. } | StepBody::Screenshot, Some(picture)) => shot(picture),
        (StepBody::Look { tags, .. }, None) => words(&tags.join(" or "), "no picture"),
        (StepBody::Screenshot, None) => words("screenshot", "no picture"),
        (StepBody::Text { title, output }, _) => words(title, output),
        (StepBody::Serial { patterns, found, expect_not_found, .. }, _) => {
            let title = if *expect_not_found { "not on the serial line" } else { "on the serial line" };
            words(title, found.as_deref().unwrap_or(&patterns.join("\n")))
        }
    }
}

fn start_of(text: &str) -> String {
    text.lines()
        .take(12)
        .map(|line| line.chars().take(160).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A module with its cards.
#[derive(Debug)]
pub(super) struct ModuleView {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) flags: Vec<&'static str>,
    pub(super) badge: Badge,
    pub(super) took: String,
    pub(super) cards: Vec<Card>,
}

impl ModuleView {
    pub(super) fn new(base: &str, query: &str, module: &Module) -> Self {
        let flags = module.plan.flags;
        let named = [
            (flags.fatal, "fatal"),
            (flags.ignore_failure, "failure does not count"),
            (flags.always_run, "always runs"),
        ];
        Self {
            name: module.plan.name.clone(),
            file: module.plan.file.clone(),
            flags: named.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect(),
            badge: Badge::of(result_word(module.result)),
            took: match module.result {
                ModuleResult::Skipped | ModuleResult::None => String::new(),
                _ => module.duration_us.map(|us| span(us as i64)).unwrap_or_default(),
            },
            cards: module.steps.iter().map(|step| Card::new(base, query, step)).collect(),
        }
    }
}

/// Pictures that are loaded with the page; more than fit on most screens.
const EAGER: usize = 24;

/// The modules of a page; its first pictures are loaded at once.
pub(super) fn modules_of(base: &str, query: &str, modules: &[Module]) -> Vec<ModuleView> {
    let mut views: Vec<_> = modules.iter().map(|module| ModuleView::new(base, query, module)).collect();
    let cards = views.iter_mut().flat_map(|view| &mut view.cards);
    for card in cards.filter(|card| matches!(card.face, Face::Shot(_))).take(EAGER) {
        card.eager = true;
    }
    views
}

fn result_word(result: ModuleResult) -> &'static str {
    match result {
        ModuleResult::None => "none",
        ModuleResult::Running => "running",
        ModuleResult::Passed => "passed",
        ModuleResult::Softfailed => "softfailed",
        ModuleResult::Failed => "failed",
        ModuleResult::Skipped => "skipped",
        ModuleResult::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_records::step::{ModuleFlags, ModulePlan};

    #[test]
    fn the_first_pictures_are_loaded_with_the_page() {
        let step = |body, number| Step {
            module: "m".into(),
            number,
            at_us: 0,
            duration_us: 0,
            call: "c".into(),
            source: None,
            result: StepResult::Ok,
            screenshot: Some(Picture { sha256: String::new(), width: 4, height: 3 }),
            body,
        };
        let words = StepBody::Text { title: String::new(), output: String::new() };
        let mut steps = vec![step(words, 1)];
        steps.extend((2..=20).map(|number| step(StepBody::Screenshot, number)));
        let plan = ModulePlan { name: "m".into(), file: String::new(), flags: ModuleFlags::default() };
        let module =
            |steps| Module { plan: plan.clone(), result: ModuleResult::Passed, duration_us: None, steps };
        let views = modules_of("", "", &[module(steps.clone()), module(steps)]);
        let eager = |view: &ModuleView| view.cards.iter().filter(|card| card.eager).count();
        assert_eq!((eager(&views[0]), eager(&views[1])), (19, EAGER - 19), "words are no pictures");
    }

    #[test]
    fn labels_stay_within_the_picture() {
        let shot = Picture { sha256: String::new(), width: 1024, height: 768 };
        let area = |x, y, w, h| AreaHit { x, y, w, h, similarity: 0.5, ok: false };
        for hit in
            [area(0, 0, 1024, 768), area(1000, 760, 24, 8), area(u32::MAX, u32::MAX, u32::MAX, u32::MAX)]
        {
            let placed = Area::new(0, &hit, &shot);
            assert!(placed.label_x <= 1024 - 140, "{placed:?}");
            assert!((26..768).contains(&placed.label_y), "{placed:?}");
        }
        assert_eq!(Area::new(1, &area(10, 100, 5, 5), &shot).label, "2: 50 %");
    }
}
