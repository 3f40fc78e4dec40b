//! From a message to what is done about it.

use super::cond::Why;
use super::expr::{Context, Expr, RenderError, Template};
use super::item::{Item, say};
use super::message::{Message, item_value};
use super::{Action, FanOut, Once, ResultTemplate, Rule, RuleSet};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The most effects that one rule makes of one message.
const MOST: usize = 1_000;

/// Something to do, once under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Happens once, whatever is delivered again.
    pub key: String,
    /// By which rule.
    pub rule: String,
    /// What is under test.
    pub item: Option<Item>,
    /// Waits for others of its kind.
    pub batch: Option<BatchKey>,
    /// At most so many jobs of the rule are open at once.
    pub limit: Option<u32>,
    /// What it is made of is done once more, whatever was done before: tells this time from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<String>,
    /// What.
    pub effect: PlannedEffect,
}

impl Planned {
    /// The same once more, for the `generation`th time.
    #[must_use]
    pub fn again(mut self, generation: u32) -> Self {
        self.key = format!("{}#{generation}", self.key);
        self.force = Some(match self.force {
            Some(force) => format!("{force}#{generation}"),
            None => generation.to_string(),
        });
        self
    }
}

/// What goes together, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchKey {
    /// The same for what goes together.
    pub by: String,
    /// From the first on, microseconds.
    pub window: i64,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum PlannedEffect {
    /// A job is posted.
    Job {
        /// Its settings.
        settings: BTreeMap<String, String>,
        /// Its priority.
        priority: Option<i32>,
    },
    /// A product is posted.
    Product {
        /// What is posted.
        settings: BTreeMap<String, String>,
    },
    /// A ref goes into a pipeline.
    Pipeline {
        /// The pipeline.
        pipeline: String,
        /// The project.
        project: String,
        /// The branch.
        branch: String,
    },
    /// The images of a compose are scheduled.
    Compose {
        /// Where it is.
        location: String,
    },
    /// The tests of an update are scheduled.
    Update {
        /// Its id.
        id: String,
        /// The release.
        release: String,
        /// Its builds.
        builds: Vec<String>,
        /// Groups of the critical path.
        groups: Vec<String>,
        /// It is on the critical path; without groups that means all of them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        critpath: bool,
        /// Updates of its release are made of each build by itself; none if the message does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        automatic: Option<bool>,
    },
    /// Something is said on the page of a group of jobs.
    Comment {
        /// Its name or its number.
        group: String,
        /// What is said.
        text: String,
    },
    /// A result is stored.
    Result(FoundElsewhere),
}

/// A result that somebody else has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundElsewhere {
    /// The test case.
    pub testcase: String,
    /// In capitals.
    pub outcome: String,
    /// Who has tested.
    pub source: Option<String>,
    /// A remark.
    pub note: Option<String>,
    /// Where the test's logs are.
    pub ref_url: Option<String>,
    /// What else is known.
    pub data: BTreeMap<String, String>,
}

impl PlannedEffect {
    /// One line for people.
    pub fn summary(&self) -> String {
        let get =
            |settings: &BTreeMap<String, String>, key: &str| settings.get(key).cloned().unwrap_or_default();
        match self {
            Self::Job { settings, .. } if get(settings, "BACKEND") == "task" => {
                let arch = settings.get("ARCH").map(|arch| format!(" on {arch}")).unwrap_or_default();
                format!("task {} of {}{arch}", get(settings, "TASK"), get(settings, "ITEM"))
            }
            Self::Job { settings, .. } => format!("job {}", get(settings, "TEST")),
            Self::Product { settings } => {
                let parts = ["DISTRI", "VERSION", "FLAVOR", "ARCH", "BUILD"].map(|key| get(settings, key));
                format!("product {}", parts.join("-"))
            }
            Self::Pipeline { pipeline, project, branch } => {
                format!("pipeline {pipeline}: {project} {branch}")
            }
            Self::Compose { location } => format!("compose {location}"),
            Self::Update { id, release, .. } => format!("update {id} {release}"),
            Self::Comment { group, text } => format!("comment on {group}: {text}"),
            Self::Result(found) => format!("result {} {}", found.testcase, found.outcome),
        }
    }
}

/// What a message leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is done.
    pub effects: Vec<Planned>,
    /// The rules that match.
    pub matched: Vec<String>,
    /// The rules that match and cannot be carried out, and why.
    pub failed: Vec<(String, String)>,
}

