//! Carries out what the rules want, each effect once.

use super::InForce;
use super::asks::Asks;
use crate::app::App;
use crate::results::conventions;
use crate::tasks::is_task;
use crate::web::frame::rfc3339;
use crate::whom::{Ask, Silence, Whom};
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
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

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
    let mut executor = Executor { app, epoch, later: Later::new(), asks: Asks::default(), begun: Vec::new() };
    let (mut asking, mut answered) = (FuturesUnordered::new(), Vec::new());
    let mut changes = executor.app.events.subscribe();
    loop {
        let (app, stop) = (executor.app.clone(), executor.app.shutdown.clone());
        let planned = app.outside.planned.notified();
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = executor.look(std::mem::take(&mut answered)) => looked,
        };
        for group in std::mem::take(&mut executor.begun) {
            asking.push(executor.maker().answer(group));
        }
        let pause = looked.unwrap_or_else(|error| {
            tracing::warn!(%error, "effects of rules cannot be carried out; it is tried again");
            PAUSE
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = planned => {}
            () = tokio::time::sleep(pause) => {}
            () = released(&mut changes), if executor.holds() => {}
            Some(answer) = asking.next() => answered.push(answer),
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

struct Executor {
    app: Arc<App>,
    epoch: Epoch,
    later: Later,
    /// What effects ask of others, until [`Executor::place_answered`].
    asks: Asks,
    /// Effects that ask from the end of this look on.
    begun: Vec<Vec<StoredEffect>>,
}

/// Effects that go together, and what they come to once somebody was asked.
struct Answered {
    group: Vec<StoredEffect>,
    input: Result<Input, Trouble>,
}

/// What one look at the effects comes to.
#[derive(Default)]
struct Round {
    open: Open,
    /// For the engine, with the keys of the effects.
    posts: Vec<(Input, Vec<String>)>,
    /// Effects whose turn to ask has not come.
    left: Vec<String>,
    /// Something was done, so that it is worth looking again.
    any: bool,
    /// What had a place in its rule's limit does not need it now: another may have it at once.
    freed: bool,
}

/// Why an effect waits.
enum Waits {
    /// As many jobs of the rule are open as its limit allows.
    Limit,
    /// This host is asked.
    Asks(String),
    /// Others ask first.
    Turn,
    /// A host does not answer at all.
    Silent { why: String, silence: Silence },
    /// Something outside is not as it has to be.
    Trouble(String),
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => f.write_str("as many jobs of the rule are open as its limit allows"),
            Self::Asks(host) => write!(f, "{host} is asked about it"),
            Self::Turn => f.write_str("it asks once others have their answers"),
            Self::Silent { why, silence } => {
                write!(f, "{why} {} is asked again at {}.", silence.host, rfc3339(silence.until))
            }
            Self::Trouble(why) => f.write_str(why),
        }
    }
}

impl Waits {
    /// As it is stored with the effect: for people, and for programs.
    fn caused(&self) -> String {
        let word = match self {
            Self::Limit => "limit",
            Self::Asks(_) => "asks",
            Self::Turn => "turn",
            Self::Silent { .. } => "silent",
            Self::Trouble(_) => "trouble",
        };
        let mut caused = json!({"why": self.to_string(), "waits": word});
        if let Self::Silent { silence, .. } = self {
            caused["host"] = json!(silence.host);
            caused["until"] = json!(rfc3339(silence.until));
        }
        caused.to_string()
    }
}

impl Executor {
    fn maker(&self) -> Maker {
        Maker { app: self.app.clone(), epoch: self.epoch }
    }

    fn holds(&self) -> bool {
        self.app.outside.rules().rules.iter().any(|rule| rule.limit.is_some())
    }

    /// Carries out what is due. How long there is nothing else to do.
    async fn look(&mut self, answered: Vec<Answered>) -> Result<Duration, StoreError> {
        let now = self.app.clock.now();
        let store = self.app.store.clone();
        let mut round = Round::default();
        self.place_answered(answered, &mut round).await?;
        // Those that ask are due all the time, and must not be in the way of others.
        let most = TOGETHER.saturating_add(self.asks.effects(None) as u32);
        let due = store.events().due_effects(now, most).await?;
        let full = due.len() == most as usize;
        // Also where no rule has a limit any more: they were held by one that had.
        let held = store.events().held_effects(OF_RULE).await?;
        let ready = self.let_go(held.into_iter().chain(due).collect(), &mut round.open).await?;
        if !ready.is_empty() {
            self.carry_out(ready, &mut round).await?;
        }
        self.post_ready(&mut round).await?;
        if full && !round.left.is_empty() {
            let until = now.plus_seconds(LOOK.as_secs() as i64);
            let events = store.events();
            events.postpone_effects(self.epoch, &round.left, until, &Waits::Turn.caused()).await?;
            round.any = true;
        }
        if round.freed || full && round.any {
            return Ok(Duration::ZERO);
        }
        let mut pause = LOOK;
        if let Some(next) = store.events().next_effect(now).await? {
            pause = pause.min(Duration::from_micros(next.micros_since(now).max(0) as u64));
        }
        Ok(pause.max(Duration::from_millis(5)))
    }

