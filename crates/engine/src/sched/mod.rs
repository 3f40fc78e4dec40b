//! What is decided about clusters of dependent jobs, as tables and plans without a state.

pub mod restart;
