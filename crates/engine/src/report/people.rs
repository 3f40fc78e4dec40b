//! What people want to hear of, when and where: rules of their own.

use super::{Fact, Wants};
use crate::ids::Timestamp;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};

/// The most rules that somebody may have.
pub const MOST_RULES: usize = 50;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const MINUTE: i64 = 60_000_000;

/// What somebody wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notices {
    /// Where mails go; without it there are none, and the feed has everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// A room of Matrix where they are told, by its id or its alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    /// When what is sent waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// Rules.
    #[serde(default)]
    pub rules: Vec<NoticeRule>,
}

/// One rule.
#[expect(clippy::struct_excessive_bools, reason = "people write each of them by itself")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeRule {
    /// Its name: `a-z`, `0-9`, `-` and `_`.
    pub name: String,
    /// Which facts.
    pub wants: Wants,
    /// Only when a test passes that did not, or the other way round, or fails when it is run for the first time.
    #[serde(default)]
    pub on_change: bool,
    /// All that came together in one mail.
    #[serde(default)]
    pub digest: Digest,
    /// Also of what they did themselves.
    #[serde(default)]
    pub own: bool,
    /// By mail; else only in the feed.
    #[serde(default = "yes")]
    pub by_mail: bool,
    /// In their room of Matrix.
    #[serde(default)]
    pub by_matrix: bool,
    /// False once they have said that they want no more of it.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// What comes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// Nothing: each by itself.
    #[default]
    Off,
    /// What came within an hour.
    Hourly,
    /// What came within a day.
    Daily,
}

/// Hours in which mails wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// Minutes after midnight.
    pub from: u16,
    /// Minutes after midnight; may be earlier than `from`, and then it is on the next day.
    pub to: u16,
    /// Minutes that their clock is ahead of UTC.
    #[serde(default)]
    pub ahead: i16,
}

impl Notices {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.rules.len() > MOST_RULES {
            wrong.push(format!("there are {} rules; at most {MOST_RULES}", self.rules.len()));
        }
        let mut names = std::collections::BTreeSet::new();
        for rule in &self.rules {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            if rule.name.is_empty() || rule.name.len() > 60 || !rule.name.bytes().all(plain) {
                wrong.push(format!("{:?} is no rule's name; use a-z, 0-9, - and _", rule.name));
            }
            if !names.insert(&rule.name) {
                wrong.push(format!("there are two rules {:?}", rule.name));
            }
            if rule.wants.events.is_empty() {
                wrong.push(format!("the rule {:?} names no events", rule.name));
            }
            if rule.by_matrix && self.matrix.is_none() {
                wrong.push(format!("rule {:?}: by_matrix needs the room, as matrix beside mail", rule.name));
            }
            for pattern in rule.wants.strange() {
                wrong.push(format!("rule {:?}: no event is like {pattern:?}", rule.name));
            }
        }
        let is_room = |room: &str| {
            room.starts_with(['!', '#'])
                && room.contains(':')
                && room.len() <= 255
                && !room.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if let Some(room) = self.matrix.as_ref().filter(|room| !is_room(room)) {
            wrong.push(format!("{room:?} is no room of Matrix; expected !ID:SERVER or #NAME:SERVER"));
        }
        if let Some(quiet) = &self.quiet
            && (quiet.from >= 1440 || quiet.to >= 1440 || quiet.ahead.abs() > 840)
        {
            wrong.push(
                "quiet: from and to are minutes from 0 to 1439, and ahead is from -840 to 840".to_owned(),
            );
        }
        wrong
    }

    /// The rules that want a fact.
    pub fn wanting<'n>(&'n self, name: &'n str, fact: &'n Fact) -> impl Iterator<Item = &'n NoticeRule> {
        let own = doer(fact).is_some_and(|doer| doer == name);
        self.rules.iter().filter(move |rule| rule.enabled && (rule.own || !own) && rule.wants.fact(fact))
    }

    /// When something that happened now is told by a rule: at the end of its digest, and not within quiet hours.
    pub fn due(&self, rule: &NoticeRule, now: Timestamp) -> Timestamp {
        let ahead = self.quiet.map_or(0, |quiet| i64::from(quiet.ahead) * MINUTE);
        let local = now.0.saturating_add(ahead);
        let at = match rule.digest {
            Digest::Off => local,
            Digest::Hourly => next(local, HOUR, 0),
            // In the morning.
            Digest::Daily => next(local, DAY, 7 * HOUR),
        };
        let at = self.quiet.map_or(at, |quiet| quiet.end(at));
        Timestamp(at.saturating_sub(ahead))
    }
}

/// The next time that is `after` a multiple of `period`.
fn next(at: i64, period: i64, after: i64) -> i64 {
    let since = at.saturating_sub(after).rem_euclid(period);
    at.saturating_add(period - since)
}

impl Quiet {
    /// The end of the quiet hours if it is within them, else `at`; local time.
    fn end(self, at: i64) -> i64 {
        let (from, to) = (i64::from(self.from) * MINUTE, i64::from(self.to) * MINUTE);
        let time = at.rem_euclid(DAY);
        let within = if from <= to { (from..to).contains(&time) } else { time >= from || time < to };
        if within { at.saturating_add((to - time).rem_euclid(DAY)) } else { at }
    }
}