    /// Those that may go now; others are held. Of a rule with a limit those go first that came first, whatever kept them.
    async fn let_go(
        &self,
        mut effects: Vec<StoredEffect>,
        open: &mut Open,
    ) -> Result<Vec<StoredEffect>, StoreError> {
        effects.retain(|effect| !self.asks.has(&effect.planned.key));
        effects.sort_by(|a, b| (a.event, &a.planned.key).cmp(&(b.event, &b.planned.key)));
        let (mut ready, mut hold) = (Vec::new(), Vec::new());
        for effect in effects {
            if self.may_go(&effect, open).await? {
                ready.push(effect);
            } else if effect.state == EffectState::Waiting {
                hold.push(effect.planned.key.clone());
            }
        }
        if !hold.is_empty() {
            self.hold(hold).await?;
        }
        Ok(ready)
    }

    async fn hold(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let held = EffectsDone { keys, state: EffectState::Held, caused: Waits::Limit.caused() };
        self.app.store.events().settle_effects(self.epoch, &[held]).await
    }

    /// False if the limit of its rule is reached.
    async fn may_go(&self, effect: &StoredEffect, open: &mut Open) -> Result<bool, StoreError> {
        let Some(limit) = effect.planned.limit else { return Ok(true) };
        let count = self.count_open(&effect.planned.rule, open).await?;
        let may = *count < u64::from(limit);
        *count += u64::from(may);
        Ok(may)
    }

