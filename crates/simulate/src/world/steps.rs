//! One input of the gate: decided, stored, carried out.

use super::Restart;
use super::World;
use super::agenda::Delivery;
use super::words::{land_word, outcome_word};
use crate::check::Violation;
use assay_engine::gate::ids::PipelineName;
use assay_engine::gate::io::{Answer, Command, Effect, Input, Step};
use assay_engine::gate::item::ItemPhase;
use assay_engine::gate::reason::{EnqueueRefusal, Ignored, Refusal};
use assay_engine::gate::rows::GateRow;
use assay_engine::ids::Timestamp;

/// True for what outside may say twice, and what is not kept apart by a key as events are.
fn comes_again(input: &Input) -> bool {
    matches!(
        input,
        Input::Facts(_)
            | Input::Merged { .. }
            | Input::BuildStarted { .. }
            | Input::BuildEnded { .. }
            | Input::Landed { .. }
    )
}

impl World {
    /// One input: decided, stored, carried out; or lost by a death in between.
    pub fn feed(&mut self, input: Input) {
        self.now = Timestamp(self.now.0 + 1);
        self.steps += 1;
        let dying = self.dying.take();
        let durable = matches!(
            input,
            Input::Event(_)
                | Input::BuildEnded { .. }
                | Input::BuildStarted { .. }
                | Input::Command { .. }
                | Input::Configure(_)
        );
        if dying == Some(Restart::BeforeCommit) {
            let _ = self.gate.step(input.clone(), self.now);
            // What led to the input has not happened for the gate yet.
            self.checks.is_paused = true;
            self.restart();
            self.checks.is_paused = false;
            if durable {
                self.feed(input);
            }
            return;
        }
        let change = match &input {
            Input::Event(event) => event.change.as_ref().map(|patchset| patchset.change.number),
            Input::Command { command: Command::Enqueue { patchset, .. }, .. } => Some(patchset.change.number),
            _ => None,
        };
        let asked = match &input {
            Input::Command { command: Command::Enqueue { pipeline, .. }, .. } => Some(pipeline.clone()),
            _ => None,
        };
        let about = self.notes.is_some().then(|| Self::tell_input(&input)).flatten();
        let again = (self.checks.looks() && comes_again(&input)).then(|| input.clone());
        let step = self.gate.step(input, self.now);
        if let Some(input) = again {
            self.feed_again(input);
        }
        if let Some((what, text)) = about {
            self.note(what, |_| text);
        }
        self.answer(change, asked.as_ref(), &step);
        let effects = self.store(step);
        if dying == Some(Restart::AfterCommit) {
            self.restart();
        } else {
            for effect in effects {
                self.carry_out(effect);
            }
        }
        self.check();
    }

    /// Answers and facts that come again change nothing.
    pub(crate) fn feed_again(&mut self, input: Input) {
        let is_facts = matches!(input, Input::Facts(_));
        let mut twin = self.gate.clone();
        let step = twin.step(input, self.now);
        // Facts may be stored again, as they are.
        let changed = if is_facts { twin.rows() != self.gate.rows() } else { !step.effects.is_empty() };
        if changed {
            let what = format!("an answer comes twice, and leads to {:?}", step.effects);
            self.checks.found(Violation::new("I17", what));
        }
    }

