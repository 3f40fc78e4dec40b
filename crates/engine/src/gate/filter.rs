//! Whether an event lets a change into a pipeline: triggers, requirements, rejections, and the source's submit rules.

use super::change::{Approval, ChangeFacts, SubmitRecord};
use super::config::{ApprovalFilter, Pipeline, ReportAction, Trigger, normal_label};
use super::io::Event;
use super::pattern::Pattern;
use crate::ids::Timestamp;
use std::collections::BTreeSet;

/// Letters of a text of others, such as a comment, that a reason quotes.
const QUOTED: usize = 80;

/// Whether one of the patterns, if there are any, fits a text.
fn any(patterns: &[Pattern], what: &str, text: Option<&str>, anywhere: bool) -> Result<(), String> {
    let fits = |pattern: &Pattern| {
        text.is_some_and(|text| if anywhere { pattern.is_found(text) } else { pattern.matches_start(text) })
    };
    if patterns.is_empty() || patterns.iter().any(fits) {
        return Ok(());
    }
    let wanted: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    let text = text.unwrap_or_default();
    let quoted = match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    };
    Err(format!("{what} {quoted} does not match {}", wanted.join(" or ")))
}

/// Whether a trigger is for events of this source and kind; which it is for, if not.
pub(super) fn listens(trigger: &Trigger, event: &Event) -> Result<(), String> {
    if trigger.source != event.source {
        return Err(format!(
            "the trigger listens to {}, the event came from {}",
            trigger.source, event.source
        ));
    }
    any(&trigger.events, "event", Some(event.kind.word()), false)?;
    let due = event.timer.as_ref().map(|(_, time)| time.as_str());
    match &trigger.time {
        Some(wanted) if due != Some(wanted.as_str()) => Err(format!("the trigger is for the time {wanted}")),
        _ => Ok(()),
    }
}

/// Whether the entry of a trigger matches; what kept it from matching, if not.
pub(super) fn trigger_matches(
    trigger: &Trigger,
    event: &Event,
    facts: Option<&ChangeFacts>,
    now: Timestamp,
) -> Result<(), String> {
    listens(trigger, event)?;
    let branch = facts.map(|facts| facts.branch.as_str());
    any(&trigger.branches, "branch", branch, false)?;
    if !trigger.refs.is_empty() || event.ref_update.is_some() {
        let name = event.ref_update.as_ref().map(|update| update.name.as_str());
        any(&trigger.refs, "ref", name, false)?;
        if trigger.ignore_deletes
            && event.ref_update.as_ref().is_some_and(super::change::RefUpdate::is_delete)
        {
            return Err("the ref was deleted (ignore-deletes)".to_owned());
        }
    }
    any(&trigger.comments, "comment", event.comment.as_deref(), true)?;
    any(&trigger.emails, "mail address", event.by.email.as_deref(), true)?;
    any(&trigger.usernames, "login", event.by.username.as_deref(), true)?;
    any(
        &trigger.pipelines,
        "pipeline",
        event.pipeline.as_ref().map(super::ids::PipelineName::as_str),
        false,
    )?;
    for (label, value) in &trigger.approvals {
        let wanted = normal_label(label);
        let carried = event.approvals.iter().any(|(own, vote)| normal_label(own) == wanted && vote == value);
        if !carried {
            return Err(format!("the event carries no vote {label} {value:+}"));
        }
    }
    match facts {
        Some(facts) => approvals_hold(&trigger.require, &trigger.reject, facts, now),
        None if trigger.require.is_empty() && trigger.reject.is_empty() => Ok(()),
        None => Err("the trigger asks for votes, and there is no change".to_owned()),
    }
}

