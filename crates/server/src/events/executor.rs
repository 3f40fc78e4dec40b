//! Carries out what the rules want, each effect once.

use super::InForce;
use crate::app::App;
use crate::results::conventions;
use crate::tasks::is_task;
use assay_engine::gate;
use assay_engine::gate::io::{Command, Input as GateInput};
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::io::{Answer, Input, NewJob};
use assay_engine::job::StateWord;
use assay_engine::product;
use assay_engine::reason::Refusal;
use assay_engine::rules::{FoundElsewhere, Planned, PlannedEffect, merge};
use assay_engine::settings::Settings;
use assay_store::{EffectState, EffectsDone, Epoch, JobFilter, StoreError, StoredEffect};
use axum::http::StatusCode;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Effects that are looked at together.
const TOGETHER: u32 = 512;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How often held effects are looked at when nothing happens.
const LOOK: Duration = Duration::from_secs(5);
/// The longest pause before what needs something outside is tried again.
const LONGEST: i64 = 300;
const DAY: i64 = 86_400;

/// What came of an input that carries out effects, for the driver to store with it.
pub(crate) fn carried_out(keys: Vec<String>, answer: &Result<Answer, Refusal>) -> EffectsDone {
    let ids = |jobs: &[JobId]| jobs.iter().map(|job| job.0).collect::<Vec<_>>();
    let (state, caused) = match answer {
        Ok(Answer::Posted(jobs)) => (EffectState::Done, json!({"jobs": ids(jobs)})),
        Ok(Answer::Product { run, jobs, .. }) => {
            (EffectState::Done, json!({"product": run.0, "jobs": ids(jobs)}))
        }
        Ok(_) => (EffectState::Done, json!({})),
        // Somebody else was quicker: what the rule wants is so.
        Err(Refusal::Gate(gate::reason::Refusal::AlreadyThere { item })) => {
            (EffectState::Done, json!({"item": item.0}))
        }
        Err(refusal) => (EffectState::Refused, json!({"refused": refusal.to_string()})),
    };
    EffectsDone { keys, state, caused: caused.to_string() }
}

/// What was tried in vain, and how often. When it is tried again is stored.
type Later = BTreeMap<String, u32>;
/// Jobs of rules that are open.
type Open = BTreeMap<String, u64>;
/// Held effects of one rule that are looked at together.
const OF_RULE: u32 = 64;

pub(super) async fn run(app: Arc<App>, epoch: Epoch) {
    let mut executor = Executor { app, epoch, later: Later::new() };
    let mut changes = executor.app.events.subscribe();
    loop {
        let (app, stop) = (executor.app.clone(), executor.app.shutdown.clone());
        let planned = app.outside.planned.notified();
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = executor.look() => looked,
        };
        let pause = match looked {
            Ok(Next::Now) => continue,
            Ok(Next::In(pause)) => pause,
            Err(error) => {
                tracing::warn!(%error, "effects of rules cannot be carried out; it is tried again");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = planned => {}
            () = tokio::time::sleep(pause) => {}
            () = released(&mut changes), if executor.holds() => {}
        }
    }
}

