//! The engine by tables, by text scenarios with golden output, and by simulation.

mod copies;
mod gate;
mod limits;
mod scenarios;
mod simulation;
mod tables;
mod world;
