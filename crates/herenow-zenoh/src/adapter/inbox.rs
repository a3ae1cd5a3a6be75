//! The thread that hands what arrived to the receiver: a slow receiver holds up nobody's link.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use herenow_pubsub::Receiver;

use super::frame;
use super::shared::{Arrival, Shared};

/// Starts the thread; it ends when the queue is closed and empty.
pub(super) fn spawn(receiver: Arc<dyn Receiver>, shared: &Arc<Shared>) -> io::Result<()> {
    let shared = shared.clone();
    let run = move || {
        // A receiver may want the runtime of the program, as it has in every other adapter.
        let _entered = shared.runtime.get().map(tokio::runtime::Handle::enter);
        while let Some(arrival) = shared.incoming.pop() {
            let handing = AssertUnwindSafe(|| hand_over(&*receiver, &shared, arrival));
            if catch_unwind(handing).is_err() {
                tracing::error!("the receiver panicked; its message is lost");
            }
        }
    };
    thread::Builder::new()
        .name("herenow-zenoh-in".into())
        .spawn(run)?;
    Ok(())
}

fn hand_over(receiver: &dyn Receiver, shared: &Shared, arrival: Arrival) {
    match arrival {
        Arrival::PeerSeen(peer) => receiver.peer_seen(&peer),
        Arrival::PeerGone(peer) => receiver.peer_gone(&peer),
        Arrival::Frame(frame) => match frame::parse(&frame) {
            // Our own does not come back: what bears our name is of another process that has it.
            Some(parsed) => receiver.receive(parsed.from, parsed.subject, parsed.bytes),
            None => {
                shared.counters.n_malformed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(frame_bytes = frame.len(), "dropped a malformed message");
            }
        },
    }
}
