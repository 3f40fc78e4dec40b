//! Looking for needles.

use super::recorder::Draft;
use super::session::{Answer, LastMatch, Origin, Session, draft};
use assay_proto::driver::{Button, CallError, Click, Look, Tags};
use assay_records::step::{NeedleHit, StepBody, StepResult};
use assay_screen::{
    Image, Matcher, Needle, NeedleMatch, ReferenceMatcher, Scene, SearchRatio, best_of, similarity,
};
use assay_vm::FrameSource;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Needles that are measured against a screen on which none matched; measuring costs far more than a verdict.
const SHOW_CANDIDATES: usize = 20;
/// Earlier screens of a failed look that are shown with it.
const SHOW_EARLIER: usize = 5;
/// How long the pointer stays where it has clicked.
const AFTER_CLICK: Duration = Duration::from_secs(1);
/// Two screens that are less alike than this (PSNR, dB) are both worth showing.
const WORTH_SHOWING: f64 = 30.0;

/// A needle and where it fits on one screen.
pub(super) type Found = (Arc<Needle>, NeedleMatch);

/// One screen with all that was looked for on it, best first.
struct Looked {
    screen: Arc<Image>,
    found: Vec<Found>,
}

impl Looked {
    fn matched(&self) -> bool {
        self.found.first().is_some_and(|(_, best)| best.matched)
    }
}

/// What a look came to.
pub(super) enum LookResult {
    Hit(NeedleHit),
    Miss,
}

impl Session {
    pub(super) async fn assert_screen(&mut self, look: &Look, origin: &Origin) -> Answer {
        let timeout = look.timeout.unwrap_or(30.0);
        match self.look(&look.tags, timeout, StepResult::Fail, origin).await? {
            LookResult::Hit(hit) => Ok(json!(hit)),
            LookResult::Miss => Err(missed(&look.tags, timeout)),
        }
    }

    pub(super) async fn check_screen(&mut self, look: &Look, origin: &Origin) -> Answer {
        let timeout = look.timeout.unwrap_or(0.0);
        match self.look(&look.tags, timeout, StepResult::Unknown, origin).await? {
            LookResult::Hit(hit) => Ok(json!(hit)),
            LookResult::Miss => Ok(Value::Null),
        }
    }

    pub(super) fn match_has_tag(&self, tag: &str) -> bool {
        self.last_match.as_ref().is_some_and(|last| last.hit.tags.iter().any(|own| own == tag))
    }

    pub(super) async fn send_key_until_needlematch(
        &mut self,
        tags: &Tags,
        key: &str,
        counter: u32,
        timeout: f64,
        origin: &Origin,
    ) -> Answer {
        let needles = self.needles_for(tags)?;
        if let Some(hit) = self.look_quietly(tags, &needles, 0.0, origin).await? {
            return Ok(json!(hit));
        }
        for _ in 1..counter.max(1) {
            self.send_key(key, false).await?;
            if let Some(hit) = self.look_quietly(tags, &needles, timeout, origin).await? {
                return Ok(json!(hit));
            }
        }
        self.send_key(key, false).await?;
        match self.look(tags, timeout, StepResult::Fail, origin).await? {
            LookResult::Hit(hit) => Ok(json!(hit)),
            LookResult::Miss => Err(CallError::failed(format!(
                "no needle with {} after {counter} times {key:?}",
                shown(tags)
            ))),
        }
    }

    async fn look_quietly(
        &mut self,
        tags: &Tags,
        needles: &[Arc<Needle>],
        timeout: f64,
        origin: &Origin,
    ) -> Result<Option<NeedleHit>, CallError> {
        let (last, _) = self.watch_for(needles, timeout).await?;
        Ok(last.matched().then(|| self.record_hit(tags, timeout, &last, origin)))
    }

    /// Looks until a needle matches or the time is over, and records what it saw.
    pub(super) async fn look(
        &mut self,
        tags: &Tags,
        timeout: f64,
        on_miss: StepResult,
        origin: &Origin,
    ) -> Result<LookResult, CallError> {
        let needles = self.needles_for(tags)?;
        let (last, earlier) = self.watch_for(&needles, timeout).await?;
        if last.matched() {
            return Ok(LookResult::Hit(self.record_hit(tags, timeout, &last, origin)));
        }
        if on_miss == StepResult::Fail {
            for looked in earlier {
                let looked = with_candidates(looked, &needles).await?;
                self.record_miss(tags, timeout, &looked, StepResult::Unknown, origin);
            }
        }
        let last = with_candidates(last, &needles).await?;
        self.record_miss(tags, timeout, &last, on_miss, origin);
        Ok(LookResult::Miss)
    }

