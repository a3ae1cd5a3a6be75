//! A real PostgreSQL that is slowed, cut off, stopped and started again while people come and go:
//! what it does to their diffs is nothing but names that are missing.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/fields.rs"]
mod fields;
#[path = "../../herenow-sql/tests/support/postgres.rs"]
mod postgres;
#[path = "support/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use self::fields::{node_fetch, shown, user};
use self::postgres::{Postgres, Proxy, Traffic};
use self::rig::{Client, Rig, within};

const DEADLINE: Duration = Duration::from_millis(300);
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// What a diff may take beside its look-ups, on a machine that does much else.
const SLACK: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// Who came so many joins ago leaves.
const N_HERE: usize = 5;
/// Joins in one topic while the database is in one state.
const N_JOINS: usize = 40;
const ROOMS: [&str; 3] = ["room:1", "room:2", "room:3"];

/// What a member of a room heard.
#[derive(Debug, Default)]
struct Heard {
    /// When somebody was seen to join, and under which name.
    joins: BTreeMap<usize, (Instant, Option<String>)>,
    leaves: BTreeSet<usize>,
    /// What is not as it must be.
    faults: Vec<String>,
}

impl Heard {
    /// Who joined and did not leave.
    fn here(&self) -> BTreeSet<String> {
        let joined = self.joins.keys();
        joined
            .filter(|n| !self.leaves.contains(n))
            .map(|n| format!("u{n}"))
            .collect()
    }

    /// Takes in a diff: joins and leaves come once, in the order in which they were caused.
    fn take(&mut self, diff: &Value) {
        let number = |key: &String| key.strip_prefix('u')?.parse::<usize>().ok();
        let now = Instant::now();
        let mut joins: Vec<(usize, &Value)> = diff["joins"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(key, entry)| Some((number(key)?, entry)))
            .collect();
        joins.sort_by_key(|(n, _)| *n);
        for (n, entry) in joins {
            if self
                .joins
                .last_key_value()
                .is_some_and(|(last, _)| *last >= n)
            {
                self.faults.push(format!("u{n} joined again or too late"));
            }
            let name = entry["name"].as_str().map(str::to_owned);
            if name
                .as_ref()
                .is_some_and(|name| *name != format!("User {n}"))
            {
                self.faults.push(format!("u{n} is called {name:?}"));
            }
            self.joins.insert(n, (now, name));
        }
        let mut leaves: Vec<usize> = diff["leaves"]
            .as_object()
            .unwrap()
            .keys()
            .filter_map(number)
            .collect();
        leaves.sort_unstable();
        for n in leaves {
            if self.leaves.last().is_some_and(|last| *last >= n) || !self.joins.contains_key(&n) {
                self.faults.push(format!(
                    "u{n} left again, too late, or without having joined"
                ));
            }
            self.leaves.insert(n);
        }
    }
}

/// A room: people who come and go in order, and one who listens.
struct Room {
    topic: &'static str,
    heard: Arc<Mutex<Heard>>,
    listener: JoinHandle<()>,
    /// When each came.
    came: Vec<Instant>,
}

impl Room {
    async fn open(rig: &Rig, topic: &'static str) -> Self {
        let client = rig.connect("").await.joined(topic, user("ada")).await;
        let heard = Arc::<Mutex<Heard>>::default();
        let listener = tokio::spawn(listen(client, heard.clone()));
        let came = Vec::new();
        Self {
            topic,
            heard,
            listener,
            came,
        }
    }

