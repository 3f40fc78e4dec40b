//! assay-worker