/// What a rule makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It matches.
    Does(Vec<Planned>),
    /// It does not.
    Not(Why),
    /// It matches, and the message lacks something that it needs.
    Fails(String),
}

/// A rule and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The rule's name.
    pub rule: String,
    /// The file and the line.
    pub place: String,
    /// What it makes of the message.
    pub verdict: Verdict,
}

/// Finds out what a message leads to.
pub fn plan(rules: &RuleSet, message: &Message) -> Plan {
    let mut plan = Plan::default();
    let context = message.context(None);
    for rule in rules.rules.iter().filter(|rule| rule.enabled) {
        if !rule.when.is_met(message.topic(), &context) {
            continue;
        }
        match targets(rule, message) {
            Ok(effects) if effects.is_empty() => {}
            Ok(effects) => {
                plan.matched.push(rule.name.clone());
                plan.effects.extend(effects);
            }
            Err(why) => plan.failed.push((rule.name.clone(), why)),
        }
    }
    plan
}

/// What every rule makes of a message.
pub fn explain(rules: &RuleSet, message: &Message) -> Vec<Said> {
    let context = message.context(None);
    let verdict = |rule: &Rule| {
        if !rule.enabled {
            return Verdict::Not(Why("the rule is not enabled".to_owned()));
        }
        if let Some(why) = rule.when.why_not(message.topic(), &context) {
            return Verdict::Not(why);
        }
        match targets(rule, message) {
            Ok(effects) if effects.is_empty() => Verdict::Not(nothing_left(rule, message)),
            Ok(effects) => Verdict::Does(effects),
            Err(why) => Verdict::Fails(why),
        }
    };
    let said = |rule: &std::sync::Arc<Rule>| Said {
        rule: rule.name.clone(),
        place: rule.place.clone(),
        verdict: verdict(rule),
    };
    rules.rules.iter().map(said).collect()
}

fn nothing_left(rule: &Rule, message: &Message) -> Why {
    let Some(each) = &rule.each else {
        return Why("fan-out has no values in this message".to_owned());
    };
    let elements = elements(each, message);
    let why = elements.iter().find_map(|element| {
        let local = Map::from_iter([("each".to_owned(), element.clone())]);
        rule.only.as_ref()?.why_not(message.topic(), &message.context(Some(&local)))
    });
    match why {
        Some(Why(why)) => Why(format!("none of {} elements of {each} is wanted: {why}", elements.len())),
        None => Why(format!("{each} is empty or not there")),
    }
}

fn elements(each: &Expr, message: &Message) -> Vec<Value> {
    let mut elements = Vec::new();
    for value in each.values(&message.context(None)) {
        match value {
            Value::Array(items) => elements.extend(items.iter().cloned()),
            Value::Null => {}
            other => elements.push(other.clone()),
        }
    }
    elements
}

fn targets(rule: &Rule, message: &Message) -> Result<Vec<Planned>, String> {
    let mut planned = Vec::new();
    let elements = match &rule.each {
        None => vec![None],
        Some(each) => elements(each, message).into_iter().map(Some).collect(),
    };
    for element in elements {
        let mut local = Map::new();
        if let Some(element) = element {
            local.insert("each".to_owned(), element);
            let context = message.context(Some(&local));
            if rule.only.as_ref().is_some_and(|only| !only.is_met(message.topic(), &context)) {
                continue;
            }
        }
        let item = item(rule, message, &local).map_err(|error| error.to_string())?;
        if let Some(item) = &item {
            local.insert("item".to_owned(), item_value(item));
        }
        for combination in combinations(rule, message, &local) {
            let mut local = local.clone();
            for (name, value) in &combination {
                local.insert(name.clone(), Value::from(value.as_str()));
            }
            let context = message.context(Some(&local));
            for (number, action) in rule.run.iter().enumerate() {
                if let (Action::Task { name, .. }, None) = (action, &item) {
                    return Err(format!(
                        "the task {name} looks at an item, and none is known by the topic {}; say `item: {{type: …, id: …}}` in the rule",
                        message.topic()
                    ));
                }
                let at = Target { rule, message, item: item.as_ref(), combination: &combination, number };
                planned.push(at.planned(action, &context).map_err(|error| error.to_string())?);
                if planned.len() > MOST {
                    return Err(format!("the rule would do more than {MOST} things about one message"));
                }
            }
        }
    }
    Ok(planned)
}

