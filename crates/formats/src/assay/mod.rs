//! Assay's own YAML.

/// Keys of a project; no pipeline can be called so.
pub(crate) const RESERVED: [&str; 4] = ["name", "merge-mode", "template", "templates"];
