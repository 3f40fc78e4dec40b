//! Starts programs from one thread that lives as long as the process.
//!
//! The kernel's "kill me when my parent dies" means the thread that started the child: started from a
//! runtime's worker thread, a machine would die with that thread and not with the process.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts `command` as a child that belongs to the calling runtime.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    static THREAD: OnceLock<Option<Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts programs could not be started");
    let orders = THREAD.get_or_init(start).as_ref().ok_or_else(gone)?;
    let (reply, started) = oneshot::channel();
    orders.send(Order { command, runtime: Handle::current(), reply }).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

fn start() -> Option<Sender<Order>> {
    let (sender, orders) = channel::<Order>();
    let work = move || {
        for mut order in orders {
            let _entered = order.runtime.enter();
            // A caller that left drops the child, which kills it.
            let _ = order.reply.send(order.command.spawn());
        }
    };
    std::thread::Builder::new().name("assay-spawner".to_owned()).spawn(work).ok().map(|_| sender)
}
