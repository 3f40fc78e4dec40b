//! Rules that can never match.

use super::cond::{Cond, Test};
use super::expr::ROOTS;
use super::topic::TopicPattern;
use super::{FanOut, Rule, RuleSet};
use std::collections::BTreeMap;

/// Ways in which a condition can be met that are looked at; beyond it nothing is claimed.
const MOST_WAYS: usize = 512;

/// A finding about a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: String,
    /// The file and the line.
    pub place: String,
    /// One sentence.
    pub problem: String,
}

/// Something that has to be so, or must not be.
#[derive(Debug, Clone)]
enum Literal<'r> {
    Topic(&'r [TopicPattern], bool),
    Field(&'r str, bool, &'r Test, bool),
}

/// What is known of the world that rules are for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'k> {
    /// The topics that the sources bring.
    pub topics: Option<&'k [TopicPattern]>,
    /// The sources' names.
    pub sources: Option<&'k [String]>,
}

/// The kinds of items that are known by a topic's end ([`super::derive`]).
const KINDS: [(&str, &str); 5] = [
    ("buildsys.build.state.change", "koji_build"),
    ("buildsys.tag", "koji_tag"),
    ("buildsys.untag", "koji_tag"),
    ("pungi.compose.status.change", "compose"),
    ("coreos.build.state.change", "fcosbuild"),
];

/// Finds rules that can never match, as far as that is known.
pub fn check(rules: &RuleSet, known: Known<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &rules.rules {
        let mut say = |problem: String| {
            found.push(Finding { rule: rule.name.clone(), place: rule.place.clone(), problem });
        };
        for root in roots(rule) {
            say(format!("it reads `{root}`, which no message has; a name begins with {}", ROOTS.join(", ")));
        }
        for pattern in topics(&rule.when) {
            if let Some(why) = pattern.is_odd() {
                say(format!("the topic {pattern} can hardly match: {why}"));
            }
        }
        if let Some(why) = never(&rule.when, known) {
            say(format!("it can never match: {why}"));
        }
        if let Some(why) = rule.only.as_ref().and_then(|only| never(only, Known::default())) {
            say(format!("no element can be wanted: {why}"));
        }
        for (name, values) in &rule.fan_out {
            if matches!(values, FanOut::Values(values) if values.is_empty()) {
                say(format!("it does nothing: fan-out `{name}` has no values"));
            }
        }
        if rule.run.is_empty() {
            say("it does nothing: `run` is empty".to_owned());
        }
    }
    found
}

/// First names of paths that are none.
fn roots(rule: &Rule) -> Vec<String> {
    fn of(cond: &Cond, all: &mut Vec<String>) {
        match cond {
            Cond::All(conds) | Cond::Any(conds) => conds.iter().for_each(|cond| of(cond, all)),
            Cond::Not(cond) => of(cond, all),
            Cond::Field { expr, .. } if !ROOTS.contains(&expr.root()) => all.push(expr.root().to_owned()),
            Cond::Topic(_) | Cond::Field { .. } => {}
        }
    }
    let mut all = Vec::new();
    of(&rule.when, &mut all);
    if let Some(only) = &rule.only {
        of(only, &mut all);
    }
    all.sort();
    all.dedup();
    all
}

/// The topics that a condition asks for or against.
fn topics(cond: &Cond) -> Vec<&TopicPattern> {
    match cond {
        Cond::All(conds) | Cond::Any(conds) => conds.iter().flat_map(topics).collect(),
        Cond::Not(cond) => topics(cond),
        Cond::Topic(patterns) => patterns.iter().collect(),
        Cond::Field { .. } => Vec::new(),
    }
}

/// Why a condition is never met; none if it may be, as far as is known.
fn never(cond: &Cond, known: Known<'_>) -> Option<String> {
    let ways = ways(cond, false)?;
    let mut why = "it asks for one of nothing".to_owned();
    for way in &ways {
        why = contradiction(way, known)?;
    }
    Some(why)
}

/// All ways to meet a condition; none if they are too many.
fn ways(cond: &Cond, negated: bool) -> Option<Vec<Vec<Literal<'_>>>> {
    match (cond, negated) {
        (Cond::All(conds), false) | (Cond::Any(conds), true) => {
            let mut all = vec![Vec::new()];
            for cond in conds {
                let these = ways(cond, negated)?;
                if all.len() * these.len() > MOST_WAYS {
                    return None;
                }
                let joined = |one: &Vec<_>, other: &Vec<_>| one.iter().chain(other).cloned().collect();
                all = all.iter().flat_map(|one| these.iter().map(move |other| joined(one, other))).collect();
            }
            Some(all)
        }
        (Cond::Any(conds), false) | (Cond::All(conds), true) => {
            let mut all = Vec::new();
            for cond in conds {
                all.extend(ways(cond, negated)?);
            }
            (all.len() <= MOST_WAYS).then_some(all)
        }
        (Cond::Not(cond), negated) => ways(cond, !negated),
        (Cond::Topic(patterns), negated) => Some(vec![vec![Literal::Topic(patterns, !negated)]]),
        (Cond::Field { expr, test, .. }, negated) => {
            Some(vec![vec![Literal::Field(expr.as_str(), expr.is_many(), test, !negated)]])
        }
    }
}

