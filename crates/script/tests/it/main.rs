//! Tests from outside; one binary, so that Starlark is linked once.
#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "helpers of tests fail by panicking, and may be slow"
)]

mod check;
mod common;
mod python;
mod reference;
mod robust;
mod run;
