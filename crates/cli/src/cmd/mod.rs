//! One file per noun.

pub(crate) mod asset;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod event;
pub(crate) mod gate;
pub(crate) mod import;
mod investigate;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod needle;
pub(crate) mod pipeline;
pub(crate) mod product;
pub(crate) mod restart;
mod reverts;
pub(crate) mod rule;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod staging;
pub(crate) mod template;
pub(crate) mod test;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod whatif;
pub(crate) mod worker;
