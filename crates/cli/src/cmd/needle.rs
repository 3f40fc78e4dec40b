//! `assay needle …`

use crate::exit::{CliError, Code};
use crate::{Common, client, ui};
use assay_records::step::Record;
use assay_screen::{
    Area, AreaKind, ClickPoint, Matcher, Needle as ScreenNeedle, NeedleJson, Rect, ReferenceMatcher, Scene,
    SearchRatio,
};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;
use std::sync::Arc;

/// Needles.
#[derive(clap::Subcommand)]
pub(crate) enum Needle {
    /// Match a needle against a screenshot.
    #[command(
        after_help = "Example:\n  assay needle match needles/grub-prompt.json screen.png\n\nExit code 0 if it matches, 1 if not."
    )]
    Match {
        /// The needle's JSON; its picture lies beside it.
        needle: Utf8PathBuf,
        /// The screenshot, a PNG.
        scene: Utf8PathBuf,
        /// Search the whole screen instead of the margin around each area.
        #[arg(long)]
        full: bool,
    },
    /// Make a needle from a screenshot of a run.
    #[command(
        after_help = "Examples:\n  assay needle new --run out --step boot/2 --area 0,0,320,40 --tag grub-prompt mytests/needles/grub-prompt\n  \
                            assay needle new --screenshot s.png --area 10,10,200,40,match=90,margin=20 --exclude 50,12,30,8 \\\n      \
                            --tag welcome --click 100,20 mytests/needles/welcome"
    )]
    New(New),
}

#[derive(clap::Args)]
pub(crate) struct New {
    /// Where it goes: the path without extension; NAME.json and NAME.png are written.
    name: Utf8PathBuf,
    /// A PNG to take the picture from.
    #[arg(long, conflicts_with_all = ["run", "job"])]
    screenshot: Option<Utf8PathBuf>,
    /// The record of an `assay run` (its --out) to take the picture from.
    #[arg(long, conflicts_with = "job")]
    run: Option<Utf8PathBuf>,
    /// A job of the server to take the picture from.
    #[arg(long)]
    job: Option<i64>,
    /// Which step of the run or job: MODULE/NUMBER as on its page.
    #[arg(long, value_name = "MODULE/NUMBER")]
    step: Option<String>,
    /// An area to match: X,Y,WIDTH,HEIGHT in pixels, and if you like match=PERCENT and margin=PIXELS.
    #[arg(long = "area", value_name = "X,Y,W,H[,match=N][,margin=N]", required = true)]
    areas: Vec<String>,
    /// An area to leave out of the match: X,Y,WIDTH,HEIGHT.
    #[arg(long = "exclude", value_name = "X,Y,W,H")]
    excludes: Vec<String>,
    /// A tag; several times for several.
    #[arg(long = "tag", required = true)]
    tags: Vec<String>,
    /// Where assert_and_click clicks, in pixels of the screen; must lie in the first area.
    #[arg(long, value_name = "X,Y")]
    click: Option<String>,
    /// Replace a needle of that name.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Made {
    json: Utf8PathBuf,
    png: Utf8PathBuf,
    tags: Vec<String>,
}

impl Needle {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Match { needle, scene, full } => match_needle(common, &needle, &scene, full),
            Self::New(new) => new.run(common),
        }
    }
}

