//! The gate: events let changes into pipelines, changes are tested on what is ahead of them, and what passed lands.
//!
//! [`Gate::step`] takes an [`io::Input`] and the time and returns [`io::Effect`]s. The algorithms are Zuul's (nearest
//! non-failing item, adaptive window, shared change queues); where Zuul is silent, this one gives a [`reason`].

pub mod change;
pub mod config;
pub mod history;
pub mod ids;
pub mod io;
pub mod item;
pub mod pattern;
pub mod reason;
pub mod rows;
