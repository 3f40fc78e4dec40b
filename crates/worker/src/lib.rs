//! The worker: takes attempts from a server under a lease, or runs one alone, and leaves a complete record.
//!
//! - [`attempt`]: the folder of one attempt, where everything it produces grows.
//! - [`assets`]: images and other files that jobs read and publish.
//! - [`exec`]: what carries an attempt out (`vm`, `shell`, `dummy`).
//! - [`link`]: the conversation with the server: leases, uploads, resume.
//! - [`questions`], [`networks`]: the way to the jobs beside one, by words and by frames.

pub mod assets;
pub mod attempt;
pub mod exec;
pub mod link;
pub mod lock;
pub mod networks;
pub mod questions;
pub mod suite;
