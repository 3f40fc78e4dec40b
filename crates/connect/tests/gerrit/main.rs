//! The client against a Gerrit with real protocols.

mod common;
mod facts;
mod reviews;
mod source;
mod trust;
