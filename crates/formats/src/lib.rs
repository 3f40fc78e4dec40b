//! What users bring, read into the engine's configuration: text in, [`assay_engine::gate::config::Config`] or changes of
//! [`assay_engine::product::Catalog`] and diagnostics out, all of them at once, each with file, line, column and the
//! nearest known name.
//!
//! [`zuul`] reads Zuul 2's `layout.yaml`, [`assay`] Assay's own YAML, [`openqa`] the templates of products; all over the
//! spanned tree of [`yaml`].

mod approval;
pub mod assay;
mod cron;
pub mod diagnostic;
mod hash;
pub mod openqa;
pub mod policy;
mod read;
pub mod result_yaml;
pub mod rules;
pub mod schedule;
pub mod task_header;
mod whole;
pub mod yaml;
pub mod zuul;

pub use whole::remarks;
