//! The outside world as small models behind real protocols: tests talk to them over real sockets.
#![warn(missing_docs)]

pub mod crew;
pub mod gerrit;
pub mod oidc;
pub mod smtp;
pub mod worker;

pub use worker::{Assigned, Connection, Refused, ScriptedWorker};
