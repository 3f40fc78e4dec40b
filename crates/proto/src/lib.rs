//! Wire types: what crosses a process boundary, and nothing else.
#![warn(missing_docs)]

pub mod api;
pub mod clock;
pub mod diagnostic;
pub mod driver;
pub mod status;
pub mod task;
pub mod task_run;
pub mod worker;
pub mod xmlrpc;