/// Whether the votes of a change are as `require` and `reject` want them.
fn approvals_hold(
    require: &[ApprovalFilter],
    reject: &[ApprovalFilter],
    facts: &ChangeFacts,
    now: Timestamp,
) -> Result<(), String> {
    let met =
        |filter: &ApprovalFilter| facts.approvals.iter().any(|vote| approval_matches(filter, vote, now));
    if let Some(missing) = require.iter().find(|filter| !met(filter)) {
        return Err(format!("no vote on {} is {}", facts.patchset(), describe(missing)));
    }
    match reject.iter().find(|filter| met(filter)) {
        Some(met) => Err(format!("a vote on {} is {}, which is rejected", facts.patchset(), describe(met))),
        None => Ok(()),
    }
}

fn approval_matches(filter: &ApprovalFilter, vote: &Approval, now: Timestamp) -> bool {
    let Some(label) = vote.label.as_deref().map(normal_label) else { return false };
    let found = |pattern: &Option<Pattern>, text: &Option<String>| {
        pattern.as_ref().is_none_or(|pattern| text.as_deref().is_some_and(|text| pattern.is_found(text)))
    };
    let age = |limit: Option<i64>, older: bool| {
        limit.is_none_or(|limit| {
            vote.granted_at.is_some_and(|at| (at.0 < now.0.saturating_sub(limit)) == older)
        })
    };
    found(&filter.username, &vote.by.username)
        && found(&filter.email, &vote.by.email)
        && age(filter.older_than_us, true)
        && age(filter.newer_than_us, false)
        && filter
            .labels
            .iter()
            .all(|(own, values)| normal_label(own) == label && values.contains(&vote.value))
}

fn describe(filter: &ApprovalFilter) -> String {
    let mut parts = Vec::new();
    for (label, values) in &filter.labels {
        let values: Vec<String> = values.iter().map(|value| format!("{value:+}")).collect();
        parts.push(format!("{label} {}", values.join(" or ")));
    }
    parts.extend(filter.username.as_ref().map(|pattern| format!("by {}", pattern.as_str())));
    parts.extend(filter.email.as_ref().map(|pattern| format!("by {}", pattern.as_str())));
    let hours = |us: i64| format!("{} h", us / 3_600_000_000);
    parts.extend(filter.older_than_us.map(|us| format!("older than {}", hours(us))));
    parts.extend(filter.newer_than_us.map(|us| format!("newer than {}", hours(us))));
    parts.join(", ")
}

/// Whether a change meets the requirements of a pipeline; the first that does not hold.
pub(super) fn requirements_hold(
    pipeline: &Pipeline,
    facts: &ChangeFacts,
    patchset: u32,
    now: Timestamp,
) -> Result<(), String> {
    let wanted = &pipeline.require;
    if wanted.open.is_some_and(|open| open != facts.status.is_open()) {
        return Err(format!("{} is {}", facts.id, facts.status.word()));
    }
    if wanted.current_patchset.is_some_and(|current| current != (facts.current_patchset == patchset)) {
        return Err(format!("the newest patchset of {} is {}", facts.id, facts.current_patchset));
    }
    if !wanted.status.is_empty() && !wanted.status.iter().any(|word| word == facts.status.word()) {
        return Err(format!("{} is {}, not {}", facts.id, facts.status.word(), wanted.status.join(" or ")));
    }
    approvals_hold(&wanted.approvals, &pipeline.reject, facts, now)
}

/// Whether the votes of a change that is being gated still are as the pipeline wants them. What the pipeline votes itself
/// (its start may take the vote away that let the change in), and how old a vote is, does not count any more.
pub(super) fn votes_still_hold(
    pipeline: &Pipeline,
    facts: &ChangeFacts,
    now: Timestamp,
) -> Result<(), String> {
    let reporters = &pipeline.reporters;
    let ours = labels_of([&reporters.start, &reporters.success, &reporters.failure]);
    let counts = |filter: &&ApprovalFilter| {
        let aged = filter.older_than_us.is_some() || filter.newer_than_us.is_some();
        !aged && !filter.labels.iter().any(|(label, _)| ours.contains(&normal_label(label)))
    };
    let those =
        |all: &[ApprovalFilter]| -> Vec<ApprovalFilter> { all.iter().filter(counts).cloned().collect() };
    approvals_hold(&those(&pipeline.require.approvals), &those(&pipeline.reject), facts, now)
}

