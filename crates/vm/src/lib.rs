//! assay-vm
