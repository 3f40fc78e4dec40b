//! How urgent a job is: its template's or group's priority, and what is added to it. Lower is earlier.

use super::catalog::Group;
use crate::gate::pattern::Pattern;
use crate::settings::{DEFAULT_PRIORITY, Settings};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a priority began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorityBase {
    /// `_PRIORITY` of the request; nothing is added to it.
    Request,
    /// The template.
    Template,
    /// The machine of scenario definitions.
    Machine,
    /// The group, or its parent.
    Group,
    /// Nobody said anything.
    Default,
}

/// Something that is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityPart {
    /// How much.
    pub amount: i32,
    /// For what, for people.
    pub why: String,
}

/// A priority and how it came to be. `Display` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Priority {
    /// Where it began.
    pub from: PriorityBase,
    /// What it began with.
    pub base: i32,
    /// What was added.
    pub parts: Vec<PriorityPart>,
}

impl Priority {
    /// The sum.
    pub fn value(&self) -> i32 {
        self.parts.iter().fold(self.base, |sum, part| sum.saturating_add(part.amount))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            PriorityBase::Request => "from the request",
            PriorityBase::Template => "from the template",
            PriorityBase::Machine => "from the machine",
            PriorityBase::Group => "from the group",
            PriorityBase::Default => "by default",
        };
        write!(f, "{} {from}", self.base)?;
        for PriorityPart { amount, why } in &self.parts {
            write!(f, ", {amount:+} for {why}")?;
        }
        if self.parts.is_empty() { Ok(()) } else { write!(f, " = {}", self.value()) }
    }
}

/// A number among the settings makes a job wait longer: `KEY:scale[:reference]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The setting.
    pub key: String,
    /// Times so much.
    pub scale: f64,
    /// Subtracted before.
    pub reference: f64,
}

/// A setting that matches makes a job wait longer: `KEY:increment:=~regex` or `KEY:increment:!~regex`.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The setting.
    pub key: String,
    /// So much.
    pub amount: i32,
    /// True if it must not match.
    pub negated: bool,
    /// The expression.
    pub pattern: Pattern,
}

/// A group that matches makes a job wait longer: `property:regex:increment`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupMatch {
    /// What of the group is looked at.
    pub property: GroupProperty,
    /// The expression.
    pub pattern: Pattern,
    /// So much.
    pub amount: i32,
}

/// What of a group a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProperty {
    /// The name.
    Name,
    /// `Parent / Group`
    FullName,
    /// The description.
    Description,
}

/// Everything that is added to priorities.
#[derive(Debug, Clone, PartialEq)]
pub struct PriorityRules {
    /// By numbers.
    pub scales: Vec<Scale>,
    /// By texts.
    pub matches: Vec<Match>,
    /// By groups.
    pub groups: Vec<GroupMatch>,
}

/// `MAX_JOB_TIME` counts from here on only: below it is what every job may have.
const USUAL_JOB_TIME: f64 = 7200.0;

/// What openQA has if nothing is configured.
impl Default for PriorityRules {
    fn default() -> Self {
        // The texts are openQA's own and are tested; a rule that could not be read would only be left out.
        let scales = Self::read_scales("MAX_JOB_TIME:0.007").unwrap_or_default();
        let matches = Self::read_matches("CASEDIR:15:!~^https?:,CASEDIR:15:=~^$").unwrap_or_default();
        let groups = Self::read_groups("full_name:Development:50").unwrap_or_default();
        Self { scales, matches, groups }
    }
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the priority rule `{rule}` cannot be read; write {expected}")]
pub struct BadRule {
    /// The rule.
    pub rule: String,
    /// What it must be like.
    pub expected: &'static str,
}

impl PriorityRules {
    /// Nothing is added.
    pub fn none() -> Self {
        Self { scales: Vec::new(), matches: Vec::new(), groups: Vec::new() }
    }

    /// openQA's `prio_throttling_parameters`.
    pub fn read_scales(text: &str) -> Result<Vec<Scale>, BadRule> {
        rules(text, "KEY:SCALE or KEY:SCALE:REFERENCE, for example MAX_JOB_TIME:0.007", |rule| {
            let mut parts = rule.split(':').map(str::trim);
            let key = parts.next().filter(|key| !key.is_empty())?.to_owned();
            let scale = parts.next()?.parse().ok().filter(|scale: &f64| scale.is_finite())?;
            let reference = parts.next().map_or(Some(0.0), |text| text.parse().ok())?;
            parts.next().is_none().then_some(Scale { key, scale, reference })
        })
    }

