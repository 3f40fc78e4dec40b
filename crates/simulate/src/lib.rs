//! A virtual world around the gate.
//!
//! [`world::World`] holds the real [`assay_engine::gate::Gate`] and plays everything around it: review system, merger,
//! workers, lander, database and clock. Nothing here reads a file, a clock or a random number: the same scenario gives
//! the same time line, and a seed is enough to see a failure again.
#![warn(missing_docs)]

pub mod chance;
pub mod check;
pub mod content;
mod expect;
pub mod gerrit;
pub mod git;
mod land;
pub mod oracle;
pub mod outcome;
pub mod play;
pub mod player;
mod read;
mod refusal;
mod required;
pub mod rows;
pub mod scenario;
pub mod simulate;
pub mod time;
pub mod whatif;
pub mod world;