    fn record_hit(&mut self, tags: &Tags, timeout: f64, looked: &Looked, origin: &Origin) -> NeedleHit {
        let mut hits: Vec<NeedleHit> =
            looked.found.iter().map(|(ready, found)| self.rec.hit(ready, found)).collect();
        let hit = hits.remove(0);
        let (ready, found) = &looked.found[0];
        let result = if ready.is_workaround() { StepResult::Softfail } else { StepResult::Ok };
        let body = StepBody::Look {
            tags: tags.sets(),
            timeout_s: timeout,
            matched: Some(hit.clone()),
            candidates: hits,
        };
        self.rec.step(Draft { screen: Some(&looked.screen), ..draft(origin, result, body) });
        if ready.is_workaround() {
            let why = ready.workaround().map(|bug| format!(": {bug}")).unwrap_or_default();
            let text = format!("needle {} is a workaround{why}", hit.name);
            self.rec.text(&origin.name, origin.source.clone(), StepResult::Softfail, "Soft failure", &text);
        }
        self.last_match = Some(LastMatch { hit: hit.clone(), found: found.clone() });
        hit
    }

    fn record_miss(&self, tags: &Tags, timeout: f64, looked: &Looked, result: StepResult, origin: &Origin) {
        let candidates = looked.found.iter().map(|(ready, found)| self.rec.hit(ready, found)).collect();
        let body = StepBody::Look { tags: tags.sets(), timeout_s: timeout, matched: None, candidates };
        self.rec.step(Draft { screen: Some(&looked.screen), counts: false, ..draft(origin, result, body) });
    }

    /// The needles that carry the tags, decoded. A tag that no needle carries is a mistake in the test.
    fn needles_for(&self, tags: &Tags) -> Result<Vec<Arc<Needle>>, CallError> {
        let sets = tags.sets();
        let stored = self.needles.with_tags(&sets);
        let mut ready = Vec::with_capacity(stored.len());
        for needle in stored {
            match self.needles.ready(needle) {
                Ok(one) => ready.push(one),
                Err(why) => self.rec.log(&format!("needle {} is left out: {why}", needle.name)),
            }
        }
        if ready.is_empty() {
            let broken = self.needles.broken();
            let hint = match broken.len() {
                0 => String::new(),
                n => format!(" ({n} needles are broken: `assay test check` names them)"),
            };
            return Err(CallError::usage(format!(
                "no needle carries the tags {}{hint}; make one with `assay needle new`, or correct the tag",
                shown(tags)
            )));
        }
        Ok(ready)
    }

    /// Looks at every change of the screen until a needle matches or the time is over. Answers the last screen, and
    /// the most different earlier ones.
    async fn watch_for(
        &mut self,
        needles: &[Arc<Needle>],
        timeout: f64,
    ) -> Result<(Looked, Vec<Looked>), CallError> {
        let deadline = self.deadline(timeout);
        let _demand = self.machine.demand();
        if timeout <= 0.0 {
            self.fresh().await?;
        }
        let mut earlier: Vec<Looked> = Vec::new();
        let mut seen: Option<(u64, bool, Looked)> = None;
        loop {
            let frame = self.frames.borrow_and_update().clone();
            let left = deadline.saturating_duration_since(Instant::now());
            // Every fifth second, and at the end, the whole screen is searched.
            let full = left.is_zero() || left.as_secs().is_multiple_of(5);
            let news =
                seen.as_ref().is_none_or(|(seq, was_full, _)| *seq != frame.seq || (full && !was_full));
            if news {
                let ratio = if full { SearchRatio::FULL } else { SearchRatio::NORMAL };
                let looked = look_at(frame.image.clone(), needles, ratio).await?;
                if looked.matched() {
                    return Ok((looked, Vec::new()));
                }
                if let Some((_, _, old)) = seen.replace((frame.seq, full, looked)) {
                    keep_if_different(&mut earlier, old, &frame.image);
                }
            }
            if left.is_zero() {
                break;
            }
            tokio::select! {
                changed = self.frames.changed() => changed.map_err(|_| CallError::infrastructure("the screen is gone"))?,
                () = tokio::time::sleep(until_next_search(left)) => {}
            }
        }
        match seen {
            Some((_, _, looked)) => Ok((looked, earlier)),
            None => Err(CallError::infrastructure("the machine never showed a screen")),
        }
    }

    pub(super) async fn assert_and_click(
        &mut self,
        tags: &Tags,
        timeout: f64,
        click: &Click,
        origin: &Origin,
    ) -> Answer {
        match self.look(tags, timeout, StepResult::Fail, origin).await? {
            LookResult::Miss => Err(missed(tags, timeout)),
            LookResult::Hit(hit) => {
                self.click_lastmatch(click).await?;
                Ok(json!(hit))
            }
        }
    }

    pub(super) async fn click_lastmatch(&mut self, click: &Click) -> Answer {
        let (x, y) = self.click_point(click.point_id.as_deref())?;
        let before = self.pointer;
        self.mouse_set(x, y).await?;
        self.mouse_click(click.button, click.clicktime, if click.dclick { 2 } else { 1 }).await?;
        // As openQA does. QEMU joins pointer events with equal buttons until the guest asks for them: a movement too soon
        // after the click would carry the release away from the button.
        tokio::time::sleep(AFTER_CLICK).await;
        match before {
            _ if click.mousehide => self.mouse_hide(0).await,
            // The click may have changed the resolution.
            Some((x, y)) => {
                let screen = self.present();
                let within = |at: u32, size: u32| at.min(size.saturating_sub(1));
                self.mouse_set(within(x, screen.width()), within(y, screen.height())).await
            }
            None => self.mouse_hide(0).await,
        }
    }

