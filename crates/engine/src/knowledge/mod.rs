//! What people say about jobs and builds, and what earlier runs of a scenario tell about this one.
//!
//! [`words`] reads comments, [`carry`] decides whether what was said about an earlier failure holds for this one, and
//! [`investigate`] finds what changed since a scenario last passed.

pub mod carry;
pub mod investigate;
pub mod words;
