//! assay-fakes