fn match_needle(common: &Common, needle: &Utf8Path, scene: &Utf8Path, full: bool) -> Result<Code, CliError> {
    let json_path =
        if needle.extension() == Some("json") { needle.to_owned() } else { needle.with_extension("json") };
    let png_path = json_path.with_extension("png");
    let name = json_path.file_stem().unwrap_or_default();
    let read = |path: &Utf8Path| match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == png_path => {
            Err(CliError::usage(format!(
                "needle {name} has no picture: {png_path} is missing; put the screenshot there"
            )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(CliError::not_found(format!("there is no file {path}")))
        }
        Err(error) => Err(CliError::usage(error.to_string())),
    };
    let needle = ScreenNeedle::parse(name, &read(&json_path)?, &read(&png_path)?)
        .map_err(|error| CliError::usage(error.to_string()))?;
    let image = assay_screen::png::decode(&read(scene)?)
        .map_err(|error| CliError::usage(format!("{scene} cannot be used as a screenshot: {error}")))?;
    let ratio = SearchRatio::new(if full { 1.0 } else { 0.0 });
    let found = ReferenceMatcher.match_needle(&Scene::new(Arc::new(image)), &needle, ratio);
    if common.json {
        ui::print_json(&found);
    } else {
        println!("{} (error {:.4})", if found.matched { "✔ matched" } else { "✘ not matched" }, found.error);
        let rows = found.areas.iter().map(|area| {
            let place = format!("{},{} {}x{}", area.x, area.y, area.w, area.h);
            vec![
                place,
                format!("{:.1} %", area.similarity * 100.0),
                if area.ok { "✔".into() } else { "✘".to_owned() },
            ]
        });
        println!("{}", ui::table(&["AREA", "SIMILARITY", "OK"], rows));
    }
    Ok(if found.matched { Code::Ok } else { Code::Negative })
}

impl New {
    fn run(self, common: &Common) -> Result<Code, CliError> {
        let picture = self.picture(common)?;
        let image = assay_screen::png::decode(&picture)
            .map_err(|error| CliError::usage(format!("the screenshot cannot be used: {error}")))?;
        let mut areas = Vec::new();
        for text in &self.areas {
            areas.push(parse_area(text, AreaKind::Match)?);
        }
        for text in &self.excludes {
            areas.push(parse_area(text, AreaKind::Exclude)?);
        }
        for area in &areas {
            let Rect { x, y, w, h } = area.rect;
            if !image.bounds().contains(area.rect) {
                return Err(CliError::usage(format!(
                    "the area {x},{y},{w},{h} lies outside of the screenshot, which has {} x {} pixels",
                    image.width(),
                    image.height()
                )));
            }
        }
        if let Some(click) = &self.click {
            let [x, y] =
                numbers::<2>(click).ok_or_else(|| CliError::usage(format!("{click:?} is not X,Y")))?;
            let area = &mut areas[0];
            let rect = area.rect;
            if !rect.contains(Rect { x, y, w: 1, h: 1 }) {
                return Err(CliError::usage(format!(
                    "the click point {click} lies outside of the first area"
                )));
            }
            area.click_point =
                Some(ClickPoint::At { x: f64::from(x - rect.x), y: f64::from(y - rect.y), id: None });
        }
        let needle =
            NeedleJson { areas, properties: Vec::new(), tags: self.tags.clone(), warnings: Vec::new() };
        let (json, png) = (with_suffix(&self.name, "json"), with_suffix(&self.name, "png"));
        if !self.force && (json.exists() || png.exists()) {
            return Err(CliError::usage(format!(
                "{json} exists; choose another name, or replace it with --force"
            )));
        }
        if let Some(parent) = json.parent().filter(|parent| !parent.as_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        fs::write(&png, picture)?;
        fs::write(&json, needle.to_pretty())?;
        if common.json {
            ui::print_json(&Made { json, png, tags: self.tags });
        } else {
            println!("{json}\n{png}");
        }
        Ok(Code::Ok)
    }

    fn picture(&self, common: &Common) -> Result<Vec<u8>, CliError> {
        if let Some(path) = &self.screenshot {
            return fs::read(path).map_err(|error| CliError::not_found(error.to_string()));
        }
        let wanted = || {
            self.step
                .as_deref()
                .and_then(|step| step.rsplit_once('/'))
                .and_then(|(module, number)| Some((module, number.parse::<u32>().ok()?)))
        };
        let (module, number) = wanted().ok_or_else(|| {
            CliError::usage("say which step's screenshot to take, for example --step boot/2")
        })?;
        let steps = match (&self.run, self.job) {
            (Some(run), _) => fs::read_to_string(run.join("steps.jsonl"))
                .map_err(|error| CliError::not_found(error.to_string()))?,
            (None, Some(job)) => client::Client::new(common)?.stream(job, "steps.jsonl")?,
            (None, None) => {
                return Err(CliError::usage(
                    "say where the picture comes from: --run OUT, --job N or --screenshot FILE",
                ));
            }
        };
        let picture =
            steps.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()).find_map(|record| {
                match record {
                    Record::Step(step) if step.module == module && step.number == number => step.screenshot,
                    _ => None,
                }
            });
        let picture = picture.ok_or_else(|| {
            CliError::not_found(format!("there is no step {module}/{number} with a screenshot"))
        })?;
        match &self.run {
            Some(run) => fs::read(run.join("blobs").join(&picture.sha256))
                .map_err(|error| CliError::not_found(error.to_string())),
            None => client::Client::new(common)?.blob(&picture.sha256),
        }
    }
}

fn with_suffix(path: &Utf8Path, suffix: &str) -> Utf8PathBuf {
    let plain =
        path.as_str().strip_suffix(".json").or(path.as_str().strip_suffix(".png")).unwrap_or(path.as_str());
    Utf8PathBuf::from(format!("{plain}.{suffix}"))
}

fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let parsed: Option<Vec<u32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    parsed?.try_into().ok()
}

fn parse_area(text: &str, kind: AreaKind) -> Result<Area, CliError> {
    let wrong = |why: &str| {
        CliError::usage(format!(
            "{text:?} is not an area ({why}); write X,Y,WIDTH,HEIGHT, for example 10,20,300,40"
        ))
    };
    let (mut place, mut level, mut margin) = (Vec::new(), None, None);
    for part in text.split(',').map(str::trim) {
        if let Some(value) = part.strip_prefix("match=") {
            level = Some(
                value
                    .parse::<f64>()
                    .ok()
                    .filter(|n| (0.0..=100.0).contains(n))
                    .ok_or_else(|| wrong("match is 0 to 100"))?,
            );
        } else if let Some(value) = part.strip_prefix("margin=") {
            margin = Some(value.parse::<u32>().map_err(|_| wrong("margin is a number of pixels"))?);
        } else {
            place.push(part.parse::<u32>().map_err(|_| wrong("four whole numbers are needed"))?);
        }
    }
    let [x, y, w, h]: [u32; 4] = place.try_into().map_err(|_| wrong("four whole numbers are needed"))?;
    if w == 0 || h == 0 {
        return Err(wrong("width and height must be more than 0"));
    }
    Ok(Area {
        rect: Rect { x, y, w, h },
        kind,
        match_percent: level,
        margin_pixels: margin,
        click_point: None,
    })
}