/// Whether the source would merge a change once `pipeline` has voted; what is missing, if not.
pub(super) fn can_merge(pipeline: &Pipeline, facts: &ChangeFacts) -> Result<(), String> {
    if facts.wip {
        return Err("it is work in progress".to_owned());
    }
    if facts.submit_records.is_empty() || facts.submit_records.contains(&SubmitRecord::Ok) {
        return Ok(());
    }
    let ours = own_labels(pipeline);
    let missing: Vec<String> = facts.submit_records.iter().flat_map(|record| record.missing(&ours)).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
}

/// The labels that the pipeline gives itself when an item passes: they may be missing before.
pub(super) fn own_labels(pipeline: &Pipeline) -> BTreeSet<String> {
    labels_of([&pipeline.reporters.success])
}

/// The labels that reports give.
fn labels_of<'r>(reports: impl IntoIterator<Item = &'r Vec<ReportAction>>) -> BTreeSet<String> {
    reports.into_iter().flatten().flat_map(ReportAction::labels).collect()
}

#[cfg(test)]
mod tests {
    use super::super::change::{Account, ChangeStatus, LabelStatus, RefUpdate, SubmitLabel};
    use super::super::config::{EventKind, Requirements};
    use super::super::ids::{ChangeId, Patchset};
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOW: Timestamp = Timestamp(1_000 * HOUR);

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    fn person(login: &str) -> Account {
        let email = Some(format!("{login}@example.org"));
        Account { name: None, email, username: Some(login.to_owned()) }
    }

    /// A vote that was given so many hours ago.
    fn vote(label: &str, value: i32, by: &str, hours: i64) -> Approval {
        let granted_at = Some(Timestamp(NOW.0 - hours * HOUR));
        Approval { label: Some(label.to_owned()), value, by: person(by), granted_at }
    }

    fn facts(approvals: Vec<Approval>) -> ChangeFacts {
        ChangeFacts {
            id: ChangeId { source: "gerrit".into(), number: 7 },
            current_patchset: 2,
            revision: "7".into(),
            fetch_ref: "refs/changes/07/7/2".to_owned(),
            project: "a".into(),
            branch: "stable/one".into(),
            change_id: None,
            subject: String::new(),
            message: String::new(),
            url: None,
            owner: person("owner"),
            topic: None,
            status: ChangeStatus::New,
            wip: false,
            approvals,
            submit_records: Vec::new(),
            files: None,
            parents: Vec::new(),
            as_of: NOW,
        }
    }

    fn filter(label: &str, values: &[i32]) -> ApprovalFilter {
        ApprovalFilter { labels: vec![(label.to_owned(), values.to_vec())], ..ApprovalFilter::default() }
    }

    fn trigger() -> Trigger {
        Trigger::of("gerrit".into())
    }

