//! [`Faults`]: nodes that are killed, frozen and restarted, one at a time.

use std::time::{Duration, Instant};

use oorandom::Rand32;

use crate::nodes::Nodes;

/// From the end of one fault to the beginning of the next.
const QUIET: Duration = Duration::from_secs(20);
/// How long a killed node stays away.
const AWAY: Duration = Duration::from_secs(4);
/// How long a node is frozen: longer than it takes the others to hide it.
const FROZEN: Duration = Duration::from_secs(8);

/// The node that is frozen at times, but never ends: its memory is what is looked at.
pub(crate) const IMMORTAL: usize = 0;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Frozen,
}

#[derive(Default)]
pub(crate) struct Faults {
    now: Option<(Fault, usize, Instant)>,
    mended: Option<Instant>,
    n_killed: usize,
    n_frozen: usize,
    n_restarted: usize,
}

impl Faults {
    /// Begins a fault if it is time for one, or mends it.
    pub(crate) async fn go_on(&mut self, nodes: &mut Nodes, random: &mut Rand32) {
        if let Some((fault, _, since)) = self.now {
            let lasts = match fault {
                Fault::Killed => AWAY,
                Fault::Frozen => FROZEN,
            };
            if since.elapsed() >= lasts {
                self.mend(nodes).await;
            }
            return;
        }
        if self.mended.get_or_insert_with(Instant::now).elapsed() < QUIET {
            return;
        }
        let mortal = IMMORTAL + 1 + random.rand_range(0..2) as usize;
        match random.rand_range(0..3) {
            0 => {
                nodes.kill(mortal);
                self.now = Some((Fault::Killed, mortal, Instant::now()));
                self.n_killed += 1;
            }
            1 => {
                let any = random.rand_range(0..3) as usize;
                nodes.freeze(any);
                self.now = Some((Fault::Frozen, any, Instant::now()));
                self.n_frozen += 1;
            }
            _ => {
                nodes.stop(mortal);
                nodes.has_ended(mortal).await;
                nodes.start(mortal);
                nodes.is_ready(mortal).await;
                self.mended = Some(Instant::now());
                self.n_restarted += 1;
            }
        }
    }

    /// Ends the fault of now, if there is one, and waits until its node is well.
    pub(crate) async fn mend(&mut self, nodes: &mut Nodes) {
        let Some((fault, at, _)) = self.now.take() else {
            return;
        };
        match fault {
            Fault::Killed => nodes.start(at),
            Fault::Frozen => nodes.thaw(at),
        }
        nodes.is_ready(at).await;
        self.mended = Some(Instant::now());
    }

    pub(crate) fn report(&self) -> String {
        format!(
            "nodes were killed {} times, frozen {} times, restarted {} times",
            self.n_killed, self.n_frozen, self.n_restarted
        )
    }
}
