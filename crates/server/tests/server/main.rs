//! The server as a whole, over real sockets, with scripted workers.

mod common;
mod thread;