/// Who did it.
fn doer(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::CommentCreate(one) | Fact::CommentUpdate(one) | Fact::CommentDelete(one) => Some(&one.user),
        Fact::WaiverNew(one) => Some(&one.username),
        Fact::JobCancel(job) => job.reason.as_deref().and_then(|reason| reason.strip_prefix("cancelled by ")),
        _ => None,
    }
}

/// Whether a test that ended so changed from what it was before.
pub fn is_change(before: Option<Outcome>, now: Outcome) -> bool {
    // What never ran says nothing new. A first failure is one; a first pass is what was to be expected.
    !now.is_aborted() && before.is_none_or(Outcome::is_ok) != now.is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::{CommentFact, JobFact};
    use super::*;
    use proptest::prelude::*;

    fn rule(events: &[&str], digest: Digest) -> NoticeRule {
        NoticeRule {
            name: "r".into(),
            wants: Wants { events: events.iter().map(|one| (*one).to_owned()).collect(), ..Wants::default() },
            on_change: false,
            digest,
            own: false,
            by_mail: true,
            by_matrix: false,
            enabled: true,
        }
    }

    /// Minutes after a midnight in UTC.
    fn at(minutes: i64) -> Timestamp {
        Timestamp(20_000 * DAY + minutes * MINUTE)
    }

    #[test]
    fn when_it_is_told() {
        let night = Some(Quiet { from: 22 * 60, to: 7 * 60, ahead: 0 });
        let noon = Some(Quiet { from: 12 * 60, to: 13 * 60, ahead: 60 });
        for (digest, quiet, now, told) in [
            (Digest::Off, None, 10, 10),
            (Digest::Off, night, 21 * 60 + 59, 21 * 60 + 59),
            (Digest::Off, night, 22 * 60, 31 * 60),
            (Digest::Off, night, 6 * 60 + 59, 7 * 60),
            (Digest::Off, night, 7 * 60, 7 * 60),
            (Digest::Off, noon, 11 * 60 + 30, 12 * 60),
            (Digest::Off, noon, 12 * 60 + 30, 12 * 60 + 30),
            (Digest::Hourly, None, 10, 60),
            (Digest::Hourly, None, 60, 120),
            (Digest::Hourly, night, 21 * 60 + 30, 31 * 60),
            (Digest::Daily, None, 10, 7 * 60),
            (Digest::Daily, None, 7 * 60, 31 * 60),
        ] {
            let notices = Notices { quiet, ..Notices::default() };
            assert_eq!(notices.due(&rule(&["*"], digest), at(now)), at(told), "{digest:?} {quiet:?} {now}");
        }
    }

    #[test]
    fn who_hears_of_what() {
        let comment = |user: &str| {
            Fact::CommentCreate(CommentFact {
                id: 1,
                job: None,
                group: None,
                text: String::new(),
                user: user.into(),
                created: 0,
                updated: 0,
            })
        };
        let mut notices = Notices { rules: vec![rule(&["comment.*"], Digest::Off)], ..Notices::default() };
        assert_eq!(notices.wanting("ann", &comment("bob")).count(), 1);
        assert_eq!(notices.wanting("ann", &comment("ann")).count(), 0, "she knows what she said");
        assert_eq!(notices.wanting("ann", &Fact::JobDone(JobFact::default())).count(), 0);
        notices.rules[0].own = true;
        assert_eq!(notices.wanting("ann", &comment("ann")).count(), 1);
        notices.rules[0].enabled = false;
        assert_eq!(notices.wanting("ann", &comment("bob")).count(), 0);
        assert_eq!(notices.check(), Vec::<String>::new());
        notices.rules.push(NoticeRule { name: "A b".into(), ..rule(&["job.don"], Digest::Off) });
        notices.rules.push(rule(&[], Digest::Off));
        notices.quiet = Some(Quiet { from: 1440, to: 0, ahead: 0 });
        notices.rules[0].by_matrix = true;
        let said = notices.check().join("\n");
        for part in [
            "\"A b\" is no rule's name",
            "no event is like \"job.don\"",
            "two rules \"r\"",
            "names no events",
            "quiet:",
            "rule \"r\": by_matrix needs the room",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        for (room, good) in [
            ("!abc:example.org", true),
            ("#qa:example.org", true),
            ("@ann:example.org", false),
            ("#qa", false),
            ("#q a:example.org", false),
        ] {
            let notices = Notices { matrix: Some(room.to_owned()), ..Notices::default() };
            assert_eq!(notices.check().is_empty(), good, "{room}");
        }
    }

    #[test]
    fn changes() {
        use Outcome::{Failed, Incomplete, Passed, Skipped, Softfailed};
        for (before, now, change) in [
            (None, Passed, false),
            (None, Failed, true),
            (Some(Passed), Softfailed, false),
            (Some(Passed), Failed, true),
            (Some(Failed), Incomplete, false),
            (Some(Failed), Passed, true),
            (Some(Passed), Skipped, false),
        ] {
            assert_eq!(is_change(before, now), change, "{before:?} {now:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_told_before_it_happened(now in -DAY..40_000 * DAY, from in 0_u16..1440, to in 0_u16..1440, ahead in -840_i16..840, kind in 0..3) {
            let digest = [Digest::Off, Digest::Hourly, Digest::Daily][kind as usize];
            let notices = Notices { quiet: Some(Quiet { from, to, ahead }), ..Notices::default() };
            let told = notices.due(&rule(&["*"], digest), Timestamp(now)).0;
            prop_assert!(told >= now && told <= now + 2 * DAY);
        }
    }
}
