//! Wire types: what crosses a process boundary, and nothing else.
#![warn(missing_docs)]

pub mod clock;
pub mod diagnostic;
pub mod driver;
pub mod worker;