    /// Has people come, and others leave, and waits until those who stay were seen to come.
    async fn churn(&mut self, rig: &Rig) {
        let path = |n: usize| format!("/api/topics/{}/presences/u{n}", self.topic);
        for _ in 0..N_JOINS {
            let n = self.came.len();
            let json = "content-type: application/json\r\n";
            let came = rig
                .http("PUT", &path(n), json, r#"{"lease_seconds": 600}"#)
                .await;
            assert_eq!(came.status, 201, "{}", came.body);
            self.came.push(Instant::now());
            if let Some(left) = n.checked_sub(N_HERE) {
                let left = rig.http("DELETE", &path(left), "", "").await;
                assert_eq!(left.status, 204, "{}", left.body);
            }
        }
        let last = self.came.len() - 1;
        let seen = async {
            while !self.heard.lock().unwrap().joins.contains_key(&last) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "{}: u{last} was not seen to come", self.topic);
    }

    /// The names of those who were seen to come since `from`.
    fn names_since(&self, from: usize) -> Vec<Option<String>> {
        let heard = self.heard.lock().unwrap();
        let names = heard.joins.range(from..).map(|(_, (_, name))| name.clone());
        names.collect()
    }
}

async fn listen(mut client: Client, heard: Arc<Mutex<Heard>>) {
    loop {
        let diff = client.event("presence_diff").await;
        heard.lock().unwrap().take(&diff);
    }
}

/// Looks ada up until the source is in a state: looking is what finds out.
async fn look_until(rig: &Rig, state: &str) {
    let looks = async {
        while node_fetch(rig).await[0]["state"] != state {
            shown(rig, "room:1", "ada").await;
            tokio::time::sleep(LOOK).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looks).await;
    assert!(seen.is_ok(), "the source is never {state}");
}

async fn churn(rig: &Rig, rooms: &mut [Room]) {
    let churns = rooms.iter_mut().map(|room| room.churn(rig));
    futures_util::future::join_all(churns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_760_a_database_that_is_slowed_cut_off_stopped_and_restarted_costs_names_and_no_diff() {
    let mut database = Postgres::start();
    database.execute(
        "create table users (id text primary key, name text);
         insert into users select 'u' || n, 'User ' || n from generate_series(0, 9999) n;
         insert into users values ('ada', 'Ada');
         create table pace (seconds float); insert into pace values (0);",
    );
    let proxy = Proxy::start(database.socket()).await;
    let query = "select id, name from users where id = any($1) \
                 and (select pg_sleep(seconds)::text from pace) is not null";
    let url = proxy.url();
    let flags = [
        ("fetch.database_url", url.as_str()),
        ("fetch.query", query),
        ("fetch.deadline", "300ms"),
        ("fetch.ttl", "0s"),
        ("fetch.min_pause", "200ms"),
        ("fetch.max_pause", "400ms"),
    ];
    let rig = Rig::with(&flags).await;
    let mut rooms = Vec::new();
    for topic in ROOMS {
        rooms.push(Room::open(&rig, topic).await);
    }
    churn(&rig, &mut rooms).await;
    fields::until_shown(&rig, "room:1", "ada", |fields| fields["name"] == "Ada").await;
    for fault in ["slow", "cut off", "stopped"] {
        match fault {
            "slow" => database.execute("update pace set seconds = 60"),
            "cut off" => proxy.set(Traffic::Stalls),
            _ => database.stop(),
        }
        goes_on_without_names(&rig, &mut rooms, fault).await;
        match fault {
            "slow" => database.execute("update pace set seconds = 0"),
            "cut off" => proxy.set(Traffic::Passes),
            _ => database.restart(),
        }
        look_until(&rig, "ok").await;
        let from = rooms[0].came.len();
        churn(&rig, &mut rooms).await;
        let names = rooms[0].names_since(from);
        assert!(
            names.iter().flatten().count() > 0,
            "{fault}: names are back: {names:?}"
        );
    }
    for room in rooms {
        check(&rig, room).await;
    }
    rig.stop().await;
}

/// While the source is down nobody waits for it, nor is it asked all the time.
async fn goes_on_without_names(rig: &Rig, rooms: &mut [Room], fault: &str) {
    look_until(rig, "down").await;
    let (start, n_before) = (
        Instant::now(),
        node_fetch(rig).await[0]["n_queries"].clone(),
    );
    let from = rooms[0].came.len();
    churn(rig, rooms).await;
    assert_eq!(
        shown(rig, "room:1", "ada").await["name"],
        "Ada",
        "{fault}: she was known"
    );
    assert_eq!(
        rooms[0].names_since(from).iter().flatten().count(),
        0,
        "{fault}"
    );
    let fetch = &node_fetch(rig).await[0];
    assert_eq!(fetch["state"], "down", "{fault}: {fetch}");
    let n_queries = fetch["n_queries"].as_u64().unwrap() - n_before.as_u64().unwrap();
    let n_pauses = start.elapsed().as_millis() / MIN_PAUSE.as_millis();
    assert!(
        u128::from(n_queries) <= n_pauses + 1,
        "{fault}: {n_queries} in {n_pauses} pauses"
    );
}

/// Checks what was heard of a room against what was done and against what is there now.
async fn check(rig: &Rig, room: Room) {
    let path = format!("/api/topics/{}/presences?bare=true&limit=1000", room.topic);
    let list = within(rig.get(&path)).await.json();
    let present = list["presences"].as_array().unwrap().iter();
    let present: BTreeSet<String> = present
        .map(|presence| presence["key"].as_str().unwrap().to_owned())
        .filter(|key| key != "ada")
        .collect();
    // The diff of the last change may still be on its way.
    let told = async {
        while room.heard.lock().unwrap().here() != present {
            tokio::time::sleep(LOOK).await;
        }
    };
    let all_told = tokio::time::timeout(PATIENCE, told).await;
    room.listener.abort();
    let heard = room.heard.lock().unwrap();
    assert!(
        all_told.is_ok(),
        "{}: {:?} and not {present:?}",
        room.topic,
        heard.here()
    );
    assert_eq!(heard.faults, Vec::<String>::new(), "{}", room.topic);
    // A diff waits for its own look-up, and for that of the diff before it.
    for (n, (seen, _)) in &heard.joins {
        let late = seen.saturating_duration_since(room.came[*n]);
        assert!(
            late < 2 * DEADLINE + SLACK,
            "{}: u{n} after {late:?}",
            room.topic
        );
    }
}