    /// How many jobs of a rule are open, with what is let go and what asks before it is.
    async fn count_open<'o>(&self, rule: &str, open: &'o mut Open) -> Result<&'o mut u64, StoreError> {
        if !open.contains_key(rule) {
            let filter = JobFilter {
                states: StateWord::ALL.into_iter().filter(|state| !state.is_final()).collect(),
                settings: vec![("ASSAY_RULE".to_owned(), rule.to_owned())],
                ..JobFilter::default()
            };
            let asks = self.asks.effects(Some(rule)) as u64;
            open.insert(rule.to_owned(), self.app.store.count(&filter).await? + asks);
        }
        Ok(open.entry(rule.to_owned()).or_default())
    }

    /// What has asked and was answered. Its place was kept for it; it is posted before anybody looks for what is due.
    async fn place_answered(&mut self, answered: Vec<Answered>, round: &mut Round) -> Result<(), StoreError> {
        for Answered { group, .. } in &answered {
            self.asks.end(&keys(group));
        }
        for Answered { group, input } in answered {
            if let Some(first) = group.first().filter(|first| first.planned.limit.is_some() && input.is_ok())
            {
                let count = self.count_open(&first.planned.rule, &mut round.open).await?;
                *count += group.len() as u64;
            }
            self.place(group, input, round).await?;
        }
        self.post_ready(round).await
    }

    async fn carry_out(&mut self, ready: Vec<StoredEffect>, round: &mut Round) -> Result<(), StoreError> {
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
            round.any = true;
            return Ok(());
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
        for group in groups {
            let input = self.maker().input(&group, Ask::Nobody).await;
            self.place(group, input, round).await?;
        }
        Ok(())
    }

    /// Has effects posted with others, or notes what they came to or what they wait for.
    async fn place(
        &mut self,
        group: Vec<StoredEffect>,
        input: Result<Input, Trouble>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let keys = keys(&group);
        let is_limited = group.iter().any(|effect| effect.planned.limit.is_some());
        round.freed |= is_limited && matches!(&input, Err(trouble) if !matches!(trouble, Trouble::Asks(_)));
        match input {
            Ok(input) if too_many(&group, &input, &mut round.open) => {
                let held = group.iter().all(|effect| effect.state == EffectState::Held);
                if !held {
                    self.hold(keys).await?;
                }
            }
            Ok(input) => round.posts.push((input, keys)),
            Err(Trouble::Asks(whom)) => self.ask(whom, group, keys, round),
            Err(Trouble::Missing(why)) if self.may_come(&group) => {
                self.postpone(keys, Waits::Trouble(why)).await?;
            }
            Err(Trouble::Refused(why) | Trouble::Absent(why) | Trouble::Missing(why)) => {
                round.any = true;
                self.forget_tries(&keys);
                tracing::warn!(keys = ?keys, why, "an effect of a rule is refused");
                let caused = json!({"refused": why}).to_string();
                let done = EffectsDone { keys, state: EffectState::Refused, caused };
                self.app.store.events().settle_effects(self.epoch, &[done]).await?;
            }
            Err(Trouble::Later(why)) => self.postpone(keys, Waits::Trouble(why)).await?,
            Err(Trouble::Silent { why, silence }) => {
                self.postpone(keys, Waits::Silent { why, silence }).await?;
            }
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Expanded) => {
                round.any = true;
                self.forget_tries(&keys);
            }
        }
        Ok(())
    }

    fn forget_tries(&mut self, keys: &[String]) {
        for key in keys {
            self.later.remove(key);
        }
    }

    /// Has effects ask from now on, or leaves them for the next look.
    fn ask(&mut self, whom: Whom, group: Vec<StoredEffect>, keys: Vec<String>, round: &mut Round) {
        let Some(first) = group.first() else { return };
        let (host, is_limited) = (whom.host.clone(), first.planned.limit.is_some());
        let asks = self.asks.begin(whom, &first.planned.rule, &keys);
        let why = if asks { Waits::Asks(host) } else { Waits::Turn };
        self.app.outside.state().trouble(&keys, &why.to_string());
        if asks {
            self.begun.push(group);
        } else if !is_limited {
            // One of a rule with a limit keeps its place: others of the rule are held behind it.
            round.left.extend(keys);
        }
    }

    /// True if what is not there may still come: for a day after somebody said that it is.
    fn may_come(&self, group: &[StoredEffect]) -> bool {
        let since = group.iter().map(|effect| effect.at).max();
        since.is_some_and(|since| self.app.clock.now() < since.plus_seconds(DAY))
    }

    /// Puts effects off in the store, so that they are not in the way of others meanwhile.
    async fn postpone(&mut self, keys: Vec<String>, waits: Waits) -> Result<(), StoreError> {
        let why = waits.to_string();
        tracing::warn!(?keys, why, "an effect of a rule has to wait");
        self.app.outside.state().trouble(&keys, &why);
        let until = match &waits {
            Waits::Silent { silence, .. } => silence.until,
            _ => self.app.clock.now().plus_seconds(self.pause(&keys)),
        };
        self.app.store.events().postpone_effects(self.epoch, &keys, until, &waits.caused()).await
    }

    /// Seconds until effects are tried again, more each time.
    fn pause(&mut self, keys: &[String]) -> i64 {
        let mut pause = 1;
        for key in keys {
            let tries = self.later.entry(key.clone()).or_insert(0);
            *tries += 1;
            pause = pause.max((1_i64 << (*tries).min(9)).min(LONGEST));
        }
        pause
    }
}

/// Makes what the engine takes of effects, or does what needs nothing of the engine.
struct Maker {
    app: Arc<App>,
    epoch: Epoch,
}

impl Maker {
    /// What effects come to; whoever has to be asked is asked. It is a task of its own, which goes on while the executor
    /// looks at others: a turn to write that nobody takes would keep everybody waiting for ever, and the executor too.
    fn answer(self, group: Vec<StoredEffect>) -> impl Future<Output = Answered> {
        let effects = group.clone();
        let tasks = self.app.tasks.clone();
        let asked = tasks.spawn(async move { self.input(&effects, Ask::Others).await });
        let asked = AbortOnDropHandle::new(asked);
        async move {
            let input = asked.await.unwrap_or_else(|error| {
                let why = format!("Assay fell over it, which is a bug: {error}");
                Err(if error.is_panic() { Trouble::Refused(why) } else { Trouble::Later(why) })
            });
            Answered { group, input }
        }
    }

