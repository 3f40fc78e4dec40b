//! assay-script
