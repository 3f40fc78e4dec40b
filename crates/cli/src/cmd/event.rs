//! `assay event …`: what happened outside, and what it led to.

use crate::client::{Client, query};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::events::{EventSources, OutsideEvent as Shown, OutsideEvents, Replay, RuleEffect};

const API: &str = "/api/assay/v1/inbox";

/// Events of outside systems: what came, and what it led to.
#[derive(clap::Subcommand)]
pub(crate) enum Event {
    /// List events, the newest first.
    #[command(
        after_help = "Examples:\n  assay event list --state parked\n  assay event list --source fedora --find bodhi.update --limit 20"
    )]
    List {
        /// Only of this source.
        #[arg(long)]
        source: Option<String>,
        /// Only in this state: received, matched or parked.
        #[arg(long)]
        state: Option<String>,
        /// Only what led to something.
        #[arg(long)]
        led: bool,
        /// Only with this text in the topic or in the body.
        #[arg(long, value_name = "TEXT")]
        find: Option<String>,
        /// Only before this number.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show an event with its body, the rules that match, and everything that it led to.
    #[command(after_help = "Example:\n  assay event show 1234")]
    Show {
        /// The event's number.
        id: i64,
    },
    /// Let the rules that are in force see an event again. What it caused is not caused again.
    #[command(
        after_help = "Examples:\n  assay event replay 1234              after a rule was corrected\n  assay event replay 1234 --force      once more, whatever was done before"
    )]
    Replay {
        /// The event's number.
        id: i64,
        /// What it caused is caused once more.
        #[arg(long)]
        force: bool,
    },
    /// List the sources and how they do: what was parked, and what one lost and another found.
    #[command(after_help = "Example:\n  assay event sources --json")]
    Sources,
}

impl Event {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::List { source, state, led, find, before, limit } => {
                let query = query([
                    ("limit", Some(limit.to_string())),
                    ("source", source),
                    ("state", state),
                    ("led", led.then(|| "true".to_owned())),
                    ("q", find),
                    ("before", before.map(|id| id.to_string())),
                ]);
                let list: OutsideEvents = client.get(&format!("{API}{query}"))?;
                if common.json {
                    ui::print_json(&list);
                    return Ok(Code::Ok);
                }
                let rows = list.events.into_iter().map(|event| {
                    let led = led_to(&event);
                    let about = event.about.unwrap_or_default();
                    vec![
                        event.id.to_string(),
                        event.received,
                        event.source,
                        event.topic,
                        about,
                        event.state,
                        led,
                    ]
                });
                println!(
                    "{}",
                    ui::table(&["id", "received", "source", "topic", "about", "state", "led to"], rows)
                );
                Ok(Code::Ok)
            }
            Self::Show { id } => Ok(show(common, client.get(&format!("{API}/{id}"))?)),
            Self::Replay { id, force } => {
                Ok(show(common, client.post(&format!("{API}/{id}/replay"), &Replay { force })?))
            }
            Self::Sources => {
                let all: EventSources = client.get("/api/assay/v1/sources")?;
                if common.json {
                    ui::print_json(&all);
                    return Ok(Code::Ok);
                }
                let rows = all.sources.into_iter().map(|source| {
                    let numbers =
                        [source.events, source.known, source.recovered, source.parked].map(|n| n.to_string());
                    let [events, known, recovered, parked] = numbers;
                    let doing = source.trouble.unwrap_or(source.doing);
                    vec![
                        source.name,
                        doing,
                        events,
                        known,
                        recovered,
                        parked,
                        source.last.unwrap_or_default(),
                    ]
                });
                println!(
                    "{}",
                    ui::table(&["source", "doing", "events", "known", "recovered", "parked", "last"], rows)
                );
                Ok(Code::Ok)
            }
        }
    }
}

/// What came of an event, or why nothing did.
fn led_to(event: &Shown) -> String {
    if let Some(why) = &event.parked {
        return why.clone();
    }
    let did = match event.effect_count {
        0 => None,
        count if event.rules.is_empty() => Some(count.to_string()),
        count => Some(format!("{count} of {}", event.rules.join(", "))),
    };
    let failed: Vec<&str> = event.failed.iter().map(|failed| failed.rule.as_str()).collect();
    let failed = (!failed.is_empty()).then(|| format!("failed: {}", failed.join(", ")));
    did.into_iter().chain(failed).collect::<Vec<_>>().join("; ")
}

fn show(common: &Common, event: Shown) -> Code {
    if common.json {
        ui::print_json(&event);
        return Code::Ok;
    }
    println!("event {} of {}: {}", event.id, event.source, event.topic);
    println!("key {}, received {}, {}", event.key, event.received, event.state);
    if let Some(why) = &event.parked {
        println!("parked: {why}");
    }
    if event.recovered {
        println!("another source should have brought it");
    }
    if event.state == "received" {
        println!("no rule has seen it yet; see `assay event show {}`", event.id);
    }
    for failed in &event.failed {
        println!("rule {} matches and cannot be carried out: {}", failed.rule, failed.why);
    }
    for effect in &event.effects {
        println!("{}", line(effect, event.id));
    }
    let body = event.body.unwrap_or_default();
    println!("{}", serde_json::to_string_pretty(&body).unwrap_or_default());
    Code::Ok
}

fn line(effect: &RuleEffect, event: i64) -> String {
    let jobs: Vec<String> = effect.jobs.iter().map(ToString::to_string).collect();
    let jobs = if jobs.is_empty() { String::new() } else { format!(", jobs {}", jobs.join(" ")) };
    let result = effect.result.map(|id| format!(", result {id}")).unwrap_or_default();
    let why = effect.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let waits = if effect.state == "waiting" { format!(" until {}", effect.due) } else { String::new() };
    let before = match effect.event {
        first if first == event => String::new(),
        first => format!(", known before by event {first}"),
    };
    format!("  rule {}: {} ({}{before}{waits}{jobs}{result}){why}", effect.rule, effect.what, effect.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_says_what_came_of_it() {
        let event = |more: serde_json::Value| -> Shown {
            let mut event = json!({
                "id": 1, "source": "s", "key": "k", "topic": "t", "received": "", "state": "matched", "recovered": false,
                "effect_count": 0,
            });
            event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            serde_json::from_value(event).expect("an event")
        };
        let failed = json!([{"rule": "a", "why": "x"}, {"rule": "b", "why": "y"}]);
        for (more, said) in [
            (json!({}), ""),
            (json!({"parked": "not JSON"}), "not JSON"),
            (json!({"effect_count": 2}), "2"),
            (json!({"effect_count": 2, "rules": ["r"]}), "2 of r"),
            (json!({"failed": failed}), "failed: a, b"),
            (json!({"effect_count": 1, "rules": ["r"], "failed": failed}), "1 of r; failed: a, b"),
        ] {
            assert_eq!(led_to(&event(more.clone())), said, "{more}");
        }
    }
}