    /// Where to click on the needle that matched last: its click point, or the middle of its last area.
    pub(super) fn click_point(&self, point_id: Option<&str>) -> Result<(u32, u32), CallError> {
        let Some(last) = &self.last_match else {
            return Err(CallError::usage("no needle has matched yet, so there is nothing to click on"));
        };
        last.found.click_point(point_id).ok_or_else(|| match point_id {
            Some(id) => {
                CallError::usage(format!("needle {} has no click point with the id {id:?}", last.hit.name))
            }
            None => CallError::usage(format!("needle {} has no area to click on", last.hit.name)),
        })
    }

    /// Presses and releases at a place; shared by clicks and drags.
    pub(super) async fn place(
        &mut self,
        place: &assay_proto::driver::Place,
        timeout: f64,
        origin: &Origin,
    ) -> Result<(u32, u32), CallError> {
        match place {
            assay_proto::driver::Place::At(x, y) => Ok((*x, *y)),
            assay_proto::driver::Place::Needle(tags) => {
                let tags = Tags::One(tags.clone());
                match self.look(&tags, timeout, StepResult::Fail, origin).await? {
                    LookResult::Miss => Err(missed(&tags, timeout)),
                    LookResult::Hit(_) => self.click_point(None),
                }
            }
        }
    }
}

/// Bit of a button in a pointer event.
pub(super) fn button_bit(button: Button) -> u8 {
    match button {
        Button::Left => 1,
        Button::Middle => 2,
        Button::Right => 4,
    }
}

fn missed(tags: &Tags, timeout: f64) -> CallError {
    CallError::failed(format!("no needle with the tags {} matched within {timeout} s", shown(tags)))
}

fn shown(tags: &Tags) -> String {
    tags.sets().iter().map(|set| format!("{set:?}")).collect::<Vec<_>>().join(" or ")
}

/// Matching takes milliseconds to seconds of processor time, so it is done off the thread that serves the machine.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CallError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CallError::infrastructure(format!("the matcher failed: {error}")))
}

/// The needles that match this screen, best first.
async fn look_at(
    screen: Arc<Image>,
    needles: &[Arc<Needle>],
    search: SearchRatio,
) -> Result<Looked, CallError> {
    let needles = needles.to_vec();
    off_thread(move || {
        let scene = Scene::new(screen.clone());
        let matches =
            needles.iter().filter_map(|needle| ReferenceMatcher.matches(&scene, needle, search)).collect();
        Looked { screen, found: in_order(matches, &needles) }
    })
    .await
}

/// How nearly the needles match a screen on which none does, best first.
async fn with_candidates(looked: Looked, needles: &[Arc<Needle>]) -> Result<Looked, CallError> {
    let needles: Vec<Arc<Needle>> = needles.iter().take(SHOW_CANDIDATES).cloned().collect();
    off_thread(move || {
        let scene = Scene::new(looked.screen.clone());
        let measure =
            |needle: &Arc<Needle>| ReferenceMatcher.match_needle(&scene, needle, SearchRatio::NORMAL);
        let found = in_order(needles.iter().map(measure).collect(), &needles);
        Looked { found, ..looked }
    })
    .await
}

fn in_order(matches: Vec<NeedleMatch>, needles: &[Arc<Needle>]) -> Vec<Found> {
    let (best, rest) = best_of(matches);
    let with_needle = |one: NeedleMatch| {
        let needle = needles.iter().find(|needle| needle.name == one.needle)?;
        Some((needle.clone(), one))
    };
    best.into_iter().chain(rest).filter_map(with_needle).collect()
}

fn keep_if_different(earlier: &mut Vec<Looked>, old: Looked, next: &Image) {
    let last = earlier.last().map_or(next, |looked| looked.screen.as_ref());
    if similarity(last, &old.screen) < WORTH_SHOWING {
        earlier.push(old);
        if earlier.len() > SHOW_EARLIER {
            earlier.remove(0);
        }
    }
}

/// Until the time left is next a multiple of five seconds (a full search) or nothing.
fn until_next_search(left: Duration) -> Duration {
    if !left.as_secs().is_multiple_of(5) {
        // One millisecond into the second in which the whole screen is searched.
        let over = left.as_secs() % 5;
        return left.saturating_sub(Duration::from_secs(left.as_secs() - over + 1))
            + Duration::from_millis(1);
    }
    let in_second = Duration::from_nanos(u64::from(left.subsec_nanos()));
    if left.as_secs() == 0 { left } else { in_second + Duration::from_millis(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_search_comes_when_openqa_does_it() {
        for millis in [29_900, 27_123, 26_000, 25_999, 25_000, 24_999, 6_001, 5_500, 4_999, 1_001, 999, 1] {
            let left = Duration::from_millis(millis);
            let wait = until_next_search(left);
            assert!(!wait.is_zero(), "{millis}");
            let then = left.saturating_sub(wait);
            assert!(
                then.is_zero() || then.as_secs().is_multiple_of(5) || left.as_secs().is_multiple_of(5),
                "{millis} -> {then:?}"
            );
        }
    }
}
