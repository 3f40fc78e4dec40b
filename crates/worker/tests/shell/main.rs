//! Shell jobs with the real bubblewrap, bash and git.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;
mod endings;
mod keeping;
mod phases;
mod tasks;
mod view;
mod workspace;