    #[test]
    fn votes() {
        let given = || vec![vote("Code-Review", 2, "alice", 10), vote("Verified", -1, "robot", 1)];
        let two = || filter("code review", &[2]);
        let by = |text: &str| ApprovalFilter { username: Some(pattern(text)), ..two() };
        let from = |text: &str| ApprovalFilter { email: Some(pattern(text)), ..two() };
        let older = |hours: i64| ApprovalFilter { older_than_us: Some(hours * HOUR), ..two() };
        let newer = |hours: i64| ApprovalFilter { newer_than_us: Some(hours * HOUR), ..two() };
        for (what, filter, fits) in [
            ("labels compare in lower case and with hyphens", two(), true),
            ("one of several values", filter("Verified", &[-2, -1]), true),
            ("the exact value", filter("Code-Review", &[1]), false),
            ("another label", filter("Workflow", &[1]), false),
            ("the login is found anywhere", by("lic"), true),
            ("another login", by("^bob$"), false),
            ("one single vote must fit all of it", by("robot"), false),
            ("the mail address is found anywhere", from("alice@"), true),
            ("another mail address", from("@example.com"), false),
            ("older", older(9), true),
            ("not older at the very moment", older(10), false),
            ("newer at the very moment", newer(10), true),
            ("not newer", newer(9), false),
            ("a filter with nothing in it fits any vote", ApprovalFilter::default(), true),
        ] {
            let (require, reject) = (std::slice::from_ref(&filter), std::slice::from_ref(&filter));
            let facts_now = facts(given());
            assert_eq!(approvals_hold(require, &[], &facts_now, NOW).is_ok(), fits, "{what}");
            assert_eq!(approvals_hold(&[], reject, &facts_now, NOW).is_err(), fits, "rejected: {what}");
        }
        let all = [two(), filter("Verified", &[1])];
        assert!(approvals_hold(&all, &[], &facts(given()), NOW).is_err(), "each must be met");
        assert!(approvals_hold(&[], &all, &facts(given()), NOW).is_err(), "one is enough to reject");
        assert!(
            approvals_hold(&[], &all, &facts(Vec::new()), NOW).is_ok(),
            "without votes nothing is rejected"
        );
        let nameless = Approval { label: None, ..vote("Code-Review", 2, "alice", 1) };
        assert!(
            approvals_hold(&[two()], &[], &facts(vec![nameless]), NOW).is_err(),
            "a vote without a label"
        );
        let undated = Approval { granted_at: None, ..vote("Code-Review", 2, "alice", 1) };
        for filter in [older(0), newer(9)] {
            assert!(approvals_hold(&[filter], &[], &facts(vec![undated.clone()]), NOW).is_err(), "no time");
        }
    }

    #[test]
    fn requirements() {
        let wants = |edit: &dyn Fn(&mut Requirements)| {
            let mut require = Requirements::default();
            edit(&mut require);
            require
        };
        let of = |status, patchset| (status, patchset);
        for (what, require, (status, patchset), holds) in [
            ("nothing is wanted", wants(&|_| {}), of(ChangeStatus::Abandoned, 1), true),
            ("open", wants(&|it| it.open = Some(true)), of(ChangeStatus::New, 2), true),
            ("a draft is open", wants(&|it| it.open = Some(true)), of(ChangeStatus::Draft, 2), true),
            ("merged is not open", wants(&|it| it.open = Some(true)), of(ChangeStatus::Merged, 2), false),
            ("closed is wanted", wants(&|it| it.open = Some(false)), of(ChangeStatus::Merged, 2), true),
            ("closed is wanted, open", wants(&|it| it.open = Some(false)), of(ChangeStatus::New, 2), false),
            ("newest", wants(&|it| it.current_patchset = Some(true)), of(ChangeStatus::New, 2), true),
            ("not newest", wants(&|it| it.current_patchset = Some(true)), of(ChangeStatus::New, 1), false),
            (
                "an old one is wanted",
                wants(&|it| it.current_patchset = Some(false)),
                of(ChangeStatus::New, 1),
                true,
            ),
            (
                "one of several words",
                wants(&|it| it.status = vec!["NEW".to_owned(), "DRAFT".to_owned()]),
                of(ChangeStatus::Draft, 2),
                true,
            ),
            (
                "another word",
                wants(&|it| it.status = vec!["NEW".to_owned()]),
                of(ChangeStatus::Draft, 2),
                false,
            ),
            ("a vote", wants(&|it| it.approvals = vec![filter("A", &[1])]), of(ChangeStatus::New, 2), false),
        ] {
            let mut pipeline = with_reporter();
            pipeline.require = require;
            let facts = ChangeFacts { status, ..facts(Vec::new()) };
            assert_eq!(requirements_hold(&pipeline, &facts, patchset, NOW).is_ok(), holds, "{what}");
        }
        let mut pipeline = with_reporter();
        pipeline.reject = vec![filter("Code-Review", &[-2])];
        let vetoed = facts(vec![vote("Code-Review", 2, "a", 1), vote("Code-Review", -2, "b", 1)]);
        let why = requirements_hold(&pipeline, &vetoed, 2, NOW).expect_err("rejected");
        assert_eq!(why, "a vote on 7,2 is Code-Review -2, which is rejected");
    }

