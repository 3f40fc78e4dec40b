//! The outside world as small models behind real protocols: tests talk to them over real sockets.
#![warn(missing_docs)]

pub mod bodhi;
pub mod composes;
pub mod copr;
pub mod crew;
pub mod datagrepper;
pub mod distgit;
pub mod gerrit;
pub mod koji;
pub mod matrix;
pub mod oidc;
pub mod sink;
pub mod smtp;
mod web;
pub mod wiki;
pub mod worker;

pub use worker::{Assigned, Connection, Refused, ScriptedWorker};
