//! Connections to outside systems. Each is a pure reader of what the system says and a client that talks to it.
//!
//! A [`Source`] brings what happens outside into the inbox; a [`Reporter`] carries out what was decided.
#![warn(missing_docs)]

pub mod events;
pub mod files;
pub mod gerrit;
pub mod http;
pub mod inbox;
pub mod pace;
pub mod report;

pub use inbox::{Arrival, Batch, Cursor, Inbox, InboxError, MadePatchset, News, Start, Tips};

use assay_engine::gate::io::Report;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Brings what happens at an outside system into the inbox, until it is cancelled.
#[async_trait]
pub trait Source: Send {
    /// Runs; comes back only when `cancel` is cancelled.
    async fn run(&mut self, inbox: &dyn Inbox, cancel: &CancellationToken);
}

/// Tells an outside system what was decided.
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Tells it, once.
    async fn report(&self, report: &Report) -> Delivery;

    /// Looks whether it has been told already; asked after [`Delivery::InDoubt`] and after a restart.
    async fn is_delivered(&self, report: &Report) -> Result<bool, String>;
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is there.
    Delivered,
    /// It will never be taken like this; why, with a remedy.
    Refused(String),
    /// It was not sent; try again later.
    NotNow(String),
    /// It may or may not be there; look before it is sent again.
    InDoubt(String),
}
