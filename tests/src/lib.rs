//! What the end-to-end tests stand on: the real binary, in a place of its own.
//!
//! Every test makes a [`Place`]: a directory that holds everything the test makes, and by which all processes that it
//! started are found again, also those that have left their parents. A test ends with [`Place::nothing_left`].
//!
//! The binary is the one beside the tests (`target/debug/assay`); it is built if it is not there. After a change build
//! it again: `cargo build -p assay`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod binary;
mod broker;
pub mod events;
pub mod gate;
pub mod looks;
mod place;
mod processes;
mod record;
mod server;
mod suite;
pub mod webdriver;

pub use binary::{Ended, Started, repository};
pub use broker::Broker;
pub use place::Place;
pub use processes::{Process, asking, eventually, signal};
pub use record::RunRecord;
pub use rustix::process::Signal;
pub use server::{Post, Up, http, signature};
pub use suite::{Suite, boot_sector};

use std::time::Duration;

/// The last resort: nothing that a test waits for takes as long, even on a busy host.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
