//! Writes what a run does and finds into the attempt's record.

use super::secrets::{COVER, Secrets};
use crate::attempt::AttemptDir;
use assay_proto::driver::Call;
use assay_proto::worker::Stream;
use assay_records::history::PastCommit;
use assay_records::journal::{Entry, FrameRect, Line};
use assay_records::step::{
    AreaHit, ModulePlan, ModuleResult, NeedleHit, Picture, Record, Source, Step, StepBody, StepResult,
};
use assay_screen::{Image, Needle, NeedleMatch, Rect};
use assay_vm::Frame;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Shared by the session and the machine's observers.
#[derive(Clone)]
pub(super) struct Recorder {
    dir: AttemptDir,
    began: Instant,
    current: Arc<Mutex<Current>>,
    last_picture: Arc<Mutex<LastPicture>>,
    frames_cut: Arc<std::sync::atomic::AtomicBool>,
    journal_order: Arc<Mutex<()>>,
    pub(super) secrets: Secrets,
}

#[derive(Default)]
struct Current {
    module: String,
    began_us: u64,
    steps: u32,
    worst: Worst,
}

/// A journal of this many bytes gets no more frames: a moving screen must not fill the disks.
const FRAMES_LIMIT: u64 = 256 << 20;

/// The screen that was encoded last, and what became of it.
type LastPicture = Option<(Arc<Image>, Picture)>;

/// The worst that a module's steps have said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Worst {
    #[default]
    Fine,
    Soft,
    Failed,
}

