//! One file per noun.

pub(crate) mod asset;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod config;
pub(crate) mod decision;
pub(crate) mod doctor;
pub(crate) mod gate;
pub(crate) mod import;
mod investigate;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod needle;
pub(crate) mod pipeline;
pub(crate) mod product;
pub(crate) mod restart;
pub(crate) mod result;
mod reverts;
pub(crate) mod run;
pub(crate) mod staging;
pub(crate) mod template;
pub(crate) mod test;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod waiver;
pub(crate) mod whatif;
pub(crate) mod worker;