    async fn input(&self, group: &[StoredEffect], ask: Ask) -> Result<Input, Trouble> {
        let effects: Vec<PlannedEffect> = group.iter().map(|effect| effect.planned.effect.clone()).collect();
        let Some(first) = group.first() else {
            return Err(Trouble::Refused("there is nothing to do".to_owned()));
        };
        match merge(&effects) {
            Some(PlannedEffect::Job { settings, priority }) => {
                let job = NewJob { priority, ..NewJob::new(self.job_settings(settings)?) };
                Ok(self.app.resolve_tasks(Input::PostJobs { jobs: vec![job] }, ask).await?)
            }
            Some(PlannedEffect::Product { settings }) => {
                let by = format!("rule {}", first.planned.rule);
                self.product(settings, &by, ask).await
            }
            Some(PlannedEffect::Pipeline { pipeline, project, branch }) => {
                if ask == Ask::Nobody {
                    return Err(Trouble::Asks(Whom { host: project, what: branch }));
                }
                let update = self.app.ref_now(&project, &branch).await.map_err(Trouble::Later)?;
                let command = Command::EnqueueRef { pipeline: pipeline.as_str().into(), update };
                let by = format!("rule {}", first.planned.rule);
                Ok(Input::Gate(Box::new(GateInput::Command { command, by })))
            }
            Some(effect @ (PlannedEffect::Compose { .. } | PlannedEffect::Update { .. })) => {
                if ask == Ask::Nobody
                    && let Some(whom) = self.app.asks_whom(&effect)
                {
                    return Err(Trouble::Asks(whom));
                }
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

    /// When the message was sent, so that what arrives or is wanted late is not the newest; by a clock that is ahead, or if
    /// it does not say, when it arrived.
    async fn found_at(&self, effect: &StoredEffect) -> Result<Timestamp, StoreError> {
        let message = self.app.store.events().message(effect.event).await?;
        Ok(message.map_or(effect.at, |stored| {
            let received = stored.received_at;
            stored.message.sent_at.map_or(received, |sent| sent.min(received))
        }))
    }

    /// An effect that needs nothing of the engine is done.
    async fn settle(&self, effect: &StoredEffect, caused: serde_json::Value) -> Result<Input, Trouble> {
        let keys = vec![effect.planned.key.clone()];
        let done = EffectsDone { keys, state: EffectState::Done, caused: caused.to_string() };
        self.app.store.events().settle_effects(self.epoch, &[done]).await?;
        Err(Trouble::Expanded)
    }

    async fn product(
        &self,
        settings: BTreeMap<String, String>,
        by: &str,
        ask: Ask,
    ) -> Result<Input, Trouble> {
        let (request, mut plan) = self.app.plan_wanted(settings).map_err(Trouble::Refused)?;
        let spared = match &plan.old_builds {
            Some(obsolete) => self.app.spared(obsolete).await.map_err(|fault| Trouble::Later(fault.error))?,
            None => BTreeSet::new(),
        };
        Ok(self.app.resolve_tasks(plan.take_input(&request, by, spared), ask).await?)
    }
}

impl Executor {
    async fn post_ready(&mut self, round: &mut Round) -> Result<(), StoreError> {
        round.any |= !round.posts.is_empty();
        self.post(std::mem::take(&mut round.posts)).await
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
                Some(Ok(_)) => self.forget_tries(&keys),
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

/// What names effects that go together.
fn keys(group: &[StoredEffect]) -> Vec<String> {
    group.iter().map(|effect| effect.planned.key.clone()).collect()
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
    /// Nor does its host answer at all.
    Silent { why: String, silence: Silence },
    /// Somebody outside has to be asked first.
    Asks(Whom),
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
            crate::tasks::Unresolved::Silent { why, silence } => Self::Silent { why, silence },
            crate::tasks::Unresolved::Unknown(whom) => Self::Asks(whom),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_effect_waits_for_is_said_for_people_and_for_programs() {
        let silence = Silence { host: "git.example.org".to_owned(), until: Timestamp(1_700_000_000_000_000) };
        let why = "Where main stands is not known.".to_owned();
        for (waits, caused) in [
            (
                Waits::Silent { why, silence },
                json!({"waits": "silent", "host": "git.example.org", "until": "2023-11-14T22:13:20Z",
                    "why": "Where main stands is not known. git.example.org is asked again at 2023-11-14T22:13:20Z."}),
            ),
            (Waits::Trouble("no".to_owned()), json!({"waits": "trouble", "why": "no"})),
        ] {
            let stored: serde_json::Value = serde_json::from_str(&waits.caused()).expect("JSON");
            assert_eq!(stored, caused);
        }
    }
}
