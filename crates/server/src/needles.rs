//! Needles made from the screen of a step: how they would match, and their commit into the tests' checkout.

use crate::app::App;
use crate::fault::Fault;
use crate::record::Run;
use assay_engine::ids::JobId;
use assay_engine::job_settings::JobSettings;
use assay_git::checkout::{Author, Checkout};
use assay_proto::api::knowledge::{NeedleDraft, NeedlePreview, SavedNeedle, ScreenMatch};
use assay_records::step::{Step, StepBody, StepResult};
use assay_screen::{AreaKind, Matcher, Needle, NeedleJson, ReferenceMatcher, Scene, SearchRatio};
use assay_store::StoredJob;
use assay_store::blobs::Sha256;
use axum::http::StatusCode;
use camino::Utf8PathBuf;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Earlier jobs of the scenario that are looked at, and the screens of them that a draft is tried on.
const JOBS: u32 = 6;
const SCREENS: usize = 10;
/// The largest picture, bytes.
const PICTURE: u64 = 32 << 20;
/// The longest name, bytes.
const NAME: usize = 200;

/// A screen to try a draft on.
struct Shown {
    job: JobId,
    module: String,
    step: u32,
    screenshot: String,
    tags: Vec<String>,
    found: bool,
}

fn shown(job: JobId, step: &Step) -> Option<Shown> {
    let screenshot = step.screenshot.as_ref()?.sha256.clone();
    let tags = match &step.body {
        StepBody::Look { tags, .. } => tags.clone(),
        _ => Vec::new(),
    };
    let found = step.result != StepResult::Fail;
    Some(Shown { job, module: step.module.clone(), step: step.number, screenshot, tags, found })
}

/// The bytes of a needle's JSON file, or what is wrong with the draft.
fn json_of(draft: &NeedleDraft) -> Result<String, Fault> {
    let help = "Draw at least one match area, and give at least one tag.";
    let text = json!({"area": draft.area, "properties": draft.properties, "tags": draft.tags}).to_string();
    let name = if draft.name.is_empty() { "needle" } else { &draft.name };
    let needle = NeedleJson::parse(name, text.as_bytes())
        .map_err(|error| Fault::bad(format!("This is no needle: {}.", error.message), help))?;
    if !needle.areas.iter().any(|area| area.kind == AreaKind::Match) {
        return Err(Fault::bad("The needle has no match area, so it would never match.", help));
    }
    Ok(needle.to_pretty())
}

/// What a needle may be called: it becomes a file's name.
fn check_words(draft: &NeedleDraft) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    let name = &draft.name;
    if name.is_empty() || name.len() > NAME || !name.chars().all(plain) || name.starts_with(['.', '-']) {
        return Err(Fault::bad(
            format!("{name:?} is no name for a needle."),
            "Use letters, digits, `-`, `_`, `+` and `.`; begin with a letter or a digit.",
        ));
    }
    let bad = |tag: &&String| tag.is_empty() || tag.chars().any(|c| c.is_whitespace() || c.is_control());
    match draft.tags.iter().find(bad) {
        Some(tag) => Err(Fault::bad(format!("{tag:?} is no tag."), "Tags have no spaces.")),
        None if draft.tags.is_empty() => {
            Err(Fault::bad("The needle has no tags, so no test would find it.", "Give at least one."))
        }
        None => Ok(()),
    }
}

impl App {
    async fn picture(&self, sha256: &str) -> Result<Vec<u8>, Fault> {
        let gone = || Fault::not_found("The picture is gone.", "Choose a step whose picture is still there.");
        let sha: Sha256 = sha256.parse().map_err(|_| gone())?;
        let size = self.blobs.size(sha).await?.ok_or_else(gone)?;
        if size > PICTURE {
            return Err(Fault::bad("The picture is too large.", "Choose another step."));
        }
        self.blobs.get_verified(sha).await?.ok_or_else(gone)
    }

    /// The job, its run, and the step whose picture the draft is made from.
    async fn origin(&self, id: JobId, draft: &NeedleDraft) -> Result<(StoredJob, Shown), Fault> {
        let job = self.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
        let mut own = None;
        for attempt in self.store.attempts(id).await?.iter().rev() {
            let bytes = self
                .read_stream(attempt, assay_proto::worker::Stream::Steps, 0, crate::api::MAX_STEPS)
                .await?;
            let run = Run::parse(&bytes);
            let at = |step: &&Step| {
                step.screenshot.as_ref().is_some_and(|picture| picture.sha256 == draft.screenshot)
            };
            own = run.steps().find(at).and_then(|step| shown(id, step));
            if own.is_some() {
                break;
            }
        }
        let own = own.ok_or_else(|| {
            Fault::bad(format!("Job {id} has no such picture."), "Choose a picture of one of its steps.")
        })?;
        Ok((job, own))
    }