/// A step before it has its number and times.
pub(super) struct Draft<'a> {
    pub(super) call: &'a str,
    pub(super) source: Option<Source>,
    pub(super) began: Instant,
    pub(super) result: StepResult,
    pub(super) screen: Option<&'a Arc<Image>>,
    pub(super) body: StepBody,
    /// False where the step's result is only shown (a failed look that `attempt` may still catch).
    pub(super) counts: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub(super) fn new(dir: AttemptDir, began: Instant, secrets: Secrets) -> Self {
        Self {
            dir,
            began,
            current: Arc::default(),
            last_picture: Arc::default(),
            frames_cut: Arc::default(),
            journal_order: Arc::default(),
            secrets,
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn log(&self, line: &str) {
        self.dir.log(self.now_us(), &self.secrets.cover(line));
    }

    fn line(&self, stream: Stream, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                self.dir.append(stream, &bytes);
            }
            Err(error) => self.log(&format!("a record could not be written: {error}")),
        }
    }

    pub(super) fn plan(&self, modules: Vec<ModulePlan>) {
        self.line(Stream::Steps, &Record::Plan { modules });
    }

    pub(super) fn environment(&self, mut facts: Vec<(String, String)>) {
        for (_, fact) in &mut facts {
            *fact = self.secrets.cover(std::mem::take(fact)).into_owned();
        }
        self.line(Stream::Steps, &Record::Environment { facts });
    }

    /// Where fetched tests stand.
    pub(super) fn history(&self, what: &str, commits: &[PastCommit]) {
        let mut commits = commits.to_vec();
        for commit in &mut commits {
            commit.subject = self.secrets.cover(std::mem::take(&mut commit.subject)).into_owned();
        }
        self.line(Stream::Steps, &Record::History { what: what.to_owned(), commits });
    }

    pub(super) fn module_started(&self, module: &str) {
        let at_us = self.now_us();
        *lock(&self.current) = Current { module: module.to_owned(), began_us: at_us, ..Current::default() };
        self.line(Stream::Steps, &Record::ModuleStarted { module: module.to_owned(), at_us });
        self.log(&format!("module {module} begins"));
    }

    pub(super) fn module_ended(&self, module: &str, result: ModuleResult) {
        let at_us = self.now_us();
        let began_us = lock(&self.current).began_us;
        let duration_us = if result == ModuleResult::Skipped { 0 } else { at_us.saturating_sub(began_us) };
        self.line(
            Stream::Steps,
            &Record::ModuleEnded { module: module.to_owned(), result, at_us, duration_us },
        );
        self.log(&format!("module {module} ends: {result:?}"));
    }

    /// The worst of the module's steps so far.
    pub(super) fn worst(&self) -> Worst {
        lock(&self.current).worst
    }

    /// The module has a known problem, whatever comes.
    pub(super) fn soften(&self) {
        let mut current = lock(&self.current);
        current.worst = current.worst.max(Worst::Soft);
    }

    pub(super) fn step(&self, draft: Draft<'_>) {
        let screenshot = draft.screen.map(|image| self.picture(image));
        let mut current = lock(&self.current);
        current.steps += 1;
        if draft.counts {
            current.worst = current.worst.max(match draft.result {
                StepResult::Ok | StepResult::Unknown => Worst::Fine,
                StepResult::Softfail => Worst::Soft,
                StepResult::Fail => Worst::Failed,
            });
        }
        let step = Step {
            module: current.module.clone(),
            number: current.steps,
            at_us: self.now_us(),
            duration_us: draft.began.elapsed().as_micros() as u64,
            call: draft.call.to_owned(),
            source: draft.source,
            result: draft.result,
            screenshot,
            body: self.secrets.cover_step(draft.body),
        };
        drop(current);
        self.line(Stream::Steps, &Record::Step(Box::new(step)));
    }

    /// A text for people.
    pub(super) fn text(
        &self,
        call: &str,
        source: Option<Source>,
        result: StepResult,
        title: &str,
        output: &str,
    ) {
        let body = StepBody::Text { title: title.to_owned(), output: output.to_owned() };
        self.step(Draft { call, source, began: Instant::now(), result, screen: None, body, counts: true });
    }

    /// Keeps a screen as a blob; the same screen twice in a row is encoded once.
    fn picture(&self, image: &Arc<Image>) -> Picture {
        let mut last = lock(&self.last_picture);
        if let Some((kept, picture)) = last.as_ref()
            && Arc::ptr_eq(kept, image)
        {
            return picture.clone();
        }
        let sha256 = self.dir.blob(&assay_screen::png::encode(image));
        let picture = Picture { sha256, width: image.width(), height: image.height() };
        *last = Some((image.clone(), picture.clone()));
        picture
    }

    /// A needle's match for the record; the needle's files are kept with it.
    pub(super) fn hit(&self, needle: &Needle, found: &NeedleMatch) -> NeedleHit {
        let areas = found
            .areas
            .iter()
            .map(|area| AreaHit {
                x: area.x,
                y: area.y,
                w: area.w,
                h: area.h,
                similarity: area.similarity,
                ok: area.ok,
            })
            .collect();
        NeedleHit {
            name: needle.name.to_string(),
            tags: needle.tags.clone(),
            error: found.error,
            json: Some(self.dir.blob(&needle.json)),
            png: Some(self.dir.blob(&needle.png)),
            areas,
        }
    }

    pub(super) fn journal(&self, entry: Entry) {
        // Frames come from another thread: the time is taken under the lock, so that the lines are in its order.
        let _order = lock(&self.journal_order);
        self.line(Stream::Journal, &Line { t: self.now_us(), entry });
    }

    pub(super) fn journal_call(&self, call: &Call, secret: bool) {
        let mut args = serde_json::to_value(&call.request).unwrap_or_default();
        let args = args.get_mut("args").map(serde_json::Value::take).unwrap_or_default();
        let args = if secret { COVER.into() } else { self.secrets.cover_value(args) };
        self.journal(Entry::Call { name: call.name.clone(), args });
    }

    pub(super) fn journal_frame(&self, frame: &Frame) {
        let journaled = self.dir.grown().borrow().streams.get(&Stream::Journal).copied().unwrap_or(0);
        if journaled > FRAMES_LIMIT {
            if !self.frames_cut.swap(true, std::sync::atomic::Ordering::Relaxed) {
                self.log("the journal holds 256 MiB; from here on it is without frames");
            }
            return;
        }
        let image = &frame.image;
        let rects = frame
            .dirty
            .iter()
            .filter_map(|rect| {
                let part = image.crop(Rect { x: rect.x, y: rect.y, w: rect.w, h: rect.h })?;
                Some(FrameRect {
                    x: rect.x,
                    y: rect.y,
                    png: STANDARD.encode(assay_screen::png::encode(&part)),
                })
            })
            .collect();
        self.journal(Entry::Frame { seq: frame.seq, w: image.width(), h: image.height(), rects });
    }
}
