//! `/jobs/{id}/steps/{module}/{number}`: one step in full.

use super::cards::{self, Area, Shot, average, best};
use super::frame::{Badge, Frame, percent_encoded, plain_text, span};
use super::job::{chosen, run_of};
use crate::api;
use crate::app::App;
use crate::fault::Fault;
use crate::record::step_title;
use askama::Template;
use assay_engine::ids::JobId;
use assay_records::step::{NeedleHit, Step, StepBody};
use assay_store::blobs::Sha256;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// The largest needle description that is read for its areas.
const MAX_NEEDLE: u64 = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
pub(super) struct StepQuery {
    pub(super) attempt: Option<u32>,
    /// Which candidate to draw, from 0; the best one if not given.
    needle: Option<usize>,
}

struct Candidate {
    href: String,
    current: bool,
    percent: String,
    name: String,
    tags: String,
}

#[derive(Template)]
#[template(path = "step.html")]
struct StepPage {
    frame: Frame,
    job_id: JobId,
    job_name: String,
    job_href: String,
    module: String,
    number: u32,
    title: String,
    badge: Badge,
    previous: Option<String>,
    next: Option<String>,
    shot: Option<Shot>,
    needle_picture: Option<Shot>,
    text: Option<String>,
    facts: Vec<(&'static str, String)>,
    candidates_title: &'static str,
    candidates: Vec<Candidate>,
    areas: Vec<Area>,
    note: Option<&'static str>,
    /// Where a needle is made of the picture.
    edit: Option<String>,
}

/// `GET /jobs/{id}/steps/{module}/{number}`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path((id, module, number)): Path<(String, String, String)>,
    Query(query): Query<StepQuery>,
) -> Response {
    let rendered = build(&app, &id, &module, &number, &query).await;
    super::page(&app, rendered)
}

async fn build(
    app: &App,
    id: &str,
    module: &str,
    number: &str,
    query: &StepQuery,
) -> Result<StepPage, Fault> {
    let id = api::job_id(id)?;
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let attempts = app.store.attempts(id).await?;
    let choice = super::job::JobQuery { attempt: query.attempt };
    let missing = || {
        Fault::not_found(
            format!("There is no step {number} of {module}."),
            "See the job's page for its steps.",
        )
    };
    let attempt = chosen(&attempts, &choice)?.ok_or_else(missing)?;
    let run = run_of(app, &attempt).await?;
    let steps: Vec<&Step> = run.steps().collect();
    let wanted: u32 = number.parse().map_err(|_| missing())?;
    let at =
        steps.iter().position(|step| step.module == module && step.number == wanted).ok_or_else(missing)?;
    let step = steps[at];

    let base = format!("/jobs/{id}");
    let suffix = choice.suffix();
    let neighbour = |at: Option<usize>| {
        let step = steps.get(at?)?;
        Some(cards::href(&base, &suffix, &step.module, step.number))
    };
    let here = cards::href(&base, "", module, wanted);
    let needles = needles_of(step);
    let drawn = match query.needle {
        Some(index) => needles.get(index).copied(),
        None => best(step),
    };
    let shot = step.screenshot.as_ref().map(|picture| Shot {
        sha256: picture.sha256.clone(),
        width: picture.width,
        height: picture.height,
        areas: drawn.map(|hit| Area::found(hit, picture)).unwrap_or_default(),
    });
    let needle_picture = match drawn {
        Some(hit) => needle_picture(app, hit).await,
        None => None,
    };
    let matched = matches!(&step.body, StepBody::Look { matched: Some(_), .. });
    let candidate = |(index, hit): (usize, &&NeedleHit)| Candidate {
        href: match query.attempt {
            Some(attempt) => format!("{here}?attempt={attempt}&needle={index}"),
            None => format!("{here}?needle={index}"),
        },
        current: drawn.is_some_and(|drawn| std::ptr::eq(drawn, *hit)),
        percent: average(hit),
        name: if matched && index == 0 { format!("{} (matched)", hit.name) } else { hit.name.clone() },
        tags: hit.tags.join(", "),
    };
    Ok(StepPage {
        frame: Frame::new(app.clock.now()),
        job_id: id,
        job_name: job.row.name.clone(),
        job_href: format!("{base}{suffix}#step/{}/{wanted}", percent_encoded(module)),
        module: module.into(),
        number: wanted,
        title: step_title(step),
        badge: Badge::of(cards::kind(step.result)),
        previous: neighbour(at.checked_sub(1)),
        next: neighbour(Some(at + 1)),
        edit: shot.is_some().then(|| format!("{}/edit{suffix}", cards::href(&base, "", module, wanted))),
        note: note(step, drawn, needle_picture.is_some()),
        areas: shot.as_ref().map(|shot| shot.areas.clone()).unwrap_or_default(),
        shot,
        needle_picture,
        text: text_of(step),
        facts: facts_of(step),
        candidates_title: if matched { "Needles" } else { "Best candidates" },
        candidates: needles.iter().enumerate().map(candidate).collect(),
    })
}

/// The matched needle first, then the others.
fn needles_of(step: &Step) -> Vec<&NeedleHit> {
    match &step.body {
        StepBody::Look { matched, candidates, .. } => matched.iter().chain(candidates).collect(),
        _ => Vec::new(),
    }
}

