//! The server as a whole, over real sockets, with scripted workers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod acts;
mod api;
mod assets;
mod audit;
mod common;
mod decided_again;
mod decisions;
mod downloads;
mod events;
mod faults;
mod gate;
mod gate_pages;
mod groups;
mod knowledge;
mod limits;
mod openqa;
mod openqa_more;
mod own;
mod package_rules;
mod pages;
mod people;
mod posts;
mod reporting;
mod restart;
mod retention;
mod rules;
mod safety;
mod thread;
mod workers;
