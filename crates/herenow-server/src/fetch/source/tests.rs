//! Look-ups that a forget overtakes, that others wait for, or that the cache has no room for, on
//! paused time.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;

/// A source that says the name that it had when it was asked.
struct Slow {
    takes: Arc<Mutex<Duration>>,
    name: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Ask for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    fn query(&self) -> Option<&str> {
        None
    }

    fn is_by_topic(&self) -> bool {
        false
    }

    fn check(&self) -> Pin<Box<dyn Future<Output = Result<bool, AskError>> + Send + '_>> {
        Box::pin(async { Ok(true) })
    }

    fn ask<'a>(&'a self, _topic: &'a Topic, keys: &'a [Key]) -> Answer<'a> {
        let (takes, name) = (*self.takes.lock(), *self.name.lock());
        self.asked.lock().push(keys.len());
        Box::pin(async move {
            sleep(takes).await;
            let found = keys
                .iter()
                .map(|key| (key.to_string(), json!({ "name": name }).to_string()));
            Ok(found.collect())
        })
    }
}

struct Rig {
    source: Arc<Source>,
    takes: Arc<Mutex<Duration>>,
    name: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<usize>>>,
    start: Instant,
}

impl Rig {
    fn new(takes: Duration) -> Self {
        let config = FetchConfig {
            deadline: Duration::from_secs(1),
            ..FetchConfig::default()
        };
        Self::with(takes, &config)
    }

    fn with(takes: Duration, config: &FetchConfig) -> Self {
        let (takes, name) = (Arc::new(Mutex::new(takes)), Arc::new(Mutex::new("old")));
        let asked = Arc::<Mutex<Vec<usize>>>::default();
        let ask = Slow {
            takes: takes.clone(),
            name: name.clone(),
            asked: asked.clone(),
        };
        Self {
            source: Arc::new(Source::new("fetch.url".to_owned(), Box::new(ask), config)),
            takes,
            name,
            asked,
            start: Instant::now(),
        }
    }

