//! The gate's loops: what the engine's gate wants done is carried out here, and what comes of it is its next input.
//!
//! ```text
//! sources ─▶ intake ─▶ ENGINE ─▶ merger ─▶ states, refs ─▶ workers (git over HTTP)
//!   timers ─┘   ▲        │  └──▶ outbox ─▶ reviews
//!               └────────┴─────▶ lander ─▶ branches, receipts ─▶ auditor
//! ```

mod ansi;
mod auditor;
mod connections;
mod decider;
mod git;
mod history;
mod hub;
mod intake;
mod lander;
#[cfg(test)]
mod lander_tests;
mod load;
mod logs;
pub(crate) mod mail;
mod merger;
mod merging;
mod outbox;
mod ports;
mod receipts;
mod repos;
mod service;
pub(crate) mod settings;
mod status;
#[cfg(test)]
mod testing;
pub(crate) mod timers;
mod warm;

pub(crate) use hub::Hub;
pub(crate) use lander::Pauses;
pub(crate) use ports::Consumes;
pub(crate) use service::{Plan, start};

use assay_engine::io::Answer;
use assay_engine::reason::Refusal;
use serde_json::{Value, json};

/// `/git`, `/logs`, and the history of events.
pub(crate) fn router() -> axum::Router<std::sync::Arc<crate::app::App>> {
    git::router().merge(logs::router()).merge(history::router())
}

/// What came of an event, as it is kept in the inbox.
pub(crate) fn caused(answer: &Result<Answer, Refusal>) -> String {
    let caused = match answer {
        Ok(Answer::Gate(assay_engine::gate::io::Answer::Event(pipelines))) => {
            let one = |(pipeline, result): &(_, Result<_, assay_engine::gate::reason::Ignored>)| match result
            {
                Ok(item) => json!({ "pipeline": pipeline, "item": item }),
                Err(ignored) => {
                    json!({ "pipeline": pipeline, "why": ignored.to_string(), "ignored": ignored })
                }
            };
            json!({ "pipelines": pipelines.iter().map(one).collect::<Vec<Value>>() })
        }
        Ok(_) => json!({}),
        Err(refusal) => json!({ "refused": refusal.to_string() }),
    };
    caused.to_string()
}
