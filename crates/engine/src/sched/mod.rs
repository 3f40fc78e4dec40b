//! What is decided about clusters of dependent jobs, and what limits them, as tables and plans without a state.

pub mod disk;
pub mod fair;
pub mod limits;
pub mod restart;
