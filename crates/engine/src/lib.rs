//! Assay's pure core: jobs, attempts, leases, dispatch, and a reason for everything.
//!
//! [`state::State::step`] takes an [`io::Input`] and the time and returns [`io::Effect`]s: rows to store and messages
//! to send *after* they are stored. Nothing here reads a clock, a random number, a file or a socket, so that every
//! behaviour is a table test and every fault a simulation. What is stored suffices to go on:
//! [`state::State::rebuild`] makes the same state from [`rows::Rows`].
#![warn(missing_docs)]

pub mod address;
pub mod assets;
pub mod compose;
pub mod decision;
pub mod gate;
pub mod ids;
pub mod io;
pub mod job;
pub mod job_settings;
pub mod knowledge;
pub mod locks;
pub mod outcome;
pub mod product;
pub mod reason;
pub mod relations;
pub mod report;
pub mod rows;
pub mod rules;
pub mod sched;
pub mod settings;
pub mod state;
pub mod talk;
pub mod work;
