//! The fake Gerrit, with real clients.

#[path = "../common/mod.rs"]
mod common;
mod git_review;
mod landing;
mod pushing;
mod rest;
mod ssh;
mod troubles;
mod zuul;
