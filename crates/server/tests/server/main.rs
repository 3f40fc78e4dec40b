//! The server as a whole, over real sockets, with scripted workers.

mod api;
mod common;
mod faults;
mod pages;
mod safety;
mod thread;
mod workers;