/// Why these cannot all be so.
fn contradiction(way: &[Literal<'_>], known: Known<'_>) -> Option<String> {
    let mut fields: BTreeMap<&str, Vec<(&Test, bool)>> = BTreeMap::new();
    let mut topics: Vec<(&[TopicPattern], bool)> = Vec::new();
    for literal in way {
        match literal {
            Literal::Topic(patterns, wanted) => topics.push((patterns, *wanted)),
            // Of several values each test may be passed by another one.
            Literal::Field(_, true, ..) => {}
            Literal::Field(expr, false, test, wanted) => {
                fields.entry(expr).or_default().push((test, *wanted));
            }
        }
    }
    of_topics(&topics, known.topics)
        .or_else(|| of_kind(&topics, fields.get("item.type").map(Vec::as_slice).unwrap_or_default()))
        .or_else(|| of_source(known.sources?, fields.get("source")?))
        .or_else(|| fields.iter().find_map(|(expr, tests)| of_field(expr, tests)))
}

/// The kind of what a message of a well-known topic is about is known.
fn of_kind(topics: &[(&[TopicPattern], bool)], tests: &[(&Test, bool)]) -> Option<String> {
    let (patterns, _) = topics.iter().find(|(_, wanted)| *wanted)?;
    let kind = |pattern: &TopicPattern| {
        KINDS.iter().find(|(tail, _)| pattern.as_str().ends_with(tail)).map(|(_, kind)| *kind)
    };
    let kinds: Vec<&str> = patterns.iter().map(kind).collect::<Option<_>>()?;
    // A message may lack what its item is made of, and then only a test for a value is not passed.
    let values = tests.iter().filter(|(test, wanted)| *wanted && matches!(test, Test::OneOf(_)));
    let fits = |kind: &&str| values.clone().all(|(test, _)| test.passes(kind));
    (!kinds.is_empty() && !kinds.iter().any(fits))
        .then(|| format!("messages of {} are about items of the type {}", list(patterns), kinds.join(" or ")))
}

fn of_source(sources: &[String], tests: &[(&Test, bool)]) -> Option<String> {
    let fits = |source: &String| tests.iter().all(|(test, wanted)| test.passes(source) == *wanted);
    (!sources.iter().any(fits)).then(|| {
        let names = if sources.is_empty() { "none".to_owned() } else { sources.join(", ") };
        format!("no source is called so; there are {names}")
    })
}

fn of_topics(topics: &[(&[TopicPattern], bool)], heard: Option<&[TopicPattern]>) -> Option<String> {
    let wanted: Vec<_> = topics.iter().filter(|(_, wanted)| *wanted).map(|(patterns, _)| *patterns).collect();
    for (at, one) in wanted.iter().enumerate() {
        for other in &wanted[at + 1..] {
            if !one.iter().any(|a| other.iter().any(|b| a.overlaps(b))) {
                return Some(format!("no topic fits both {} and {}", list(one), list(other)));
            }
        }
        for (refused, _) in topics.iter().filter(|(_, wanted)| !wanted) {
            if one.iter().all(|a| a.is_exact() && refused.iter().any(|b| b.matches(a.as_str()))) {
                return Some(format!("the topic has to be {}, and must not be {}", list(one), list(refused)));
            }
        }
        if let Some(heard) = heard
            && !one.iter().any(|a| heard.iter().any(|b| a.overlaps(b)))
        {
            return Some(format!("no source brings the topic {}; they bring {}", list(one), list(heard)));
        }
    }
    None
}

fn list(patterns: &[TopicPattern]) -> String {
    let all: Vec<_> = patterns.iter().map(TopicPattern::as_str).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(" or ") }
}

fn of_field(expr: &str, tests: &[(&Test, bool)]) -> Option<String> {
    let mut flat = Vec::new();
    for (test, wanted) in tests {
        flatten(test, *wanted, &mut flat);
    }
    let absent = flat.iter().any(|(test, wanted)| matches!(test, Test::Exists(there) if there != wanted));
    let needs = flat.iter().find(|(test, wanted)| {
        *wanted && !matches!(test, Test::Exists(false)) || matches!(test, Test::Exists(false)) && !wanted
    });
    if let (true, Some((test, _))) = (absent, needs) {
        return Some(format!("{expr} must not be there, and has to be {test}"));
    }
    let mut left: Option<Vec<&String>> = None;
    for (test, wanted) in &flat {
        if let (Test::OneOf(values), true) = (test, wanted) {
            left = Some(match left {
                None => values.iter().collect(),
                Some(left) => left.into_iter().filter(|value| values.contains(value)).collect(),
            });
        }
    }
    if let Some(left) = left
        && !left.iter().any(|value| flat.iter().all(|(test, wanted)| test.passes(value) == *wanted))
    {
        let all: Vec<_> = flat
            .iter()
            .map(|(test, wanted)| if *wanted { test.to_string() } else { format!("not {test}") })
            .collect();
        return Some(format!("{expr} cannot be {}", all.join(" and ")));
    }
    let least = flat.iter().filter_map(|(test, wanted)| match test {
        Test::Least(least) if *wanted => Some(*least),
        _ => None,
    });
    let most = flat.iter().filter_map(|(test, wanted)| match test {
        Test::Most(most) if *wanted => Some(*most),
        _ => None,
    });
    match (least.max(), most.min()) {
        (Some(least), Some(most)) if least > most => {
            Some(format!("{expr} cannot be at least {least} and at most {most}"))
        }
        _ => None,
    }
}

fn flatten<'t>(test: &'t Test, wanted: bool, flat: &mut Vec<(&'t Test, bool)>) {
    match (test, wanted) {
        (Test::All(tests), true) => tests.iter().for_each(|test| flatten(test, true, flat)),
        (Test::Not(test), wanted) => flatten(test, !wanted, flat),
        (test, wanted) => flat.push((test, wanted)),
    }
}
