//! [`Backend`]: what an application does over HTTP meanwhile: guests without a socket, held by leases
//! that move between nodes, and which end wherever they are.

use std::time::Duration;

use oorandom::Rand32;
use serde_json::json;
use tokio::time::timeout;

use crate::crowd::{pick, room};
use crate::nodes::Nodes;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_GUESTS: usize = 40;

/// Somebody who is present because the backend says so.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) room: String,
}

#[derive(Default)]
pub(crate) struct Backend {
    guests: Vec<Guest>,
    n_names: usize,
    n_renewed: usize,
    n_ended: usize,
}

impl Backend {
    /// A guest comes, is renewed, on whichever node is asked, or is made to go.
    pub(crate) async fn do_something(&mut self, nodes: &Nodes, random: &mut Rand32) {
        let is_full = self.guests.len() >= MAX_GUESTS;
        let what = random.rand_range(0..4);
        if self.guests.is_empty() || (what < 2 && !is_full) {
            self.begin(nodes, random).await;
        } else if what == 0 {
            self.end(nodes, random).await;
        } else {
            let guest = &self.guests[pick(random, self.guests.len())];
            guest.put(nodes, nodes.any_well(random)).await;
            self.n_renewed += 1;
        }
    }

    async fn begin(&mut self, nodes: &Nodes, random: &mut Rand32) {
        self.n_names += 1;
        let name = format!("guest-{}", self.n_names);
        let room = room(random);
        let guest = Guest { name, room };
        guest.put(nodes, nodes.any_well(random)).await;
        self.guests.push(guest);
    }

    /// Ends a lease through any node, wherever it is held. Where nobody shows it, since its node is
    /// gone or hidden, it is still the backend's, which has it renewed later.
    async fn end(&mut self, nodes: &Nodes, random: &mut Rand32) {
        let at = pick(random, self.guests.len());
        let path = self.guests[at].path();
        match asked(nodes, nodes.any_well(random), "DELETE", &path, "").await {
            202 | 204 => {
                self.guests.swap_remove(at);
                self.n_ended += 1;
            }
            404 => {}
            status => panic!("DELETE {path} is answered {status}"),
        }
    }

    /// Renews all, as a backend does that knows that nodes were lost, and returns who is to be there.
    pub(crate) async fn renew(&mut self, nodes: &Nodes, random: &mut Rand32) -> &[Guest] {
        for guest in &self.guests {
            guest.put(nodes, nodes.any_well(random)).await;
        }
        &self.guests
    }

    /// Ends all.
    pub(crate) async fn leave(&mut self, nodes: &Nodes, random: &mut Rand32) {
        while !self.guests.is_empty() {
            self.end(nodes, random).await;
        }
    }

    pub(crate) fn report(&self) -> String {
        format!(
            "{} guests had leases, which were renewed {} times, and {} were ended",
            self.n_names, self.n_renewed, self.n_ended
        )
    }
}

impl Guest {
    fn path(&self) -> String {
        format!("/api/topics/{}/presences/{}", self.room, self.name)
    }

    async fn put(&self, nodes: &Nodes, at: usize) {
        let body = json!({ "meta": { "device": "backend" }, "lease_seconds": 3_600 }).to_string();
        let status = asked(nodes, at, "PUT", &self.path(), &body).await;
        assert!(matches!(status, 200 | 201), "{self:?}: {status}");
    }
}

/// Makes a user leave everything, wherever they are.
pub(crate) async fn evict(nodes: &Nodes, at: usize, name: &str) {
    let status = asked(nodes, at, "DELETE", &format!("/api/keys/{name}"), "").await;
    assert_eq!(status, 202, "{name} is evicted");
}

async fn asked(nodes: &Nodes, at: usize, method: &str, path: &str, body: &str) -> u16 {
    let answer = timeout(PATIENCE, nodes.ask(at, method, path, body)).await;
    let answer = answer.ok().flatten();
    let answer = answer.unwrap_or_else(|| panic!("{method} {path} is not answered"));
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or_else(|| panic!("{method} {path}: {answer}"))
}
