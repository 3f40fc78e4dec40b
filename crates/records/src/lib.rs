//! What a run leaves behind. Pure: values and bytes, no files.
//!
//! A run writes one stream of [`step::Record`]s (JSON lines), which is what pages and verdicts are made from,
//! and one [`journal`] of everything that went in and out of the machine. [`results`] reads what the tests of others
//! write, [`receipt`] signs and checks what a landing leaves behind.

pub mod history;
pub mod journal;
pub mod number;
pub mod receipt;
pub mod results;
pub mod step;