    /// openQA's `prio_throttling_patterns`.
    pub fn read_matches(text: &str) -> Result<Vec<Match>, BadRule> {
        rules(text, "KEY:INCREMENT:=~REGEX or KEY:INCREMENT:!~REGEX", |rule| {
            let mut parts = rule.splitn(3, ':').map(str::trim);
            let key = parts.next().filter(|key| !key.is_empty())?.to_owned();
            let amount = parts.next()?.parse().ok()?;
            let pattern = parts.next()?;
            let negated = pattern.starts_with("!~");
            let pattern = pattern.strip_prefix("!~").or_else(|| pattern.strip_prefix("=~"))?;
            Some(Match { key, amount, negated, pattern: Pattern::new(pattern).ok()? })
        })
    }

    /// openQA's `prio_group_parameters`.
    pub fn read_groups(text: &str) -> Result<Vec<GroupMatch>, BadRule> {
        rules(text, "PROPERTY:REGEX:INCREMENT with name, full_name or description", |rule| {
            let (property, rest) = rule.split_once(':')?;
            let (pattern, amount) = rest.rsplit_once(':')?;
            let property = match property.trim() {
                "name" => GroupProperty::Name,
                "full_name" => GroupProperty::FullName,
                "description" => GroupProperty::Description,
                _ => return None,
            };
            let amount = amount.trim().parse().ok()?;
            Some(GroupMatch { property, pattern: Pattern::new(pattern).ok()?, amount })
        })
    }

    /// What is added for the settings and the group of a job.
    pub(super) fn parts(&self, settings: &Settings, group: Option<&Group>) -> Vec<PriorityPart> {
        let scaled = self.scales.iter().filter_map(|rule| rule.part(settings));
        let matched = self.matches.iter().filter_map(|rule| {
            let value = &settings.0.get(&rule.key)?.value;
            let why = || format!("{}={value}", rule.key);
            (rule.pattern.is_found(value) != rule.negated)
                .then(|| PriorityPart { amount: rule.amount, why: why() })
        });
        let grouped = self.groups.iter().filter_map(|rule| {
            let group = group?;
            let text = match rule.property {
                GroupProperty::Name => group.name.clone(),
                GroupProperty::FullName => group.full_name(),
                GroupProperty::Description => group.description.clone(),
            };
            let why = || format!("the group {}", group.full_name());
            rule.pattern.is_found(&text).then(|| PriorityPart { amount: rule.amount, why: why() })
        });
        scaled.chain(matched).chain(grouped).filter(|part| part.amount != 0).collect()
    }
}

impl Scale {
    fn part(&self, settings: &Settings) -> Option<PriorityPart> {
        let number = |key: &str| settings.get(key).and_then(|value| value.trim().parse::<f64>().ok());
        let mut value = number(&self.key)?;
        let mut why = format!("{}={}", self.key, settings.get(&self.key).unwrap_or_default());
        if self.key == "MAX_JOB_TIME" {
            if let Some(scale) = number("TIMEOUT_SCALE").filter(|scale| *scale > 1.0) {
                value *= scale;
                why = format!("{why} with TIMEOUT_SCALE={scale}");
            }
            if value <= USUAL_JOB_TIME {
                return None;
            }
        }
        let amount = ((value - self.reference) * self.scale).floor() as i32;
        Some(PriorityPart { amount, why })
    }
}

fn rules<T>(text: &str, expected: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, BadRule> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    rules.map(|rule| read(rule).ok_or_else(|| BadRule { rule: rule.to_owned(), expected })).collect()
}

/// Where the priority of a job begins.
pub(super) fn base(
    posted: Option<i32>,
    template: Option<i32>,
    machine: Option<i32>,
    group: Option<i32>,
) -> (PriorityBase, i32) {
    posted
        .map(|value| (PriorityBase::Request, value))
        .or(template.map(|value| (PriorityBase::Template, value)))
        .or(machine.map(|value| (PriorityBase::Machine, value)))
        .or(group.map(|value| (PriorityBase::Group, value)))
        .unwrap_or((PriorityBase::Default, DEFAULT_PRIORITY))
}