fn item(rule: &Rule, message: &Message, local: &Map<String, Value>) -> Result<Option<Item>, RenderError> {
    let Some(template) = &rule.item else { return Ok(message.item().cloned()) };
    let context = message.context(Some(local));
    Ok(Some(Item {
        kind: template.kind.render(&context)?,
        id: template.id.render(&context)?,
        revision: template.revision.render(&context)?,
    }))
}

/// Every combination of the values of all dimensions.
fn combinations(rule: &Rule, message: &Message, local: &Map<String, Value>) -> Vec<Vec<(String, String)>> {
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for (name, values) in &rule.fan_out {
        let values = match values {
            FanOut::Values(values) => values.clone(),
            FanOut::Of(expr) => expr.texts(&message.context(Some(local))),
        };
        let with = |one: &Vec<(String, String)>, value: &String| {
            one.iter().cloned().chain([(name.clone(), value.clone())]).collect()
        };
        all = all
            .iter()
            .flat_map(|one| values.iter().map(move |value| with(one, value)))
            .take(MOST + 1)
            .collect();
    }
    all
}

/// Where in a rule, and for what.
struct Target<'r> {
    rule: &'r Rule,
    message: &'r Message,
    item: Option<&'r Item>,
    combination: &'r [(String, String)],
    number: usize,
}

impl Target<'_> {
    fn planned(&self, action: &Action, context: &Context<'_>) -> Result<Planned, RenderError> {
        let mut effect = effect(action, context)?;
        if let (Action::Task { .. }, PlannedEffect::Job { settings, .. }) = (action, &mut effect)
            && let Some((_, arch)) = self.combination.iter().find(|(name, _)| name == "arch")
        {
            settings.entry("ARCH".to_owned()).or_insert_with(|| arch.clone());
        }
        if let PlannedEffect::Job { settings, .. } | PlannedEffect::Product { settings } = &mut effect {
            self.say_why(settings);
        }
        let batch = self
            .rule
            .batch
            .as_ref()
            .map(|batch| Ok(BatchKey { by: batch.by.render(context)?, window: batch.window }));
        let forced = match action {
            Action::Compose { force, .. } => Some(force),
            Action::Update(update) => Some(&update.force),
            _ => None,
        };
        let by_event = self.rule.once == Once::Event;
        let forced = match forced {
            Some(force) => by_event || truth(&force.render(context)?).unwrap_or(false),
            None => false,
        };
        Ok(Planned {
            key: self.key(&effect, forced),
            rule: self.rule.name.clone(),
            item: self.item.cloned(),
            batch: batch.transpose()?,
            limit: self.rule.limit,
            force: forced.then(|| self.message.key().to_owned()),
            effect,
        })
    }

    /// What a job carries of the reason for which it is there.
    fn say_why(&self, settings: &mut BTreeMap<String, String>) {
        say(settings, "ASSAY_RULE", &self.rule.name);
        say(settings, "ASSAY_EVENT", self.message.key());
        if let Some(item) = self.item {
            item.say_in(settings);
            item.say_build_in(self.message.body(), settings);
        }
    }

    /// Rule, item (with its occasion) or event, combination, and the place in the rule.
    fn key(&self, effect: &PlannedEffect, forced: bool) -> String {
        let mut key = vec![self.rule.name.clone()];
        // Each message tells a result of its own: of one that is queued, of the same once it runs, and when it has ended.
        let by_event = forced || matches!(effect, PlannedEffect::Result(_));
        match (self.item, self.rule.once) {
            (Some(item), Once::Item) if !by_event => {
                key.extend([item.kind.clone(), item.id.clone(), item.revision.clone()]);
                // A rule that says itself what is under test says what tells it from others, too.
                if self.rule.item.is_none() {
                    key.extend(self.message.occasion().map(str::to_owned));
                }
            }
            (Some(item), _) => {
                key.extend([item.kind.clone(), item.id.clone(), self.message.key().to_owned()]);
            }
            (None, _) => key.push(self.message.key().to_owned()),
        }
        key.extend(self.combination.iter().map(|(name, value)| format!("{name}={value}")));
        let what = match effect {
            PlannedEffect::Job { settings, .. } => settings.get("TEST").map_or("", String::as_str),
            PlannedEffect::Product { settings } => settings.get("FLAVOR").map_or("", String::as_str),
            PlannedEffect::Pipeline { pipeline, .. } => pipeline,
            PlannedEffect::Compose { .. } | PlannedEffect::Update { .. } | PlannedEffect::Comment { .. } => {
                ""
            }
            PlannedEffect::Result(found) => &found.testcase,
        };
        key.push(format!("{}:{what}", self.number + 1));
        short_key(key.join("/"))
    }
}

