//! The configuration: precedence of its sources, and how everything wrong with it reads.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::path::PathBuf;
use std::time::Duration;

use herenow_server::config::{Mode, ServerConfig, Sources};

/// A configuration file of its own for one test, removed with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("herenow-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

fn sources(file: Option<&File>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Sources {
        file: file.map(|file| file.0.clone()),
        environment: owned(environment),
        flags: owned(flags),
    }
}

fn load(file: &str, name: &str) -> Result<ServerConfig, String> {
    let file = File::new(name, file);
    let path = file.0.display().to_string();
    let loaded = ServerConfig::load(&sources(Some(&file), &[], &[]));
    loaded.map_err(|errors| errors.to_string().replace(&path, "my.toml"))
}

fn from_environment(name: &str, value: &str) -> Result<ServerConfig, String> {
    ServerConfig::load(&sources(None, &[(name, value)], &[])).map_err(|errors| errors.to_string())
}

fn from_flag(key: &str, value: &str) -> Result<ServerConfig, String> {
    ServerConfig::load(&sources(None, &[], &[(key, value)])).map_err(|errors| errors.to_string())
}

#[test]
fn srv_01_without_any_source_the_defaults_hold() {
    let config = ServerConfig::load(&Sources::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:4000");
    assert_eq!(config.mode().unwrap(), Mode::DevLoopback);
    let topics: Vec<_> = config
        .topics
        .iter()
        .map(|t| (t.pattern.as_str(), t.presence, t.broadcast))
        .collect();
    assert_eq!(topics, [("room:*", true, true), ("bench:*", false, true)]);
}

#[test]
fn srv_02_flag_goes_over_environment_over_file_over_default() {
    let file = File::new(
        "srv-02",
        "listen = \"127.0.0.1:1\"\n[socket]\nidle_timeout = \"1s\"\nmax_channels = 1\nmax_infos = 7\n",
    );
    let environment = [
        ("HERENOW_LISTEN", "127.0.0.1:2"),
        ("HERENOW_SOCKET_IDLE_TIMEOUT", "2s"),
        ("PATH", "/bin"),
    ];
    let flags = [("listen", "127.0.0.1:3")];
    let config = ServerConfig::load(&sources(Some(&file), &environment, &flags)).unwrap();
    assert_eq!(config.listen.port(), 3, "flag");
    assert_eq!(
        config.socket.idle_timeout,
        Duration::from_secs(2),
        "environment"
    );
    assert_eq!(config.socket.max_channels.get(), 1, "file");
    assert_eq!(config.socket.max_frame_bytes, 8_000_000, "default");
}

#[test]
fn srv_02_the_environment_can_name_the_file_and_a_flag_can_name_another() {
    let one = File::new("srv-02-one", "listen = \"127.0.0.1:1\"");
    let two = File::new("srv-02-two", "listen = \"127.0.0.1:2\"");
    let path = one.0.display().to_string();
    let environment = [("HERENOW_CONFIG", path.as_str())];
    let config = ServerConfig::load(&sources(None, &environment, &[])).unwrap();
    assert_eq!(config.listen.port(), 1);
    let config = ServerConfig::load(&sources(Some(&two), &environment, &[])).unwrap();
    assert_eq!(config.listen.port(), 2);
}

#[test]
fn srv_03_an_unknown_key_is_an_error_that_names_it_its_line_and_a_likely_key() {
    assert_eq!(
        load("\n[socket]\nidle_timout = \"3s\"\n", "srv-03-a").unwrap_err(),
        "my.toml line 3: there is no key `socket.idle_timout`, did you mean `socket.idle_timeout`?"
    );
    assert_eq!(
        load("max_channels = 3\n", "srv-03-b").unwrap_err(),
        "my.toml line 1: there is no key `max_channels`, did you mean `socket.max_channels`?"
    );
    assert_eq!(
        load("[soket]\nidle_timeout = \"3s\"\n", "srv-03-d").unwrap_err(),
        "my.toml line 1: there is no key `soket`, did you mean `socket`?"
    );
    assert_eq!(
        load("\n\n[zebra]\nx = 1\n", "srv-03-c").unwrap_err(),
        "my.toml line 3: there is no key `zebra`"
    );
}

#[test]
fn srv_03_an_unknown_variable_of_ours_is_an_error_and_those_of_kubernetes_are_not() {
    assert_eq!(
        from_environment("HERENOW_LISTN", "x").unwrap_err(),
        "there is no setting for the environment variable HERENOW_LISTN, did you mean \
         `HERENOW_LISTEN`?"
    );
    for name in [
        "HERENOW_SERVICE_HOST",
        "HERENOW_PORT",
        "HERENOW_PORT_4000_TCP_ADDR",
    ] {
        from_environment(name, "tcp://10.0.0.1:4000").unwrap();
    }
}

#[test]
fn srv_1805_variables_of_any_service_of_kubernetes_are_nobody_s_settings() {
    for service in [
        "",
        "_NATS",
        "_REDIS",
        "_API",
        "_CONFIG",
        "_REDIS_URL",
        "_A_PORT_B",
    ] {
        for (rest, value) in [
            ("_SERVICE_HOST", "10.1.1.1"),
            ("_SERVICE_PORT", "4222"),
            ("_SERVICE_PORT_CLIENT", "4222"),
            ("_PORT", "tcp://10.1.1.1:4222"),
            ("_PORT", "udp://[fd00::1]:4222"),
            ("_PORT_4222_TCP", "tcp://10.1.1.1:4222"),
            ("_PORT_4222_TCP_PROTO", "tcp"),
            ("_PORT_4222_TCP_PORT", "4222"),
            ("_PORT_4222_TCP_ADDR", "10.1.1.1"),
            ("_PORT_9_SCTP_ADDR", "10.1.1.1"),
        ] {
            from_environment(&format!("HERENOW{service}{rest}"), value).unwrap();
        }
    }
    for (name, value) in [
        ("HERENOW_PORT", "4000"),
        ("HERENOW_NATS_PORT", "4222"),
        ("HERENOW_PORT_4000", "tcp://10.1.1.1:4222"),
        ("HERENOW_PORT_0X9_TCP", "tcp"),
        ("HERENOW_PORT_70000_TCP", "tcp"),
        ("HERENOW_SERVICE", "tcp"),
        ("HERENOW_NATS_SERVICE_HOSTS", "10.1.1.1"),
    ] {
        let error = from_environment(name, value).unwrap_err();
        let expected = format!("there is no setting for the environment variable {name}");
        assert!(error.starts_with(&expected), "{error}");
    }
    // What is a setting is one, whatever it looks like.
    let error = from_environment("HERENOW_LISTEN", "tcp://10.1.1.1:4222").unwrap_err();
    assert!(
        error.contains("listen is \"tcp://10.1.1.1:4222\""),
        "{error}"
    );
}

#[test]
fn srv_1803_a_list_of_toml_is_one_in_the_environment_and_in_a_flag_as_well() {
    let list = |value: &str| {
        let by_flag = from_flag("webhook.topics", value).map(|config| config.webhook.topics);
        let topics = from_environment("HERENOW_WEBHOOK_TOPICS", value);
        let topics = topics.map(|config| config.webhook.topics);
        assert_eq!(by_flag.is_ok(), topics.is_ok());
        topics
    };
    for (value, expected) in [
        (r#"["room:1"]"#, &["room:1"][..]),
        (r#" [ 'room:1', "a,b" ] "#, &["room:1", "a,b"]),
        ("[\n  \"a\",\n  \"b\",\n]\n", &["a", "b"]),
        (r#"["[x]"]"#, &["[x]"]),
        ("[]", &[]),
        ("a, b", &["a", "b"]),
        // No list of TOML, and not meant to be one.
        ("[::1]:4000,b", &["[::1]:4000", "b"]),
        ("[a]:*", &["[a]:*"]),
    ] {
        assert_eq!(list(value).unwrap(), expected, "{value}");
    }
    let form = "it must be a list of topics, or beginnings of topics and a single \"*\" at the end, \
                such as \"room:*,lobby\"";
    for (value, shown) in [
        ("[room:1]", r#""[room:1]""#),
        (r#"["a"],["b"]"#, r#""[\"a\"],[\"b\"]""#),
        (r#"["a"],b"#, r#""[\"a\"],b""#),
        (r#"["a","#, r#""[\"a\",""#),
        (r#"a,["b"]"#, r#""[\"b\"]" in entry 2"#),
        (r#"["a", 5]"#, "the number 5 in entry 2"),
        (
            r#"["r*m", "a", "b*c"]"#,
            r#""r*m" in entry 1 and "b*c" in entry 3"#,
        ),
    ] {
        let error = list(value).unwrap_err();
        let expected = format!(": webhook.topics is {shown}, {form}");
        assert!(error.ends_with(&expected), "{error}");
    }
    let other = |name: &str, value: &str| from_environment(name, value).unwrap();
    let audience = other("HERENOW_JWT_AUDIENCE", r#"["shop"]"#).jwt.audience;
    assert_eq!(audience, ["shop"]);
    let origins = other("HERENOW_SOCKET_CHECK_ORIGIN", r#"["https://a.example"]"#);
    let origins = format!("{:?}", origins.check_origin);
    assert_eq!(origins, r#"List(["https://a.example"])"#);
    let keys = other("HERENOW_API_KEYS", r#"["a:read:0123456789abcdef"]"#);
    assert_eq!(keys.api.keys[0].name(), "a");
}

#[test]
fn srv_1804_what_is_said_of_a_list_is_how_to_write_it_where_it_came_from() {
    let form = |entries: &str| {
        format!(
            "it must be a list of addresses such as {entries}, each tcp/HOST:PORT or, with \
                 cluster.tls_cert, tls/HOST:PORT"
        )
    };
    let comma = form("\"tcp/10.0.0.2:7447,tcp/10.0.0.3:7447\"");
    for error in [
        from_environment("HERENOW_PEERS", "a,tcp/b:1,[c").unwrap_err(),
        from_flag("cluster.peers", "a,tcp/b:1,[c").unwrap_err(),
    ] {
        let expected = format!("cluster.peers is \"a\" in entry 1 and \"[c\" in entry 3, {comma}");
        assert!(error.contains(&expected), "{error}");
    }
    let error = load("[cluster]\npeers = [\"a\"]\n", "srv-1804").unwrap_err();
    let listed = form("[\"tcp/10.0.0.2:7447\", \"tcp/10.0.0.3:7447\"]");
    let expected = format!("my.toml line 2: cluster.peers is \"a\" in entry 1, {listed}");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn srv_1807_each_wrong_key_of_the_api_is_named_with_the_part_that_is_wrong() {
    let fine = "a:read:0123456789abcdef";
    let wrong = |entry: &str| {
        let error = from_environment("HERENOW_API_KEYS", &format!("{fine},{entry}")).unwrap_err();
        for hidden in ["hunter", "0123456789"] {
            assert!(!error.contains(hidden), "{error}");
        }
        let start = "environment variable HERENOW_API_KEYS: api.keys is wrong in entry 2 (";
        let rest = error
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("{error}"));
        let (said, form) = rest.split_once("), it must be ").unwrap();
        let expected =
            "a list of keys such as \"shop:write:…,ops:admin:…\", each NAME:RIGHT:SECRET";
        assert!(form.starts_with(expected), "{form}");
        said.to_owned()
    };
    let long = "x".repeat(65);
    for (entry, said) in [
        (
            "hunter2",
            "it has 1 of three parts with a colon between them",
        ),
        (
            "hunter2:read",
            "it has 2 of three parts with a colon between them",
        ),
        (":read:hunter2hunter2hunter2", "its name is empty"),
        (
            "hunter 2:read:hunter2hunter2hunter2",
            "its name has other characters than letters, digits, - _ .",
        ),
        (
            "b:hunter2hunter2hunter2:read",
            "its right is none of read, write, admin; its secret is 4 bytes long, the least is 16",
        ),
        (
            "b:read:hunter2 hunter2 hunter2",
            "its secret has other characters than visible ASCII without a comma",
        ),
        (
            &format!("{long}:read:hunter2hunter2hunter2"),
            "its name is 65 bytes long, the limit is 64",
        ),
        (
            &format!("b:read:{}", "hunter2".repeat(80)),
            "it is 567 bytes long, the limit is 512",
        ),
    ] {
        assert_eq!(wrong(entry), said);
    }
    let all = wrong("b:write:hunter2,a:reed:0123456789abcdef");
    assert_eq!(
        all,
        "its secret is 7 bytes long, the least is 16) and in entry 3 (its right is none of read, \
         write, admin"
    );
    let error = from_environment("HERENOW_SUPABASE_PUBLISHABLE_KEYS", "hunter2").unwrap_err();
    let said =
        "wrong in entry 1 (it is 7 bytes long, it may be 16 to 512), it must be a list of keys";
    assert!(
        error.contains(said) && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn srv_1806_a_topic_that_an_earlier_one_hides_is_an_error_that_names_both() {
    let topics = |patterns: &[&str]| {
        let entries = patterns
            .iter()
            .map(|p| format!("[[topics]]\npattern = \"{p}\"\n"));
        load(&entries.collect::<String>(), "srv-1806")
    };
    let error = topics(&["lobby", "*", "room:*"]).unwrap_err();
    assert_eq!(
        error,
        "my.toml line 5: topics[2].pattern is \"room:*\", but topics[1].pattern is \"*\", which \
         covers it (my.toml line 3): the first match is used, so the second would never be"
    );
    let error = topics(&["room:*", "room:1"]).unwrap_err();
    assert!(
        error.contains("topics[1].pattern is \"room:1\", but topics[0]"),
        "{error}"
    );
    topics(&["room:1", "room:2*", "room:*", "*"]).unwrap();
    // What is no pattern covers nothing.
    let error = topics(&["r*m*", "r*ma"]).unwrap_err();
    assert!(!error.contains("covers"), "{error}");
}

#[test]
fn srv_04_a_value_of_the_wrong_type_names_key_value_source_and_what_it_must_be() {
    let cases = [
        (
            "[socket]\nidle_timeout = 60",
            "my.toml line 2: socket.idle_timeout is the number 60, it must be a duration such as \
             \"30s\" (units: us, ms, s, m, h, d)",
        ),
        (
            "[socket]\nmax_channels = \"many\"",
            "my.toml line 2: socket.max_channels is \"many\", it must be a whole number",
        ),
        (
            "[socket]\nmax_frame_bytes = true",
            "my.toml line 2: socket.max_frame_bytes is true, it must be a size such as 65536 or \
             \"64KiB\" (units: B, kB, MB, GB, KiB, MiB, GiB)",
        ),
        (
            "dev = \"yes\"",
            "my.toml line 1: dev is \"yes\", it must be true or false",
        ),
        (
            "socket = 3",
            "my.toml line 1: socket is the number 3, it must be a section, [socket]",
        ),
        (
            "listen = \"localhost\"",
            "my.toml line 1: listen is \"localhost\", it must be an IP address and port such as \
             \"127.0.0.1:4000\"",
        ),
        (
            "[log]\nformat = \"xml\"",
            "my.toml line 2: log.format is \"xml\", it must be \"pretty\" or \"json\"",
        ),
        (
            "[socket]\ncheck_origin = [\"example.com\"]",
            "my.toml line 2: socket.check_origin is \"example.com\" in entry 1, it must be true, \
             false, or a list of origins such as [\"https://example.com\", \"//*.example.com\"]",
        ),
        (
            "topics = \"room:*\"",
            "my.toml line 1: topics is \"room:*\", it must be a list of tables, [[topics]] in the file",
        ),
    ];
    for (index, (file, error)) in cases.into_iter().enumerate() {
        assert_eq!(load(file, &format!("srv-04-{index}")).unwrap_err(), error);
    }
    assert_eq!(
        from_environment("HERENOW_SOCKET_IDLE_TIMEOUT", "60").unwrap_err(),
        "environment variable HERENOW_SOCKET_IDLE_TIMEOUT: socket.idle_timeout is \"60\", it must \
         be a duration such as \"30s\" (units: us, ms, s, m, h, d)"
    );
    assert_eq!(
        from_flag("log.level", "loud").unwrap_err(),
        "flag --log-level: log.level is \"loud\", it must be a level (error, warn, info, debug, \
         trace) or directives such as \"info,herenow_channels=debug\""
    );
}

#[test]
fn srv_05_a_value_out_of_range_names_key_value_source_and_limit() {
    assert_eq!(
        load("[socket]\n\nmax_channels = 0", "srv-05").unwrap_err(),
        "my.toml line 3: socket.max_channels is 0, it must be at least 1"
    );
    assert_eq!(
        from_flag("socket.max_channels", "2_000_000").unwrap_err(),
        "flag --socket-max-channels: socket.max_channels is 2000000, it must be at most 1000000"
    );
    assert_eq!(
        from_flag("socket.max_channels", "-3").unwrap_err(),
        "flag --socket-max-channels: socket.max_channels is -3, it must be zero or more"
    );
    assert_eq!(
        from_environment("HERENOW_SOCKET_MAX_FRAME_BYTES", "2GiB").unwrap_err(),
        "environment variable HERENOW_SOCKET_MAX_FRAME_BYTES: socket.max_frame_bytes is 2GiB, it \
         must be at most 1GiB"
    );
    assert_eq!(
        from_flag("drain.total", "36h").unwrap_err(),
        "flag --drain-total: drain.total is 36h, it must be at most 1d"
    );
    assert_eq!(
        from_flag("jwt.leeway", "900ms").unwrap_err(),
        "flag --jwt-leeway: jwt.leeway is 900ms, it must be a whole number of seconds"
    );
}

#[test]
fn srv_06_everything_wrong_is_reported_at_once() {
    let file = File::new("srv-06", "listen = 4000\nport = 4000\n");
    let flags = [("socket.max_channels", "0")];
    let errors = ServerConfig::load(&sources(Some(&file), &[("HERENOW_X", "1")], &flags));
    let errors = errors.unwrap_err().to_string();
    assert!(
        errors.starts_with("the configuration has 4 errors:\n  - "),
        "{errors}"
    );
    for part in [
        "listen is the number 4000",
        "no key `port`",
        "HERENOW_X",
        "max_channels is 0",
    ] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
}

#[test]
fn srv_07_two_values_that_do_not_go_together_are_both_named() {
    let file = File::new("srv-07", "[socket]\nmax_queue_bytes = \"1MiB\"\n");
    let flags = [("socket.fold_queue_bytes", "2MiB")];
    let errors = ServerConfig::load(&sources(Some(&file), &[], &flags))
        .unwrap_err()
        .to_string();
    let path = file.0.display();
    assert_eq!(
        errors,
        format!(
            "flag --socket-fold-queue-bytes: socket.fold_queue_bytes is 2MiB, but \
             socket.max_queue_bytes is 1MiB ({path} line 2): the first must not be above the \
             second, or folding begins too late"
        )
    );
}

#[test]
fn srv_08_a_file_that_is_missing_or_not_toml_is_named() {
    let file = Some(PathBuf::from("/nowhere/herenow.toml"));
    let sources = Sources {
        file,
        ..Sources::default()
    };
    let error = ServerConfig::load(&sources).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read the configuration file /nowhere/herenow.toml: No such file"),
        "{error}"
    );
    let error = load("listen = \"127.0.0.1:1\"\n[socket\n", "srv-08").unwrap_err();
    assert!(
        error.starts_with("my.toml line 2: this is not TOML: "),
        "{error}"
    );
}

#[test]
fn srv_09_topics_come_as_a_list_from_any_source() {
    let file = "[[topics]]\npattern = \"b:*\"\npresence = true\n[[topics]]\npattern = \"a\"\n\
                broadcast = true\nmax_payload_bytes = \"1KiB\"\n";
    let config = load(file, "srv-09").unwrap();
    assert_eq!(config.topics.len(), 2);
    assert_eq!(config.topics[0].pattern, "b:*");
    assert!(config.topics[0].presence && !config.topics[0].broadcast);
    assert_eq!(config.topics[1].max_payload_bytes, 1024);
    let list = "[{ pattern = \"chat:*\", broadcast = true }]";
    for config in [
        from_environment("HERENOW_TOPICS", list),
        from_flag("topics", list),
    ] {
        let config = config.unwrap();
        assert_eq!(config.topics.len(), 1);
        assert_eq!(config.topics[0].pattern, "chat:*");
    }
}

#[test]
fn srv_09_what_is_wrong_with_a_topic_is_named_with_its_place() {
    let file = "[[topics]]\npatern = \"b:*\"\n[[topics]]\npattern = \"a:*:b\"\n[[topics]]\n\
                pattern = \"x\"\n[[topics]]\npattern = \"x\"\npresence = 1\n[[topics]]\n";
    let errors = load(file, "srv-09-wrong").unwrap_err();
    let lines: Vec<&str> = errors
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("  - "))
        .collect();
    let expected = [
        "my.toml line 2: there is no key `topics[0].patern`, did you mean `pattern`?",
        "my.toml line 4: topics[1].pattern is \"a:*:b\", it must be a topic such as \"lobby\", or \
         the beginning of one and a single \"*\" at the end, such as \"room:*\"",
        "my.toml line 9: topics[3].presence is the number 1, it must be true or false",
        "my.toml line 7: topics[3].pattern is \"x\", but topics[2].pattern is the same (my.toml \
         line 5): the first match is used, so the second would never be",
        "my.toml line 10: topics[4].pattern is missing",
    ];
    assert_eq!(lines, expected);
    let error = from_environment("HERENOW_TOPICS", "room:*").unwrap_err();
    assert!(
        error.starts_with("environment variable HERENOW_TOPICS: this is not TOML: "),
        "{error}"
    );
    let must =
        "; topics must be a list of tables, such as '[{ pattern = \"room:*\", presence = true }]'";
    assert!(error.ends_with(must), "{error}");
}

#[test]
fn srv_10_dev_mode_is_on_by_itself_only_on_loopback_without_a_secret() {
    let secret = "0123456789abcdef0123456789abcdef";
    let mode = |flags: &[(&str, &str)]| {
        let config = ServerConfig::load(&sources(None, &[], flags)).unwrap();
        config.mode().map_err(|error| error.to_string())
    };
    assert_eq!(mode(&[("listen", "[::1]:4000")]), Ok(Mode::DevLoopback));
    assert_eq!(
        mode(&[("listen", "0.0.0.0:4000"), ("dev", "true")]),
        Ok(Mode::DevAsked)
    );
    assert_eq!(
        mode(&[("jwt.secret", secret), ("dev", "true")]),
        Ok(Mode::DevAsked)
    );
    assert_eq!(
        mode(&[("listen", "0.0.0.0:4000")]).unwrap_err(),
        "0.0.0.0:4000 is not a loopback address, so dev mode is not on by itself, and there is no \
         key for clients' tokens, so there is no way to know who a client is; set \
         HERENOW_JWT_SECRET, jwt.secret_file, jwt.public_key_files or jwt.jwks_url; to trust what \
         clients say of themselves, start with --dev"
    );
    let error = mode(&[("dev", "false")]).unwrap_err();
    assert!(
        error.starts_with("dev is false, and there is no key for clients' tokens"),
        "{error}"
    );
    assert_eq!(mode(&[("jwt.secret", secret)]), Ok(Mode::Tokens));
    let off = [("jwt.secret", secret), ("dev", "false")];
    assert_eq!(mode(&off), Ok(Mode::Tokens));
}

#[test]
fn srv_11_a_secret_is_in_no_error_and_no_debug_output() {
    let error = from_environment("HERENOW_JWT_SECRET", "hunter2").unwrap_err();
    assert_eq!(
        error,
        "environment variable HERENOW_JWT_SECRET: jwt.secret is 7 bytes long, it must be at least \
         32 bytes"
    );
    let config = from_environment("HERENOW_JWT_SECRET", &"hunter2".repeat(8)).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