    /// How a draft fits its own screen and the last screens of the scenario that asked for one of its tags, or that were
    /// made at the same step.
    pub(crate) async fn preview_needle(&self, id: JobId, draft: NeedleDraft) -> Result<NeedlePreview, Fault> {
        let json = json_of(&draft)?;
        let (job, own) = self.origin(id, &draft).await?;
        let png = self.picture(&draft.screenshot).await?;
        let mut seen = BTreeSet::from([own.screenshot.clone()]);
        let (module, number) = (own.module.clone(), own.step);
        let mut screens = vec![own];
        let mut jobs = vec![id];
        jobs.extend(self.earlier(&job.row, JOBS).await?.into_iter().map(|earlier| earlier.id));
        for job in jobs {
            for step in self.last_run(job).await?.steps() {
                let Some(one) = shown(job, step) else { continue };
                let asked = one.tags.iter().any(|tag| draft.tags.contains(tag));
                let same = one.module == module && one.step == number;
                if (asked || same) && screens.len() < SCREENS && seen.insert(one.screenshot.clone()) {
                    screens.push(one);
                }
            }
        }
        let mut pictures = Vec::new();
        for screen in screens {
            // A picture that has had its time is left out.
            if let Ok(bytes) = self.picture(&screen.screenshot).await {
                pictures.push((screen, bytes));
            }
        }
        tokio::task::spawn_blocking(move || try_on(&json, &png, pictures))
            .await
            .unwrap_or_else(|_| Err(Fault::bad("The needle cannot be tried.", "Report it as a bug.")))
    }

    /// Commits a draft into `CASEDIR/needles` of the job.
    pub(crate) async fn save_needle(
        self: &Arc<Self>,
        id: JobId,
        draft: NeedleDraft,
        by: &str,
    ) -> Result<SavedNeedle, Fault> {
        check_words(&draft)?;
        let json = json_of(&draft)?;
        let (job, _) = self.origin(id, &draft).await?;
        let png = self.picture(&draft.screenshot).await?;
        let Some(dir) = needle_dir(&job.row.settings) else {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                format!("Job {id} has no CASEDIR."),
                "Only needles of jobs with a directory of tests can be changed here.",
            ));
        };
        let plain = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).take(100).collect()
        };
        let author =
            Author { name: plain(by), email: format!("{}@assay.invalid", plain(by).replace(' ', ".")) };
        let (name, by) = (draft.name.clone(), by.to_owned());
        let message = match draft.message.trim() {
            "" => format!("{name}: from job {id}"),
            given => given.replace('\0', ""),
        };
        if dir.as_str().contains("://") {
            // Fetched from where this server does not push: somebody applies it there.
            let folder = within(&job.row.settings);
            let [json_name, png_name] = ["json", "png"].map(|ending| folder.join(format!("{name}.{ending}")));
            let files = [(json_name.clone(), json.into_bytes()), (png_name, png)];
            let made = tokio::task::spawn_blocking(move || Checkout::patch(&files, &author, &message));
            let unmade = |why: String| {
                Fault::new(StatusCode::CONFLICT, why, "Add the needle where the tests are kept.")
            };
            let patch = made.await.map_err(|_| unmade("The patch cannot be made.".into()))?;
            let patch = Some(patch.map_err(|error| unmade(format!("{error}.")))?);
            return Ok(SavedNeedle { name, file: json_name.into_string(), commit: None, patch });
        }
        // What jobs leave there could make git run programs as the server.
        if dir.canonicalize_utf8().is_ok_and(|dir| dir.starts_with(&self.data)) {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                format!("{dir} is in the data directory of the server, where nothing is committed."),
                "Keep the tests in a checkout of their own.",
            ));
        }
        let file = dir.join(format!("{name}.json"));
        let saving = move || commit(&dir, &draft, [json.into_bytes(), png], &author, &message);
        let commit = tokio::task::spawn_blocking(saving)
            .await
            .unwrap_or_else(|_| Err(Fault::bad("The needle cannot be saved.", "Report it as a bug.")))?;
        if commit.is_some() {
            let told = json!({"name": name, "file": file, "commit": commit, "job_id": id.0});
            self.audit(&by, "needle_modify", told);
        }
        Ok(SavedNeedle { name, file: file.into_string(), commit, patch: None })
    }
}

/// Where the needles of a job are; with `://` in it what they are fetched from.
pub(crate) fn needle_dir(settings: &JobSettings) -> Option<Utf8PathBuf> {
    let given = settings.get("NEEDLES_DIR").map(str::trim).filter(|dir| !dir.is_empty());
    match (settings.get("CASEDIR").map(Utf8PathBuf::from), given) {
        (_, Some(address)) if address.contains("://") => Some(address.into()),
        (Some(tests), given) => Some(tests.join(given.unwrap_or("needles"))),
        (None, _) => None,
    }
}

/// The folder of the needles within their repository.
fn within(settings: &JobSettings) -> Utf8PathBuf {
    let given = settings.get("NEEDLES_DIR").map(str::trim).filter(|dir| !dir.is_empty());
    match given {
        Some(address) if address.contains("://") => Utf8PathBuf::new(),
        Some(folder) if Utf8PathBuf::from(folder).is_relative() && !folder.contains("..") => folder.into(),
        _ => "needles".into(),
    }
}

