//! Assay's pure core: jobs, attempts, leases, dispatch, and a reason for everything.
#![warn(missing_docs)]

pub mod ids;
pub mod outcome;
