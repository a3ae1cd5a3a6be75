//! Buckets, places and names, on made-up addresses and users.

use super::*;

fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Limits {
    let mut config = LimitsConfig::default();
    change(&mut config);
    Limits::new(config)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

const NOW: Duration = Duration::from_secs(100);

#[test]
fn srv_850_an_address_has_so_many_connections_and_not_more() {
    let limits = limits(|config| config.sockets_per_address = 2);
    let admit = |of| limits.admit_address(address(of), NOW);
    let (one, _two) = (admit("203.0.113.1").unwrap(), admit("203.0.113.1").unwrap());
    let over = admit("203.0.113.1").unwrap_err();
    assert_eq!(
        over.to_string(),
        "too many connections from this address, the limit is 2 (limits.sockets_per_address)"
    );
    let _other = admit("203.0.113.2").unwrap();
    drop(one);
    let _again = admit("203.0.113.1").unwrap();
    assert!(
        admit("::ffff:203.0.113.1").is_err(),
        "it is the same address"
    );
    // The loopback is never refused, and who has no address is not either.
    let _many: Vec<_> = (0..9).map(|_| admit("127.0.0.1").unwrap()).collect();
    let _none: Vec<_> = (0..9)
        .map(|_| limits.admit_address(None, NOW).unwrap())
        .collect();
}

#[test]
fn srv_850_an_address_of_version_6_is_its_upper_half() {
    let limits = limits(|config| config.sockets_per_address = 1);
    let admit = |of| limits.admit_address(address(of), NOW);
    let _held = admit("2001:db8:1:2::1").unwrap();
    assert!(admit("2001:db8:1:2:ffff::9").is_err());
    assert!(admit("2001:db8:1:3::1").is_ok());
}

#[test]
fn srv_851_handshakes_of_an_address_come_at_a_rate() {
    let limits = limits(|config| config.handshake_rate = Rate::new(10, 2));
    let admit = |ms| limits.admit_address(address("203.0.113.1"), NOW + Duration::from_millis(ms));
    drop((admit(0).unwrap(), admit(0).unwrap()));
    let over = admit(0).unwrap_err();
    assert!(
        over.to_string()
            .contains("10 a second (limits.handshake_rate)"),
        "{over}"
    );
    assert_eq!(over.retry_after(), Duration::from_millis(100));
    assert!(admit(99).is_err());
    assert!(admit(100).is_ok());
}

#[test]
fn srv_1262_limits_that_are_off_remember_nobody() {
    let limits = limits(|config| {
        config.handshake_rate = Rate::new(0, 1);
        config.user_rate = Rate::new(0, 1);
        (config.sockets_per_address, config.sockets_per_user) = (0, 0);
    });
    let permit = limits.admit_address(address("203.0.113.1"), NOW).unwrap();
    let _held = permit.enter(Connected::with_id("users:ada")).unwrap();
    assert_eq!(limits.n_addresses(), 0);
    assert_eq!(limits.n_users(), 0);
}

#[test]
fn srv_853_a_user_has_so_many_connections_and_a_refused_one_takes_no_place() {
    let limits = limits(|config| {
        config.user_rate = Rate::new(0, 1);
        config.sockets_per_user = 1;
    });
    let enter = |user: &str| {
        let permit = limits.admit_address(address("203.0.113.1"), NOW).unwrap();
        permit.enter(Connected::with_id(user))
    };
    let held = enter("users:ada").unwrap();
    assert!(enter("users:ada").is_err());
    assert_eq!(limits.counts().sockets_per_user, 1);
    let other = enter("users:bob").unwrap();
    drop(held);
    let again = enter("users:ada").unwrap();
    drop((other, again));
    assert_eq!(limits.n_users(), 0);
}

#[test]
fn srv_1250_a_connection_has_one_place_of_each_user_of_its_channels() {
    let limits = limits(|config| {
        config.user_rate = Rate::new(0, 1);
        config.sockets_per_user = 1;
    });
    let (ada, bob): (Arc<str>, Arc<str>) = ("users:ada".into(), "users:bob".into());
    let (one, other) = (limits.places(None), limits.places(Some(bob.clone())));
    let first = one.of(&ada).unwrap().unwrap();
    let again = one.of(&ada).unwrap().unwrap();
    assert!(
        Arc::ptr_eq(&first, &again),
        "two channels of a connection share it"
    );
    assert!(other.of(&bob).unwrap().is_none(), "it is its own");
    let over = other.of(&ada).unwrap_err();
    assert_eq!(
        over.reason,
        "too many connections of this user, the limit is 1 (limits.sockets_per_user)"
    );
    assert_eq!(limits.counts().sockets_per_user, 1);
    drop(first);
    assert!(other.of(&ada).is_err(), "one channel is still hers");
    drop(again);
    let moved = other.of(&ada).unwrap();
    assert!(one.of(&ada).is_err());
    drop((moved, one, other));
    assert_eq!(limits.n_users(), 0);
}

#[test]
fn srv_1268_a_user_connects_at_a_rate_from_wherever_it_comes() {
    let limits = limits(|config| config.user_rate = Rate::new(10, 2));
    let (ada, bob): (Arc<str>, Arc<str>) = ("users:ada".into(), "users:bob".into());
    let enter = |user, ms| limits.enter_user(user, NOW + Duration::from_millis(ms));
    let leave = |user, ms| {
        let now = NOW + Duration::from_millis(ms);
        limits.0.users.lock().leave(user, 100, now);
    };
    for _ in 0..2 {
        enter(&ada, 0).unwrap();
        leave(&ada, 0);
    }
    let over = enter(&ada, 0).unwrap_err();
    assert_eq!(
        over.to_string(),
        "too many new connections of this user, the limit is 10 a second (limits.user_rate)"
    );
    assert_eq!(over.retry_after(), Duration::from_millis(100));
    enter(&bob, 0).unwrap();
    assert!(enter(&ada, 99).is_err());
    enter(&ada, 100).unwrap();
    // Remembered while its rate is, and not for longer.
    leave(&ada, 100);
    assert_eq!(limits.n_users(), 2);
    leave(&bob, 100);
    enter(&ada, 300).unwrap();
    leave(&ada, 400);
    assert_eq!(limits.n_users(), 0);
}

#[test]
fn srv_1269_users_that_are_remembered_are_bounded() {
    let limits = limits(|config| {
        config.max_users = 100;
        config.user_rate = Rate::new(1, 5);
    });
    let enter = |n: usize, now| {
        let user: Arc<str> = format!("users:{n}").into();
        let entered = limits.enter_user(&user, now);
        limits.0.users.lock().leave(&user, 100, now);
        entered
    };
    for n in 0..1_000 {
        enter(n, NOW).unwrap();
    }
    assert_eq!((limits.n_users(), limits.counts().overflows), (100, 900));
    enter(1_000, NOW + Duration::from_secs(60)).unwrap();
    assert_eq!(limits.n_users(), 1);
}

#[test]
fn srv_852_what_is_remembered_is_bounded() {
    let limits = limits(|config| {
        config.max_addresses = 100;
        config.handshake_rate = Rate::new(1, 5);
    });
    let admit = |n: u32, now| {
        let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0900_0000 + n));
        limits.admit_address(Some(client), now)
    };
    for n in 0..5_000 {
        drop(admit(n, NOW).unwrap());
    }
    assert_eq!(limits.n_addresses(), 100);
    assert_eq!(limits.counts().overflows, 4_900);
    // Those that hold connections are remembered, whatever the bound is.
    let held: Vec<_> = (0..200).map(|n| admit(n, NOW).unwrap()).collect();
    // Later, nobody else needs to be.
    let later = NOW + Duration::from_secs(60);
    let newcomer = admit(9_999, later).unwrap();
    assert_eq!(limits.n_addresses(), 201);
    drop((held, newcomer));
}