fn try_on(json: &str, png: &[u8], pictures: Vec<(Shown, Vec<u8>)>) -> Result<NeedlePreview, Fault> {
    let needle = Needle::parse("needle", json.as_bytes(), png)
        .map_err(|error| Fault::bad(format!("This is no needle: {error}."), "Draw its areas again."))?;
    let mut screens = Vec::new();
    for (shown, bytes) in pictures {
        let Ok(image) = assay_screen::png::decode(&bytes) else { continue };
        let scene = Scene::new(Arc::new(image));
        let found = ReferenceMatcher.match_needle(&scene, &needle, SearchRatio::NORMAL);
        let area =
            |area: &assay_screen::AreaMatch| (area.x, area.y, area.w, area.h, area.similarity, area.ok);
        screens.push(ScreenMatch {
            job: shown.job.0,
            module: shown.module,
            step: shown.step,
            screenshot: shown.screenshot,
            matched: found.matched,
            similarity: 1.0 - found.error.sqrt(),
            areas: found.areas.iter().map(area).collect(),
            tags: shown.tags,
            found: shown.found,
        });
    }
    Ok(NeedlePreview { screens, warnings: needle.warnings })
}

fn commit(
    dir: &Utf8PathBuf,
    draft: &NeedleDraft,
    [json, png]: [Vec<u8>; 2],
    author: &Author,
    message: &str,
) -> Result<Option<String>, Fault> {
    if !dir.is_dir() {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            format!("There is no directory {dir} on the server's host."),
            "Needles can be saved where the server sees the tests; otherwise add them where the tests are kept.",
        ));
    }
    let conflict = |error: assay_git::checkout::CheckoutError| {
        let (text, help) = error.to_string().split_once("; ").map_or_else(
            || (error.to_string(), "See what git says there.".to_owned()),
            |(text, help)| (text.to_owned(), help.to_owned()),
        );
        Fault::new(StatusCode::CONFLICT, format!("{text}."), help)
    };
    let checkout = Checkout::of(dir).map_err(conflict)?;
    let names = ["json", "png"].map(|ending| Utf8PathBuf::from(format!("{}.{ending}", draft.name)));
    if !draft.overwrite && names.iter().any(|name| dir.join(name).exists()) {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            format!("There is a needle {} already.", draft.name),
            "Give another name, or say that it is to be replaced.",
        ));
    }
    let [json_name, png_name] = names;
    checkout.commit(&[(json_name, json), (png_name, png)], author, message).map_err(conflict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_needles_are() {
        for (settings, expected) in [
            (&[("CASEDIR", "/t")][..], Some("/t/needles")),
            (&[("CASEDIR", "/t"), ("NEEDLES_DIR", "n/x")], Some("/t/n/x")),
            (&[("CASEDIR", "/t"), ("NEEDLES_DIR", "/n")], Some("/n")),
            (&[("CASEDIR", "/t"), ("NEEDLES_DIR", " ")], Some("/t/needles")),
            (&[("CASEDIR", "/t"), ("NEEDLES_DIR", "https://h/n.git#a")], Some("https://h/n.git#a")),
            (&[("NEEDLES_DIR", "n")], None),
        ] {
            let settings = assay_engine::settings::Settings::from_request(settings.iter().copied());
            let found = needle_dir(&settings.with_defaults().into());
            assert_eq!(found.as_deref().map(camino::Utf8Path::as_str), expected);
        }
    }

    #[test]
    fn drafts_are_needles_or_say_why_not() {
        let draft = |name: &str, tags: &[&str], area: serde_json::Value| NeedleDraft {
            screenshot: String::new(),
            name: name.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            area: area.as_array().cloned().unwrap_or_default(),
            properties: Vec::new(),
            message: String::new(),
            overwrite: false,
        };
        let area = json!([{"xpos": 1, "ypos": 2, "width": 3, "height": 4, "type": "match", "match": 90}]);
        let good = draft("grub-2026+1", &["grub"], area.clone());
        let text = json_of(&good).expect("a needle");
        assert!(
            check_words(&good).is_ok() && text.contains("\"xpos\": 1") && text.ends_with("}\n"),
            "{text}"
        );
        let cases = [
            (draft("../x", &["a"], area.clone()), "is no name for a needle"),
            (draft(".hidden", &["a"], area.clone()), "is no name for a needle"),
            (draft("", &["a"], area.clone()), "is no name for a needle"),
            (draft("x", &[], area.clone()), "has no tags"),
            (draft("x", &["a b"], area.clone()), "is no tag"),
            (draft("x", &["a"], json!([])), "This is no needle"),
            (
                draft("x", &["a"], json!([{"xpos": 1, "ypos": 2, "width": 3, "height": 4, "type": "ocr"}])),
                "no match area",
            ),
            (
                draft("x", &["a"], json!([{"xpos": -1, "ypos": 2, "width": 3, "height": 4}])),
                "This is no needle",
            ),
        ];
        for (draft, want) in cases {
            let fault = check_words(&draft).and_then(|()| json_of(&draft).map(drop)).expect_err(want);
            assert!(fault.error.contains(want), "{}: {want}", fault.error);
        }
    }
}