    /// A pipeline that gives `Verified` itself.
    fn with_reporter() -> Pipeline {
        let review = ReportAction::Review {
            source: "gerrit".into(),
            labels: vec![("Verified".to_owned(), 2)],
            submit: true,
            flags: Vec::new(),
        };
        Pipeline {
            name: "gate".into(),
            description: None,
            manager: super::super::config::Manager::Dependent,
            source: "gerrit".into(),
            precedence: super::super::config::Precedence::Normal,
            triggers: Vec::new(),
            require: Requirements::default(),
            reject: Vec::new(),
            reporters: super::super::config::Reporters { success: vec![review], ..Default::default() },
            messages: super::super::config::Messages::default(),
            dequeue_on_new_patchset: true,
            ignore_dependencies: false,
            disable_after: None,
            window: super::super::config::WindowConfig::default(),
            queues: Vec::new(),
            landing: super::super::config::LandingWay::Submit,
        }
    }

    #[test]
    fn submit_rules() {
        use LabelStatus::{Impossible, May, Need, Ok as Given, Reject};
        let label = |label: &str, status| SubmitLabel { label: label.to_owned(), status };
        let needs = |labels: &[(&str, LabelStatus)]| {
            vec![SubmitRecord::NotReady {
                labels: labels.iter().map(|(name, status)| label(name, *status)).collect(),
            }]
        };
        for (records, why) in [
            (Vec::new(), None),
            (vec![SubmitRecord::Ok], None),
            (needs(&[("Verified", Need), ("Code-Review", Given), ("Other", May)]), None),
            (needs(&[("verified", Reject)]), None),
            (needs(&[("Code-Review", Need)]), Some("label Code-Review is needed")),
            (needs(&[("Code-Review", Reject)]), Some("label Code-Review is vetoed")),
            (needs(&[("Verified", Impossible)]), Some("nobody may give label Verified")),
            (vec![SubmitRecord::Error { why: "a broken rule".to_owned() }], Some("a broken rule")),
            ([needs(&[("A", Need)]), vec![SubmitRecord::Ok]].concat(), None),
        ] {
            let facts = ChangeFacts { submit_records: records.clone(), ..facts(Vec::new()) };
            assert_eq!(can_merge(&with_reporter(), &facts).err().as_deref(), why, "{records:?}");
        }
        let wip = ChangeFacts { wip: true, submit_records: vec![SubmitRecord::Ok], ..facts(Vec::new()) };
        assert!(can_merge(&with_reporter(), &wip).is_err());
    }

    fn comment() -> Event {
        let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
        event.change =
            Some(Patchset { change: ChangeId { source: "gerrit".into(), number: 7 }, patchset: 2 });
        event.by = person("alice");
        event.comment = Some("Patch Set 2:\n\nrecheck".to_owned());
        event.approvals = vec![("Workflow".to_owned(), 1)];
        event
    }

    fn with(edit: &dyn Fn(&mut Trigger)) -> Trigger {
        let mut trigger = trigger();
        edit(&mut trigger);
        trigger
    }

    fn voted() -> ChangeFacts {
        facts(vec![vote("Code-Review", 2, "bob", 1)])
    }