fn note(step: &Step, drawn: Option<&NeedleHit>, pictured: bool) -> Option<&'static str> {
    match (&step.body, drawn) {
        (StepBody::Look { .. }, None) => Some("No needle carries these tags."),
        (StepBody::Look { .. }, Some(_)) if !pictured => Some("The needle's picture was not kept."),
        _ => None,
    }
}

fn text_of(step: &Step) -> Option<String> {
    match &step.body {
        StepBody::Look { .. } | StepBody::Screenshot => None,
        StepBody::Text { output, .. } => Some(plain_text(output.as_bytes())).filter(|text| !text.is_empty()),
        StepBody::Serial { found, .. } => {
            Some(found.as_ref().map_or_else(|| "(not found)".into(), |found| plain_text(found.as_bytes())))
        }
    }
}

fn facts_of(step: &Step) -> Vec<(&'static str, String)> {
    let mut facts = vec![("call", step.call.clone())];
    if let Some(source) = &step.source {
        facts.push(("source", format!("{}:{}", source.file, source.line)));
    }
    match &step.body {
        StepBody::Look { tags, timeout_s, .. } => {
            facts.push(("tags", tags.join(" or ")));
            facts.push(("timeout", format!("{timeout_s} s")));
        }
        StepBody::Serial { patterns, timeout_s, expect_not_found, .. } => {
            facts
                .push((if *expect_not_found { "must not come" } else { "waits for" }, patterns.join(" or ")));
            facts.push(("timeout", format!("{timeout_s} s")));
        }
        StepBody::Text { title, .. } => facts.push(("title", title.clone())),
        StepBody::Screenshot => {}
    }
    facts.push(("took", span(step.duration_us as i64)));
    facts.push(("at", format!("{} after the start", span(step.at_us as i64))));
    facts
}

/// The needle's own picture with its own areas, if they were kept.
async fn needle_picture(app: &App, hit: &NeedleHit) -> Option<Shot> {
    let sha256 = hit.png.clone()?;
    let start = read_start(app, &sha256, 24).await?;
    let (width, height) = png_size(&start)?;
    let areas = match &hit.json {
        Some(json) => areas_of(&read_start(app, json, MAX_NEEDLE).await.unwrap_or_default(), hit),
        None => Vec::new(),
    };
    Some(Shot { sha256, width, height, areas })
}

async fn read_start(app: &App, sha: &str, max: u64) -> Option<Vec<u8>> {
    let sha: Sha256 = sha.parse().ok()?;
    let open = app.blobs.open(sha).await.ok()??;
    let mut bytes = Vec::new();
    open.reader.take(max).read_to_end(&mut bytes).await.ok()?;
    Some(bytes)
}

/// Width and height from a PNG's first 24 bytes (the `IHDR` chunk always comes first).
fn png_size(start: &[u8]) -> Option<(u32, u32)> {
    if !start.starts_with(b"\x89PNG\r\n\x1a\n") || start.get(12..16)? != b"IHDR" {
        return None;
    }
    let number = |at: usize| Some(u32::from_be_bytes(start.get(at..at + 4)?.try_into().ok()?));
    Some((number(16)?, number(20)?))
}

/// The areas of a needle's JSON, coloured as they were found; the matching areas are in the order of the hits.
fn areas_of(json: &[u8], hit: &NeedleHit) -> Vec<Area> {
    let needle: Value = serde_json::from_slice(json).unwrap_or_default();
    let number = |area: &Value, key: &str| -> Option<u32> {
        let value = &area[key];
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
        (0.0..=65535.0).contains(&number).then_some(number as u32)
    };
    let mut hits = hit.areas.iter();
    let mut areas = Vec::new();
    for area in needle["area"].as_array().into_iter().flatten() {
        let kind = match area["type"].as_str() {
            Some("exclude") => "exclude",
            _ => hits.next().map_or("ok", |hit| if hit.ok { "ok" } else { "miss" }),
        };
        let place =
            (number(area, "xpos"), number(area, "ypos"), number(area, "width"), number(area, "height"));
        if let (Some(x), Some(y), Some(w), Some(h)) = place {
            areas.push(Area::own(kind, x, y, w, h));
        }
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_records::step::AreaHit;

    #[test]
    fn the_size_of_a_png_is_in_its_head() {
        let head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x04\0\0\0\x03\0";
        assert_eq!(png_size(head), Some((1024, 768)));
        assert_eq!(png_size(&head[..23]), None);
        assert_eq!(png_size(b"GIF89a"), None);
    }

    #[test]
    fn a_needles_areas_take_the_colours_of_the_hits() {
        let area = |ok| AreaHit { x: 0, y: 0, w: 1, h: 1, similarity: 1.0, ok };
        let hit = NeedleHit {
            name: "n".into(),
            tags: Vec::new(),
            error: 0.0,
            json: None,
            png: None,
            areas: vec![area(true), area(false)],
        };
        let json = br#"{"area":[
            {"type":"match","xpos":1,"ypos":2,"width":3,"height":4},
            {"type":"exclude","xpos":"5","ypos":6.0,"width":7,"height":8},
            {"type":"match","xpos":9,"ypos":9,"width":9,"height":9},
            {"type":"match","xpos":-9,"ypos":9,"width":9,"height":9}]}"#;
        let kinds: Vec<_> = areas_of(json, &hit).iter().map(|area| (area.kind, area.x)).collect();
        assert_eq!(kinds, [("ok", 1), ("exclude", 5), ("miss", 9)]);
        assert!(areas_of(b"not json", &hit).is_empty());
    }
}