/// Keys are in an index; what is longer than it takes is told apart by its hash.
pub(crate) fn short_key(key: String) -> String {
    use sha2::Digest as _;
    const MOST: usize = 400;
    if key.len() <= MOST {
        return key;
    }
    let hash: [u8; 32] = sha2::Sha256::digest(key.as_bytes()).into();
    let hash = hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let end = (0..=MOST - hash.len()).rev().find(|at| key.is_char_boundary(*at)).unwrap_or(0);
    format!("{}#{hash}", &key[..end])
}

fn effect(action: &Action, context: &Context<'_>) -> Result<PlannedEffect, RenderError> {
    let all = |settings: &BTreeMap<String, Template>| -> Result<BTreeMap<String, String>, RenderError> {
        settings.iter().map(|(key, value)| Ok((key.clone(), value.render(context)?))).collect()
    };
    let words = |template: &Template| -> Result<Vec<String>, RenderError> {
        Ok(template.render(context)?.split_whitespace().map(str::to_owned).collect())
    };
    Ok(match action {
        Action::Job { settings, priority } | Action::Task { settings, priority, .. } => {
            PlannedEffect::Job { settings: all(settings)?, priority: *priority }
        }
        Action::Product { settings } => PlannedEffect::Product { settings: all(settings)? },
        Action::Pipeline { pipeline, project, branch } => PlannedEffect::Pipeline {
            pipeline: pipeline.clone(),
            project: project.render(context)?,
            branch: branch.render(context)?,
        },
        Action::Compose { location, .. } => PlannedEffect::Compose { location: location.render(context)? },
        Action::Update(update) => PlannedEffect::Update {
            id: update.id.render(context)?,
            release: update.release.render(context)?,
            builds: words(&update.builds)?,
            groups: words(&update.groups)?,
            critpath: truth(&update.critpath.render(context)?).unwrap_or(false),
            automatic: truth(&update.automatic.render(context)?),
        },
        Action::Result(result) => PlannedEffect::Result(found(result, context)?),
    })
}

/// What a message says of something that is so or not; none if it says nothing.
fn truth(text: &str) -> Option<bool> {
    match text.trim() {
        "" => None,
        no => Some(!["false", "no", "0", "null"].iter().any(|word| no.eq_ignore_ascii_case(word))),
    }
}

fn found(result: &ResultTemplate, context: &Context<'_>) -> Result<FoundElsewhere, RenderError> {
    let some = |template: &Option<Template>| -> Result<Option<String>, RenderError> {
        let text = template.as_ref().map(|template| template.render(context)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    };
    let said = result.outcome.render(context)?;
    let data = result.data.iter().map(|(key, value)| Ok((key.clone(), value.render(context)?)));
    Ok(FoundElsewhere {
        testcase: result.testcase.render(context)?,
        outcome: result.outcomes.get(&said).cloned().unwrap_or_else(|| said.to_uppercase()),
        source: some(&result.source)?,
        note: some(&result.note)?,
        ref_url: some(&result.ref_url)?,
        data: data.collect::<Result<_, _>>()?,
    })
}

/// Makes one effect of those that were gathered in a window: settings that differ hold all values, in their order, with
/// a blank between them. None for no effects.
pub fn merge(effects: &[PlannedEffect]) -> Option<PlannedEffect> {
    let (first, others) = effects.split_first()?;
    let mut merged = first.clone();
    for other in others {
        match (&mut merged, other) {
            (PlannedEffect::Job { settings, .. }, PlannedEffect::Job { settings: more, .. })
            | (PlannedEffect::Product { settings }, PlannedEffect::Product { settings: more }) => {
                join(settings, more);
            }
            _ => {}
        }
    }
    Some(merged)
}

fn join(settings: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>) {
    for (key, value) in more {
        let have = settings.entry(key.clone()).or_default();
        let there = have.as_str() == value || have.split(' ').any(|word| word == value);
        if have.is_empty() {
            have.clone_from(value);
        } else if !there {
            have.push(' ');
            have.push_str(value);
        }
    }
}
