//! Labels, who may vote, and whether a change may be submitted.

use super::{Change, Kind, Refusal, Vote, World};

/// A label that every project has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRule {
    /// Its name.
    pub name: String,
    /// The lowest value.
    pub min: i8,
    /// The highest value.
    pub max: i8,
    /// Whether a change needs the highest value, and the lowest one is a veto.
    pub required: bool,
    /// Group, lowest and highest value that it may give.
    pub voters: Vec<(String, i8, i8)>,
    /// Votes survive a rebase without conflicts.
    pub survives_rebase: bool,
    /// Votes survive a change of the message only.
    pub survives_message: bool,
}

impl LabelRule {
    /// A label.
    pub fn new(name: &str, min: i8, max: i8, required: bool, voters: &[(&str, i8, i8)]) -> Self {
        let voters = voters.iter().map(|(group, low, high)| ((*group).to_owned(), *low, *high)).collect();
        let (survives_rebase, survives_message) = (name == "Code-Review", name != "Workflow");
        Self { name: name.into(), min, max, required, voters, survives_rebase, survives_message }
    }

    /// The labels that OpenStack had: `Approved` is there for old configurations and not required.
    pub fn usual() -> Vec<Self> {
        vec![
            Self::new("Code-Review", -2, 2, true, &[("registered", -1, 1), ("core", -2, 2)]),
            Self::new("Verified", -2, 2, true, &[("ci", -2, 2), ("thirdparty", -1, 1)]),
            Self::new("Workflow", -1, 1, true, &[("core", -1, 1), ("registered", -1, 0)]),
            Self::new("Approved", -1, 1, false, &[("core", -1, 1)]),
        ]
    }

    /// Whether a vote is kept on the next patchset.
    pub(super) fn carries(&self, vote: &Vote, kind: Kind) -> bool {
        match kind {
            Kind::NoChange => true,
            Kind::NoCodeChange => self.survives_message,
            Kind::TrivialRebase => self.survives_rebase,
            Kind::Rework => self.name == "Code-Review" && vote.value == self.min,
        }
    }
}

/// Whether a change may be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStatus {
    /// It may.
    Ok,
    /// A label is missing or a veto.
    NotReady,
    /// It is not open.
    Closed,
}

impl RecordStatus {
    /// The word in Gerrit's protocols.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotReady => "NOT_READY",
            Self::Closed => "CLOSED",
        }
    }
}

/// What a label says about submitting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelState {
    /// Somebody gave the highest value.
    Ok(String),
    /// Somebody gave the lowest value.
    Reject(String),
    /// Nobody gave the highest value.
    Need,
    /// Not asked for.
    May,
    /// Nobody can give the highest value.
    Impossible,
}

impl LabelState {
    /// The word in Gerrit's protocols.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok(_) => "OK",
            Self::Reject(_) => "REJECT",
            Self::Need => "NEED",
            Self::May => "MAY",
            Self::Impossible => "IMPOSSIBLE",
        }
    }

    /// Who made it so.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Ok(by) | Self::Reject(by) => Some(by),
            Self::Need | Self::May | Self::Impossible => None,
        }
    }

    /// Whether it lets a change be submitted.
    pub fn lets_pass(&self) -> bool {
        matches!(self, Self::Ok(_) | Self::May)
    }
}

/// Whether a change may be submitted, and what each label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitRecord {
    /// The sum.
    pub status: RecordStatus,
    /// Each label.
    pub labels: Vec<(String, LabelState)>,
}

impl SubmitRecord {
    /// Labels that stand in the way, for people.
    pub fn obstacles(&self) -> String {
        let in_the_way = self.labels.iter().filter(|(_, state)| !state.lets_pass());
        let texts: Vec<String> = in_the_way
            .map(|(name, state)| match state {
                LabelState::Reject(by) => format!("{name} is vetoed by {by}"),
                _ => format!("needs {name}"),
            })
            .collect();
        texts.join("; ")
    }
}

impl World {
    /// The label's own name and the range that an account may give; a value out of it is refused if `strict`.
    pub(super) fn may_vote(
        &self,
        user: &str,
        label: &str,
        value: i8,
        strict: bool,
    ) -> Result<(String, i8, i8), Refusal> {
        let rule = self
            .label(label)
            .ok_or_else(|| Refusal::BadRequest(format!("label \"{label}\" is not a configured label")))?;
        if value < rule.min || value > rule.max {
            return Err(Refusal::BadRequest(format!(
                "label \"{}\": {value} is not a valid value",
                rule.name
            )));
        }
        let (low, high) = self.range(user, rule).unwrap_or((0, 0));
        if value != 0 && (low, high) == (0, 0) || strict && (value < low || value > high) {
            return Err(Refusal::Forbidden(format!(
                "applying label \"{}\": {value} is restricted",
                rule.name
            )));
        }
        Ok((rule.name.clone(), low, high))
    }

    /// A label whatever its letters' case.
    pub fn label(&self, name: &str) -> Option<&LabelRule> {
        self.labels.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
    }

    /// What an account may give to a label.
    pub fn range(&self, user: &str, rule: &LabelRule) -> Option<(i8, i8)> {
        let account = self.accounts.get(user)?;
        rule.voters
            .iter()
            .filter(|(group, _, _)| group == "registered" || account.groups.contains(group))
            .map(|(_, low, high)| (*low, *high))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether a change may be submitted.
    pub fn submit_record(&self, change: &Change) -> SubmitRecord {
        if !change.is_open() {
            return SubmitRecord { status: RecordStatus::Closed, labels: Vec::new() };
        }
        let labels: Vec<(String, LabelState)> =
            self.labels.iter().map(|rule| (rule.name.clone(), state(rule, change))).collect();
        let ready = labels.iter().all(|(_, state)| state.lets_pass());
        SubmitRecord { status: if ready { RecordStatus::Ok } else { RecordStatus::NotReady }, labels }
    }
}

/// What a label says about submitting.
pub fn state(rule: &LabelRule, change: &Change) -> LabelState {
    let by = |value: i8| {
        let found = change.current().votes.iter().find(|vote| vote.label == rule.name && vote.value == value);
        found.map(|vote| vote.by.clone())
    };
    if !rule.required {
        return LabelState::May;
    }
    match (by(rule.min), by(rule.max)) {
        (Some(who), _) => LabelState::Reject(who),
        (None, Some(who)) => LabelState::Ok(who),
        (None, None) if rule.voters.iter().any(|(_, _, high)| *high == rule.max) => LabelState::Need,
        (None, None) => LabelState::Impossible,
    }
}
