//! The fake Gerrit, with real clients.

#[path = "../common/mod.rs"]
mod common;
mod git_review;
mod ssh;