/// Waits until something happens to a job.
async fn released(changes: &mut tokio::sync::broadcast::Receiver<assay_proto::api::Event>) {
    while let Ok(event) = changes.recv().await {
        if matches!(event, assay_proto::api::Event::Job { .. }) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

enum Next {
    Now,
    In(Duration),
}

struct Executor {
    app: Arc<App>,
    epoch: Epoch,
    later: Later,
}

impl Executor {
    fn holds(&self) -> bool {
        self.app.outside.rules().rules.iter().any(|rule| rule.limit.is_some())
    }

    async fn look(&mut self) -> Result<Next, StoreError> {
        let now = self.app.clock.now();
        let store = self.app.store.clone();
        let due = store.events().due_effects(now, TOGETHER).await?;
        let full = due.len() == TOGETHER as usize;
        let held = if self.holds() { store.events().held_effects(OF_RULE).await? } else { Vec::new() };
        let mut any = false;
        let mut open = Open::new();
        let (mut ready, mut hold) = (Vec::new(), Vec::new());
        for effect in held.into_iter().chain(due) {
            if self.may_go(&effect, &mut open).await? {
                ready.push(effect);
            } else if effect.state == EffectState::Waiting {
                hold.push(effect.planned.key.clone());
            }
        }
        if !hold.is_empty() {
            self.hold(hold).await?;
        }
        if !ready.is_empty() {
            any = self.carry_out(ready, &mut open).await?;
        }
        if full && any {
            return Ok(Next::Now);
        }
        let mut pause = LOOK;
        if let Some(next) = store.events().next_effect().await?
            && next > now
        {
            pause = pause.min(Duration::from_micros(next.micros_since(now).max(0) as u64));
        }
        Ok(Next::In(pause.max(Duration::from_millis(5))))
    }

    async fn hold(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let caused = json!({"why": "as many jobs of the rule are open as its limit allows"}).to_string();
        let held = EffectsDone { keys, state: EffectState::Held, caused };
        self.app.store.events().settle_effects(self.epoch, &[held]).await
    }

    /// False if the limit of its rule is reached. `open` counts what is let go, too.
    async fn may_go(&self, effect: &StoredEffect, open: &mut Open) -> Result<bool, StoreError> {
        let rule = &effect.planned.rule;
        let Some(limit) = effect.planned.limit else { return Ok(true) };
        if !open.contains_key(rule) {
            let filter = JobFilter {
                states: StateWord::ALL.into_iter().filter(|state| !state.is_final()).collect(),
                settings: vec![("ASSAY_RULE".to_owned(), rule.clone())],
                ..JobFilter::default()
            };
            open.insert(rule.clone(), self.app.store.count(&filter).await?);
        }
        let Some(count) = open.get_mut(rule) else { return Ok(true) };
        let may = *count < u64::from(limit);
        *count += u64::from(may);
        Ok(may)
    }

    /// True if something was done, so that it is worth looking again.
    async fn carry_out(&mut self, ready: Vec<StoredEffect>, open: &mut Open) -> Result<bool, StoreError> {
        if self.app.outside.is_staging() {
            for effect in &ready {
                tracing::info!(
                    rule = effect.planned.rule,
                    what = effect.planned.effect.summary(),
                    "staging: this would be done"
                );
            }
            let keys = ready.into_iter().map(|effect| effect.planned.key).collect();
            let caused = json!({"staging": "this server is staging (mode in assay.toml)"}).to_string();
            let done = EffectsDone { keys, state: EffectState::Logged, caused };
            self.app.store.events().settle_effects(self.epoch, &[done]).await?;
            return Ok(true);
        }
        let mut groups: BTreeMap<String, Vec<StoredEffect>> = BTreeMap::new();
        for effect in ready {
            let name = effect
                .group()
                .map_or_else(|| format!("1 {}", effect.planned.key), |group| format!("2 {group}"));
            groups.entry(name).or_default().push(effect);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group.first().map(|effect| (effect.due_at, effect.event)));
        let mut posts = Vec::new();
        let mut any = false;
        for group in groups {
            let keys: Vec<String> = group.iter().map(|effect| effect.planned.key.clone()).collect();
            match self.input(&group).await {
                Ok(input) if too_many(&group, &input, open) => {
                    let held = group.iter().all(|effect| effect.state == EffectState::Held);
                    if !held {
                        self.hold(keys).await?;
                    }
                }
                Ok(input) => posts.push((input, keys)),
                Err(Trouble::Missing(why)) if self.may_come(&group) => self.postpone(keys, &why).await?,
                Err(Trouble::Refused(why) | Trouble::Absent(why) | Trouble::Missing(why)) => {
                    any = true;
                    tracing::warn!(keys = ?keys, why, "an effect of a rule is refused");
                    let caused = json!({"refused": why}).to_string();
                    let done = EffectsDone { keys, state: EffectState::Refused, caused };
                    self.app.store.events().settle_effects(self.epoch, &[done]).await?;
                }
                Err(Trouble::Later(why)) => self.postpone(keys, &why).await?,
                Err(Trouble::Store(error)) => return Err(error),
                Err(Trouble::Expanded) => any = true,
            }
        }
        any |= !posts.is_empty();
        self.post(posts).await?;
        Ok(any)
    }

    /// True if what is not there may still come: for a day after somebody said that it is.
    fn may_come(&self, group: &[StoredEffect]) -> bool {
        let since = group.iter().map(|effect| effect.at).max();
        since.is_some_and(|since| self.app.clock.now() < since.plus_seconds(DAY))
    }

    /// Puts effects off in the store, so that they are not in the way of others meanwhile.
    async fn postpone(&mut self, keys: Vec<String>, why: &str) -> Result<(), StoreError> {
        tracing::warn!(?keys, why, "an effect of a rule has to wait");
        self.app.outside.state().trouble(&keys, why);
        let mut pause = 1;
        for key in &keys {
            let tries = self.later.entry(key.clone()).or_insert(0);
            *tries += 1;
            pause = pause.max((1_i64 << (*tries).min(9)).min(LONGEST));
        }
        let until = self.app.clock.now().plus_seconds(pause);
        let caused = json!({ "why": why }).to_string();
        self.app.store.events().postpone_effects(self.epoch, &keys, until, &caused).await
    }

    async fn input(&self, group: &[StoredEffect]) -> Result<Input, Trouble> {
        let effects: Vec<PlannedEffect> = group.iter().map(|effect| effect.planned.effect.clone()).collect();
        let Some(first) = group.first() else {
            return Err(Trouble::Refused("there is nothing to do".to_owned()));
        };
        match merge(&effects) {
            Some(PlannedEffect::Job { settings, priority }) => {
                let job = NewJob { priority, ..NewJob::new(self.job_settings(settings)?) };
                Ok(self.app.resolve_tasks(Input::PostJobs { jobs: vec![job] }).await?)
            }
            Some(PlannedEffect::Product { settings }) => {
                let by = format!("rule {}", first.planned.rule);
                self.product(settings, &by).await
            }
            Some(PlannedEffect::Pipeline { pipeline, project, branch }) => {
                let update = self.app.ref_now(&project, &branch).await.map_err(Trouble::Later)?;
                let command = Command::EnqueueRef { pipeline: pipeline.as_str().into(), update };
                let by = format!("rule {}", first.planned.rule);
                Ok(Input::Gate(Box::new(GateInput::Command { command, by })))
            }
            Some(effect @ (PlannedEffect::Compose { .. } | PlannedEffect::Update { .. })) => {
                let mut parts = self.app.expand(first, &effect).await?;
                for part in &mut parts {
                    of_rule(part, &first.planned);
                }
                let caused = json!({"parts": parts.iter().map(|part| part.key.clone()).collect::<Vec<_>>()})
                    .to_string();
                let keys = group.iter().map(|effect| effect.planned.key.clone()).collect();
                let done = EffectsDone { keys, state: EffectState::Done, caused };
                let (at, event) = (self.app.clock.now(), first.event);
                self.app.store.events().expand_effect(self.epoch, at, event, &done, &parts).await?;
                self.app.outside.planned.notify_one();
                Err(Trouble::Expanded)
            }
            Some(PlannedEffect::Comment { group, text }) => {
                let comment = self.app.say_of_group(&group, &text).await?;
                self.settle(first, json!({"comment": comment})).await
            }
            Some(PlannedEffect::Result(found)) => self.store_result(first, &found).await,
            None => Err(Trouble::Refused("there is nothing to do".to_owned())),
        }
    }

    /// What all jobs have, those of rules have as well. A task brings its tests along.
    fn job_settings(&self, settings: BTreeMap<String, String>) -> Result<Settings, Trouble> {
        // It is asked of what the rule says: a CASEDIR of all jobs would make a test of a machine of it.
        let wanted = Settings::from_request(settings.clone());
        if is_task(&wanted) {
            return Ok(wanted);
        }
        let global = self.app.library.now().global.clone();
        product::over_global(&global, &settings).map_err(Trouble::Refused)
    }

    /// Stores what somebody else has found, once under the effect's key.
    async fn store_result(&self, effect: &StoredEffect, found: &FoundElsewhere) -> Result<Input, Trouble> {
        let settings = self.app.results.settings();
        if !settings.outcomes().any(|known| known == found.outcome) {
            let known: Vec<&str> = settings.outcomes().collect();
            let why = format!(
                "{:?} is no outcome; there are {}. `outcomes` of the rule says what words mean",
                found.outcome,
                known.join(", ")
            );
            return Err(Trouble::Refused(why));
        }
        let Some(item) = effect.planned.item.as_ref().filter(|item| !item.id.is_empty()) else {
            let why = "nothing says what was tested; the rule needs `item`".to_owned();
            return Err(Trouble::Refused(why));
        };
        if found.testcase.trim().is_empty() {
            return Err(Trouble::Refused("the test case has no name".to_owned()));
        }
        let at = self.found_at(effect).await?;
        let result = conventions::found_elsewhere(found, item, &effect.planned.key, at, &settings.bodhi);
        let posted = self.app.results.post(result).await.map_err(|fault| Trouble::Later(fault.error))?;
        self.settle(effect, json!({"result": posted.id().0})).await
    }

    /// When the message was sent, so that what arrives late is not the newest; by a clock that is ahead, now.
    async fn found_at(&self, effect: &StoredEffect) -> Result<Timestamp, StoreError> {
        let message = self.app.store.events().message(effect.event).await?;
        let sent = message.and_then(|stored| stored.message.sent_at);
        Ok(sent.map_or(effect.at, |sent| sent.min(effect.at)))
    }

    /// An effect that needs nothing of the engine is done.
    async fn settle(&self, effect: &StoredEffect, caused: serde_json::Value) -> Result<Input, Trouble> {
        let keys = vec![effect.planned.key.clone()];
        let done = EffectsDone { keys, state: EffectState::Done, caused: caused.to_string() };
        self.app.store.events().settle_effects(self.epoch, &[done]).await?;
        Err(Trouble::Expanded)
    }

    async fn product(&self, settings: BTreeMap<String, String>, by: &str) -> Result<Input, Trouble> {
        let (request, mut plan) = self.app.plan_wanted(settings).map_err(Trouble::Refused)?;
        let spared = match &plan.old_builds {
            Some(obsolete) => self.app.spared(obsolete).await.map_err(|fault| Trouble::Later(fault.error))?,
            None => BTreeSet::new(),
        };
        Ok(self.app.resolve_tasks(plan.take_input(&request, by, spared)).await?)
    }

    /// Gives inputs to the driver, all at once, so that they share transactions.
    async fn post(&mut self, posts: Vec<(Input, Vec<String>)>) -> Result<(), StoreError> {
        let engine = &self.app.engine;
        let keys: Vec<Vec<String>> = posts.iter().map(|(_, keys)| keys.clone()).collect();
        let answers = posts.into_iter().map(|(input, keys)| engine.carry_out(input, keys));
        let answers = futures_util::future::join_all(answers).await;
        let mut doubtful = false;
        let mut refused = Vec::new();
        for (answer, keys) in answers.into_iter().zip(keys) {
            match answer {
                Some(Ok(_)) => {
                    for key in keys {
                        self.later.remove(&key);
                    }
                }
                // The refusal itself is stored by the driver, unless nothing was.
                Some(Err(fault))
                    if fault.status.is_client_error()
                        || fault.status == StatusCode::INTERNAL_SERVER_ERROR =>
                {
                    let caused = json!({"refused": fault.error}).to_string();
                    refused.push(EffectsDone { keys, state: EffectState::Refused, caused });
                }
                Some(Err(_)) | None => doubtful = true,
            }
        }
        if !refused.is_empty() {
            self.app.store.events().settle_effects(self.epoch, &refused).await?;
        }
        if doubtful {
            self.settle_doubts().await;
        }
        Ok(())
    }

    /// Whether the driver's last transaction was stored is known when it has taken another input: only then may the store
    /// be asked again for what is not done.
    async fn settle_doubts(&self) {
        while self.app.engine.ask(Input::Tick).await.is_err() {
            if self.app.shutdown.is_cancelled() {
                return;
            }
            tokio::time::sleep(PAUSE / 10).await;
        }
    }
}

/// A part of what a rule wants is the rule's: its limit holds for it, and its jobs say so.
fn of_rule(part: &mut Planned, whole: &Planned) {
    part.rule.clone_from(&whole.rule);
    part.limit = whole.limit;
    if let PlannedEffect::Job { settings, .. } | PlannedEffect::Product { settings } = &mut part.effect {
        settings.entry("ASSAY_RULE".to_owned()).or_insert_with(|| whole.rule.clone());
    }
}

/// True if the rule's limit has no room for all jobs of an input. One that never has is let go when nothing else is open.
fn too_many(group: &[StoredEffect], input: &Input, open: &mut Open) -> bool {
    let Some((first, limit)) = group.first().and_then(|first| Some((first, first.planned.limit?))) else {
        return false;
    };
    let jobs = match input {
        Input::PostJobs { jobs } | Input::PostProduct { jobs, .. } => jobs.len() as u64,
        _ => 1,
    };
    // Each effect of the group has been counted as one.
    let open = open.entry(first.planned.rule.clone()).or_default();
    let others = open.saturating_sub(group.len() as u64);
    if others > 0 && others + jobs > u64::from(limit) {
        *open = others;
        return true;
    }
    *open = others + jobs;
    false
}

/// Why an effect cannot be carried out now.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nor ever.
    Refused(String),
    /// What it is about is not there.
    Absent(String),
    /// What it is about is not there; it may come.
    Missing(String),
    /// Something outside does not answer.
    Later(String),
    /// The store.
    Store(StoreError),
    /// It is done: it was taken apart, and its parts are stored; or its result is.
    Expanded,
}

impl From<crate::tasks::Unresolved> for Trouble {
    fn from(error: crate::tasks::Unresolved) -> Self {
        match error {
            crate::tasks::Unresolved::Wrong(why) => Self::Refused(why),
            crate::tasks::Unresolved::Later(why) => Self::Later(why),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl InForce {
    /// What keeps effects waiting, for people.
    fn trouble(&mut self, keys: &[String], why: &str) {
        const MOST: usize = 100;
        for key in keys {
            self.waiting.insert(key.clone(), why.to_owned());
        }
        while self.waiting.len() > MOST {
            self.waiting.pop_first();
        }
    }
}