    pub(super) fn check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        checks.after_step(self);
        self.checks = checks;
    }

    pub(super) fn refusal_is_so(&mut self, pipeline: &PipelineName, reason: &EnqueueRefusal) {
        if let Err(why) = crate::refusal::is_so(self, pipeline, reason) {
            let what = format!("{pipeline} refuses a change because \"{reason}\", and {why}");
            self.checks.found(Violation::new("I7", what));
        }
    }

    pub(super) fn answer(&mut self, change: Option<u64>, asked: Option<&PipelineName>, step: &Step) {
        match &step.answer {
            Ok(Answer::Event(verdicts)) => {
                for (pipeline, verdict) in verdicts {
                    if let Err(why) = verdict {
                        if let Ignored::Refused(reason) = why {
                            self.refusal_is_so(pipeline, reason);
                        }
                        let text = why.to_string();
                        self.note("ignored", |_| format!("{pipeline}: {text}"));
                        self.refused.push((change, pipeline.clone(), text));
                    }
                }
            }
            Ok(Answer::Done | Answer::Autohold(_)) => {}
            Err(refusal) => {
                if let (Refusal::Refused(reason), Some(pipeline)) = (refusal, asked) {
                    self.refusal_is_so(pipeline, reason);
                }
                let text = refusal.to_string();
                self.note("refused", |_| text.clone());
                self.refused.push((change, PipelineName::from(""), text));
            }
        }
    }

    pub(super) fn tell_input(input: &Input) -> Option<(&'static str, String)> {
        let told = match input {
            Input::Configure(_) => ("configure", "a new configuration".to_owned()),
            Input::Event(event) => {
                let about = match (&event.change, &event.ref_update, &event.timer) {
                    (Some(patchset), _, _) => patchset.to_string(),
                    (_, Some(update), _) => format!("{} {}", update.project, update.name),
                    (_, _, Some((project, time))) => format!("{project} {time}"),
                    _ => String::new(),
                };
                let votes: Vec<String> =
                    event.approvals.iter().map(|(label, value)| format!(" {label}{value:+}")).collect();
                ("event", format!("{} {about}{}", event.kind.word(), votes.concat()))
            }
            Input::Command { command, by } => ("command", format!("{by}: {command}")),
            Input::Merged { merge, result: Err(why) } => ("merge", format!("{merge}: {why}")),
            Input::Landed { item, result } => ("landed", format!("item {item}: {}", land_word(result))),
            _ => return None,
        };
        Some(told)
    }

    /// Stores what is to be stored; starts and ends of builds are in the same transaction. Returns the rest.
    pub(super) fn store(&mut self, step: Step) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Save(row) => {
                    self.saved(&row);
                    self.database.save(*row);
                }
                Effect::StartBuild(request) => self.start_build(&request),
                Effect::CancelBuild(build) => self.cancel_build(build),
                other => rest.push(other),
            }
        }
        rest
    }

    pub(super) fn saved(&mut self, row: &GateRow) {
        let GateRow::Item(item) = row else {
            if let GateRow::Queue(queue) = row {
                self.note("queue", |_| {
                    let hold = queue.hold.as_ref().map(|(why, _)| format!(", held: {why}"));
                    format!(
                        "{} {}: window {}{}",
                        queue.pipeline,
                        queue.queue,
                        queue.window,
                        hold.unwrap_or_default()
                    )
                });
            }
            return;
        };
        let before = self.database.item(item.id).cloned();
        let mut checks = std::mem::take(&mut self.checks);
        checks.item_saved(self, before.as_deref(), item);
        self.checks = checks;
        if self.notes.is_none() {
            return;
        }
        let name = format!("{} {} (item {})", item.pipeline, item.subject, item.id);
        match &before {
            None => self.note("item", |_| format!("{name} is in: {}", item.because)),
            Some(before) if before.buildset.number != item.buildset.number => {
                let because = item.buildset.because.as_ref().map(ToString::to_string).unwrap_or_default();
                self.note("reset", |_| format!("{name} starts anew: {because}"));
            }
            Some(_) => {}
        }
        if let ItemPhase::Ended(end) = &item.phase
            && before.as_ref().is_none_or(|before| before.is_live())
        {
            let word = outcome_word(&end.outcome);
            let why: Vec<String> = end.failures.iter().map(ToString::to_string).collect();
            self.note("out", |_| format!("{name} {word} {}", why.join(", ")));
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Merge(merge) => self.merge(merge),
            Effect::Report(report) => self.later(0, Delivery::Report(report)),
            Effect::Land(request) => {
                let delay = self.span(self.timing.land);
                self.later(delay, Delivery::Land(request));
            }
            Effect::Refresh(ids) => {
                let delay = self.span(self.timing.event);
                self.later(delay, Delivery::Facts(ids));
            }
            Effect::Offer { merged, project } => {
                for event in self.gerrit.open_of(&merged, &project) {
                    self.announce(event);
                }
            }
            Effect::Save(_) | Effect::StartBuild(_) | Effect::CancelBuild(_) | Effect::Changed(_) => {}
        }
    }
}