    /// Begins to look keys up; they are shown by their names and how long after the start that was.
    fn look_up(&self, keys: &[&'static str]) -> JoinHandle<(Vec<String>, u128)> {
        let (source, start) = (self.source.clone(), self.start);
        let keys: Vec<Key> = keys.iter().map(|key| Key::new(*key).unwrap()).collect();
        tokio::spawn(async move {
            let topic = Topic::new("room:1").unwrap();
            let found = source.fields(&topic, &keys).await.fields;
            let shown = keys.iter().map(|key| match found.get(key) {
                Some(fields) => fields.0.get().to_owned(),
                None => "nothing".to_owned(),
            });
            let mut shown: Vec<String> = shown.collect();
            shown.dedup();
            (shown, start.elapsed().as_millis())
        })
    }

    /// Waits until so much time has passed since the start.
    async fn at(&self, ms: u64) {
        tokio::time::sleep_until(self.start + Duration::from_millis(ms)).await;
    }

    fn rename_and_forget(&self, scope: &Scope) {
        *self.name.lock() = "new";
        self.source.forget(scope);
    }
}

const OLD: &str = r#"{"name":"old"}"#;
const NEW: &str = r#"{"name":"new"}"#;

fn shown(fields: &str, at_ms: u128) -> (Vec<String>, u128) {
    (vec![fields.to_owned()], at_ms)
}

#[tokio::test(start_paused = true)]
async fn srv_1680_a_look_up_that_a_forget_overtakes_asks_again_and_nobody_boards_it_after() {
    for scope in [
        Scope::All,
        Scope::Key("bob".to_owned()),
        Scope::Topic("room:1".to_owned()),
    ] {
        let rig = Rig::new(Duration::from_millis(300));
        let before = rig.look_up(&["bob"]);
        let boarded = rig.look_up(&["bob"]);
        rig.at(100).await;
        rig.rename_and_forget(&scope);
        let after = rig.look_up(&["bob"]);
        assert_eq!(after.await.unwrap(), shown(NEW, 400), "{scope:?}");
        assert_eq!(before.await.unwrap(), shown(NEW, 400), "{scope:?}");
        assert_eq!(boarded.await.unwrap(), shown(NEW, 400), "{scope:?}");
        assert_eq!(*rig.asked.lock(), [1, 1], "one asks for all three");
    }
    let rig = Rig::new(Duration::from_millis(300));
    let crowd = rig.look_up(&["ada", "bob", "cy", "di"]);
    rig.at(100).await;
    rig.rename_and_forget(&Scope::All);
    let bob = rig.look_up(&["bob"]);
    assert_eq!(bob.await.unwrap(), shown(NEW, 400));
    assert_eq!(crowd.await.unwrap(), shown(NEW, 600));
    assert_eq!(*rig.asked.lock(), [4, 1, 3], "each batch is one query");
    let known = rig.look_up(&["ada", "bob", "cy", "di"]);
    assert_eq!(known.await.unwrap(), shown(NEW, 600), "it is kept");
    assert!(rig.source.flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn srv_1681_without_a_newer_answer_what_was_read_is_shown_to_who_asked_before_the_forget() {
    let rig = Rig::new(Duration::from_millis(600));
    let before = rig.look_up(&["bob"]);
    let boarded = rig.look_up(&["bob"]);
    rig.at(500).await;
    rig.rename_and_forget(&Scope::Key("bob".to_owned()));
    *rig.takes.lock() = Duration::from_secs(3_600);
    let after = rig.look_up(&["bob"]);
    assert_eq!(
        before.await.unwrap(),
        shown(OLD, 1_000),
        "the deadline holds"
    );
    assert_eq!(boarded.await.unwrap(), shown(OLD, 1_000));
    assert_eq!(after.await.unwrap(), shown("nothing", 1_500));
    assert_eq!(*rig.asked.lock(), [1, 1]);
    assert!(rig.source.flights.is_empty());

    let rig = Rig::new(Duration::from_millis(600));
    let before = rig.look_up(&["bob"]);
    rig.at(500).await;
    rig.rename_and_forget(&Scope::All);
    assert_eq!(before.await.unwrap(), shown(OLD, 1_000));
    assert_eq!(*rig.asked.lock(), [1, 1]);
    let stats = rig.source.stats();
    assert!(stats.is_ok(), "it had less time than it is to have");
    assert_eq!((stats.n_late, stats.n_keys_stale), (1, 1));
    let later = rig.look_up(&["bob"]);
    assert_eq!(
        later.await.unwrap(),
        shown(NEW, 1_600),
        "what was overtaken is not kept"
    );
}

#[tokio::test(start_paused = true)]
async fn srv_1711_an_answer_is_shown_whole_though_the_cache_has_no_room_for_it() {
    let small = FetchConfig {
        max_cached: 2,
        ..FetchConfig::default()
    };
    let rig = Rig::with(Duration::from_millis(300), &small);
    let crowd = rig.look_up(&["ada", "bob", "cy", "di"]);
    let boarded = rig.look_up(&["di", "cy", "bob", "ada"]);
    assert_eq!(crowd.await.unwrap(), shown(OLD, 300));
    assert_eq!(boarded.await.unwrap(), shown(OLD, 300));
    assert_eq!(*rig.asked.lock(), [4]);
    let stats = rig.source.stats();
    assert_eq!((stats.n_cached, stats.n_keys_answered), (2, 8));
    assert_eq!((stats.n_keys_stale, stats.n_keys_without), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn srv_1740_who_waits_for_a_look_up_that_is_given_up_asks_again() {
    let rig = Rig::new(Duration::from_millis(300));
    let gone = rig.look_up(&["ada", "bob"]);
    rig.at(50).await;
    let boarded = [rig.look_up(&["bob", "ada"]), rig.look_up(&["ada"])];
    rig.at(150).await;
    gone.abort();
    for look_up in boarded {
        assert_eq!(look_up.await.unwrap(), shown(OLD, 450));
    }
    // Whoever is woken first asks for what it needs, and the other one for the rest.
    let n_asked: usize = rig.asked.lock().iter().sum();
    assert_eq!(n_asked, 2 + 2, "each key is asked for once more");
    assert!(rig.source.flights.is_empty());
    let stats = rig.source.stats();
    assert_eq!((stats.n_keys_without, stats.n_keys_answered), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn srv_1740_what_a_look_up_was_told_before_it_is_given_up_is_not_asked_again() {
    let one_by_one = FetchConfig {
        max_keys: 1,
        max_cached: 1,
        deadline: Duration::from_secs(1),
        ..FetchConfig::default()
    };
    let rig = Rig::with(Duration::from_millis(200), &one_by_one);
    let gone = rig.look_up(&["ada", "bob", "cy"]);
    rig.at(50).await;
    let boarded = rig.look_up(&["ada", "bob", "cy"]);
    rig.at(500).await;
    gone.abort();
    assert_eq!(boarded.await.unwrap(), shown(OLD, 700));
    assert_eq!(rig.asked.lock().len(), 4, "of the third key alone again");
}

#[tokio::test(start_paused = true)]
async fn srv_1742_each_key_is_read_on_the_one_flight_that_it_is_on() {
    let rig = Rig::new(Duration::from_millis(300));
    let topic = Topic::new("room:1").unwrap();
    let room: Vec<Key> = (0..20)
        .map(|n| Key::new(format!("u{n}")).unwrap())
        .collect();
    let mut flights = Vec::new();
    // Each who joins looks up all who are there, and nobody has an answer yet.
    for n_present in 1..=room.len() {
        let names = room[..n_present]
            .iter()
            .map(|key| rig.source.name(&topic, key));
        let (flight, seats) = rig.source.flights.board(0, names, |_| Need::Since(0));
        let read: Vec<&[Key]> = seats.iter().map(Seat::keys).collect();
        let others: Vec<&[Key]> = room[..n_present - 1].chunks(1).collect();
        assert_eq!(read, others, "one key on each of the flights");
        assert_eq!(flight.keys(), room[n_present - 1..n_present]);
        flights.push(flight);
    }
}