    #[test]
    fn triggers() {
        for (what, trigger, event, facts, fits) in vec![
            ("anything", with(&|_| {}), comment(), Some(voted()), true),
            ("another source", with(&|it| it.source = "zuul".into()), comment(), Some(voted()), false),
            (
                "the event",
                with(&|it| it.events = vec![pattern("comment-added")]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "another event",
                with(&|it| it.events = vec![pattern("change-merged")]),
                comment(),
                Some(voted()),
                false,
            ),
            (
                "an event is matched from its start",
                with(&|it| it.events = vec![pattern("added")]),
                comment(),
                Some(voted()),
                false,
            ),
            (
                "the branch's start",
                with(&|it| it.branches = vec![pattern("stable/")]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "a branch's end",
                with(&|it| it.branches = vec![pattern("one")]),
                comment(),
                Some(voted()),
                false,
            ),
            (
                "one of two branches",
                with(&|it| it.branches = vec![pattern("master"), pattern("stable")]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "the comment anywhere",
                with(&|it| it.comments = vec![pattern("recheck")]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "another comment",
                with(&|it| it.comments = vec![pattern("^recheck")]),
                comment(),
                Some(voted()),
                false,
            ),
            ("who", with(&|it| it.usernames = vec![pattern("^alice$")]), comment(), Some(voted()), true),
            (
                "somebody else",
                with(&|it| it.usernames = vec![pattern("^bob$")]),
                comment(),
                Some(voted()),
                false,
            ),
            ("from where", with(&|it| it.emails = vec![pattern("@example")]), comment(), Some(voted()), true),
            (
                "from elsewhere",
                with(&|it| it.emails = vec![pattern("@other")]),
                comment(),
                Some(voted()),
                false,
            ),
            (
                "a vote",
                with(&|it| it.approvals = vec![("workflow".to_owned(), 1)]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "another vote",
                with(&|it| it.approvals = vec![("Workflow".to_owned(), -1)]),
                comment(),
                Some(voted()),
                false,
            ),
            (
                "votes of the change",
                with(&|it| it.require = vec![filter("Code-Review", &[2])]),
                comment(),
                Some(voted()),
                true,
            ),
            (
                "rejected votes of the change",
                with(&|it| it.reject = vec![filter("Code-Review", &[2])]),
                comment(),
                Some(voted()),
                false,
            ),
            ("no time", with(&|it| it.time = Some("0 0 * * *".to_owned())), comment(), Some(voted()), false),
        ] {
            let found = trigger_matches(&trigger, &event, facts.as_ref(), NOW);
            assert_eq!(found.is_ok(), fits, "{what}: {found:?}");
        }
    }

    #[test]
    fn triggers_of_refs() {
        let moved = |new: &str| {
            let mut event = Event::new("gerrit".into(), EventKind::RefUpdated);
            let (project, name) = ("a".into(), "refs/tags/v1".into());
            event.ref_update = Some(RefUpdate { project, name, old: "1".into(), new: new.into() });
            event
        };
        for (what, trigger, event, facts, fits) in [
            ("a tag", with(&|it| it.refs = vec![pattern("refs/tags/")]), moved("2"), None, true),
            ("a branch is wanted", with(&|it| it.refs = vec![pattern("master")]), moved("2"), None, false),
            (
                "a ref is wanted",
                with(&|it| it.refs = vec![pattern("refs/")]),
                comment(),
                Some(voted()),
                false,
            ),
            ("a deleted ref", with(&|_| {}), moved("0000"), None, false),
            ("a deleted ref is wanted", with(&|it| it.ignore_deletes = false), moved("0000"), None, true),
            (
                "votes of a ref",
                with(&|it| it.require = vec![ApprovalFilter::default()]),
                moved("2"),
                None,
                false,
            ),
        ] {
            let found = trigger_matches(&trigger, &event, facts.as_ref(), NOW);
            assert_eq!(found.is_ok(), fits, "{what}: {found:?}");
        }
    }

    #[test]
    fn triggers_of_times_and_of_parents() {
        let mut timer = Event::new("timer".into(), EventKind::Timer);
        timer.timer = Some(("a".into(), "0 0 * * *".to_owned()));
        for (time, fits) in [("0 0 * * *", true), ("0 1 * * *", false)] {
            let trigger = with(&|it| {
                it.source = "timer".into();
                it.time = Some(time.to_owned());
            });
            assert_eq!(trigger_matches(&trigger, &timer, None, NOW).is_ok(), fits);
        }
        let mut parent = comment();
        parent.pipeline = Some("gate".into());
        for (name, fits) in [("gate", true), ("check", false)] {
            let trigger = with(&|it| it.pipelines = vec![pattern(name)]);
            assert_eq!(trigger_matches(&trigger, &parent, Some(&voted()), NOW).is_ok(), fits);
        }
    }
}
