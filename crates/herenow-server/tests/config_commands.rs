//! `herenow config`, `herenow completions` and `herenow man`: what they print, and how they end.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::path::Path;
use std::process::Command;

use herenow_server::config::ServerConfig;

/// Where a file of the repository is.
fn repository(file: &str) -> String {
    format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs the program with these variables only: its exit code, standard output and error.
fn herenow(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_herenow"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A file of its own for one test, removed with it.
struct File(String);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("commands-{}-{name}.toml", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        Self(path.display().to_string())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[test]
fn srv_920_check_says_all_that_is_wrong_and_ends_with_1() {
    let wrong = File::new("srv-920", "listn = 1\n[socket]\nmax_channels = 0\n");
    let (code, out, error) = herenow(&["config", "check", "--config", &wrong.0], &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let path = &wrong.0;
    let expected = format!(
        "herenow: the configuration has 2 errors:\n  - {path} line 1: there is no key `listn`, did \
         you mean `listen`?\n  - {path} line 3: socket.max_channels is 0, it must be at least 1\n"
    );
    assert_eq!(error, expected);
    let (code, out, error) = herenow(&["config", "check"], &[]);
    assert_eq!(error, "");
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "the configuration is fine\n")
    );
}

#[test]
fn srv_921_check_says_what_only_the_start_would_find_and_takes_flags_and_variables() {
    let arguments = [
        "config",
        "check",
        "--listen",
        "0.0.0.0:4000",
        "--tls-cert=/nowhere/c",
        "--tls-key=/nowhere/k",
    ];
    let (code, _, error) = herenow(&arguments, &[]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("there is no key for clients' tokens"),
        "{error}"
    );
    assert!(error.contains("cannot read tls.cert /nowhere/c"), "{error}");
    let origins = [("HERENOW_SOCKET_CHECK_ORIGIN", "//a.*.example")];
    let (code, _, error) = herenow(&["config", "check"], &origins);
    assert_eq!(code, Some(1));
    assert!(error.contains("socket.check_origin"), "{error}");
}

#[test]
fn srv_1166_check_looks_at_what_clients_of_supabase_are_served_by_too() {
    let check = |arguments: &[&str]| {
        let all = [&["config", "check"], arguments].concat();
        let (code, out, error) = herenow(&all, &[]);
        (code, format!("{out}{error}"))
    };
    let fine = [
        "--supabase-max-payload-bytes=2MiB",
        "--supabase-private-only",
    ];
    assert_eq!(
        check(&fine),
        (Some(0), "the configuration is fine\n".to_owned())
    );
    for (arguments, wrong) in [
        (
            &["--supabase-publishable-keys=short"][..],
            "flag --supabase-publishable-keys: supabase.publishable_keys is wrong in entry 1",
        ),
        (
            &["--supabase-max-payload-bytes=16MiB"],
            "supabase.max_payload_bytes is 16MiB, but socket.max_message_bytes is 8MB (default)",
        ),
        (
            &[
                "--supabase-max-payload-bytes=1MiB",
                "--socket-max-message-bytes=64KiB",
            ],
            "supabase.max_payload_bytes is 1MiB, but socket.max_message_bytes is 64KiB",
        ),
        (
            &["--http-trusted-proxies=10.0.0.0/99"],
            "http.trusted_proxies",
        ),
        (&["--fetch-url=http://"], "fetch.url"),
    ] {
        let (code, said) = check(arguments);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.matches(wrong).count(), 1, "{wrong}: {said}");
    }
    // Where it is not served, its limits are nobody's.
    let off = [
        "--supabase-enabled=false",
        "--supabase-max-payload-bytes=16MiB",
    ];
    assert_eq!(check(&off).0, Some(0));
}

#[test]
fn srv_1723_check_finds_addresses_that_the_start_would_refuse() {
    let rows: &[(&str, &str)] = &[
        ("--cluster nats --nats-url foo", "cluster.nats_url: "),
        (
            "--cluster redis --redis-url redis://h:99999",
            "cluster.redis_url: ",
        ),
        (
            "--cluster zenoh --cluster-listen tls/127.0.0.1:21198",
            "cluster.listen: address \"tls/127.0.0.1:21198\" must look like tcp/HOST:PORT; tls/ needs certificates",
        ),
        (
            "--cluster zenoh --peers tls/127.0.0.1:21198",
            "cluster.peers: address ",
        ),
        (
            "--listen 127.0.0.1:21001 --api-listen 127.0.0.1:21001",
            "api.listen is 127.0.0.1:21001, but listen is 127.0.0.1:21001: ",
        ),
        (
            "--listen 127.0.0.1:21001 --api-listen 0.0.0.0:21001",
            "api.listen is 0.0.0.0:21001, but listen is ",
        ),
        (
            "--listen 127.0.0.1:21001 --cluster zenoh --cluster-listen tcp/127.0.0.1:21001",
            "cluster.listen is tcp/127.0.0.1:21001, but listen is ",
        ),
    ];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    for (arguments, wrong) in rows {
        let wrong = wrong.replace("21001", &port);
        let port = format!("127.0.0.1:{port}");
        let rest = arguments.replace("127.0.0.1:21001", &port);
        let rest = rest.replace("0.0.0.0:21001", &port.replace("127.0.0.1", "0.0.0.0"));
        for command in ["config check", "serve"] {
            // A flag that is given twice is an error, so the port is given where the row has none.
            let listen = match rest.contains("--listen") {
                true => "",
                false => "--listen 127.0.0.1:0",
            };
            let all = format!("{command} {rest} {listen}");
            let all: Vec<&str> = all.split_whitespace().collect();
            let (code, _, error) = herenow(&all, &[]);
            assert_eq!(code, Some(1), "{all:?}: {error}");
            assert_eq!(error.matches(&wrong).count(), 1, "{wrong}: {error}");
        }
    }
    let fine = "config check --cluster zenoh --listen 127.0.0.1:21001 --api-listen 127.0.0.1:21002 \
                --cluster-listen tcp/127.0.0.1:21003 --peers tcp/b.example:21003";
    let fine: Vec<&str> = fine.split_whitespace().collect();
    assert_eq!(herenow(&fine, &[]).0, Some(0));
    // Where somebody else listens the flag is named, too.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|a| (taken, a.to_string())).unwrap();
    for (flag, other) in [("--listen", "--api-listen"), ("--api-listen", "--listen")] {
        let all = ["serve", flag, &taken.1, other, "127.0.0.1:0"];
        let (code, _, error) = herenow(&all, &[]);
        assert_eq!(code, Some(1), "{error}");
        let hint = format!("choose another address with {flag}\n");
        assert!(error.ends_with(&hint), "{error}");
    }
}

#[test]
fn srv_922_show_says_each_value_with_its_source_and_no_secret() {
    let file = File::new(
        "srv-922",
        "[socket]\nidle_timeout = \"30s\"\n[[topics]]\npattern = \"a:*\"\nwindow_max = \"1s\"\n",
    );
    let secret = "0123456789abcdef0123456789abcdef";
    let keys = "shop:write:abcdefghijklmnopqrstuvwxyz";
    let variables = [
        ("HERENOW_JWT_SECRET", secret),
        ("HERENOW_API_KEYS", keys),
        ("HERENOW_LOG_FORMAT", "json"),
    ];
    let arguments = ["config", "show", "--config", &file.0, "--listen", "[::1]:1"];
    let (code, out, error) = herenow(&arguments, &variables);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    let line = |value: &str, source: &str| {
        let found = lines.iter().find(|line| line.starts_with(value));
        let found = found.unwrap_or_else(|| panic!("no {value} in {out}"));
        assert!(found.ends_with(&format!("# {source}")), "{found}");
    };
    line("listen = \"[::1]:1\" ", "flag --listen");
    line("idle_timeout = \"30s\" ", &format!("{} line 2", file.0));
    line(
        "format = \"json\" ",
        "environment variable HERENOW_LOG_FORMAT",
    );
    line("# max_channels = 100 ", "default");
    line(
        "# secret is set ",
        "environment variable HERENOW_JWT_SECRET",
    );
    line("# keys is set ", "environment variable HERENOW_API_KEYS");
    assert!(lines.contains(&"# dev is not set"), "{out}");
    assert!(!out.contains(secret) && !out.contains("abcdefgh"), "{out}");
    // What is shown is a configuration, and the same one.
    let again = File::new("srv-922-again", &out);
    let (_, shown, error) = herenow(&["config", "show", "--config", &again.0], &[]);
    assert_eq!(error, "");
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" # ").next().unwrap().trim().to_owned())
            .collect()
    };
    assert_eq!(values(&shown), values(&out));
    let expected = [
        "listen = \"[::1]:1\"",
        "format = \"json\"",
        "idle_timeout = \"30s\"",
        "pattern = \"a:*\"",
        "window_max = \"1s\"",
    ];
    for value in expected {
        assert!(values(&out).contains(&value.to_owned()), "{value} in {out}");
    }
    // Also with a webhook of which not all is shown.
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let hooks = format!(
        "[webhook]\nsecret = \"{secret}\"\n[[webhooks]]\nurl = \"https://a.example/path\"\n\
         events = [\"left\"]\n[[webhooks]]\nurl = \"https://b.example\"\n"
    );
    let file = File::new("srv-922-hooks", &hooks);
    let (_, out, error) = herenow(&["config", "show", "--config", &file.0], &[]);
    assert_eq!(error, "");
    assert!(
        out.contains("# [[webhooks]]") && out.contains("\n[[webhooks]]"),
        "{out}"
    );
    let again = File::new("srv-922-hooks-again", &out);
    let arguments = ["config", "check", "--config", &again.0];
    let (code, _, error) = herenow(&arguments, &[("HERENOW_WEBHOOK_SECRET", secret)]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
}

#[test]
fn srv_1812_show_says_which_broker_holds_though_none_is_named() {
    for (engine, shown) in [
        ("nats", "\n# nats_url = \"nats://127.0.0.1:4222\" "),
        ("redis", "\n# redis_url = \"redis://127.0.0.1:6379\" "),
    ] {
        let (code, out, error) = herenow(&["config", "show", "--cluster", engine], &[]);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let line = out.split_once(shown).map(|(_, rest)| rest.lines().next());
        let line = line
            .flatten()
            .unwrap_or_else(|| panic!("no {shown:?} in {out}"));
        assert_eq!(line.trim(), "# default");
    }
    let named = [
        "config",
        "show",
        "--cluster=nats",
        "--nats-url=nats://u:hunter5@h:1",
    ];
    let (_, out, _) = herenow(&named, &[]);
    assert!(out.contains("\nnats_url = \"nats://h:1\" "), "{out}");
    assert!(!out.contains("hunter5"), "{out}");
}

#[test]
fn srv_923_the_reference_in_the_docs_is_the_one_of_the_code() {
    let (code, reference, _) = herenow(&["config", "reference"], &[]);
    assert_eq!(code, Some(0));
    let path = repository("docs/configuration.md");
    if std::env::var_os("HERENOW_WRITE_DOCS").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    let differs = reference
        .lines()
        .zip(kept.lines())
        .find(|(new, old)| new != old);
    assert!(
        reference == kept,
        "docs/configuration.md is not what the code says; run \
         `herenow config reference > docs/configuration.md`, or this test with \
         HERENOW_WRITE_DOCS=1; the first difference: {differs:?}"
    );
}

#[test]
fn srv_924_completions_know_every_command_and_flag() {
    for (shell, mark) in [
        ("bash", "complete -F _herenow"),
        ("zsh", "#compdef herenow"),
        ("fish", "complete -c herenow"),
    ] {
        let (code, script, _) = herenow(&["completions", shell], &[]);
        assert_eq!(code, Some(0));
        for part in [mark, "socket-idle-timeout", "watch", "token", "reference"] {
            assert!(script.contains(part), "{part} in that for {shell}");
        }
    }
    let (code, _, error) = herenow(&["completions", "dos"], &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("bash"), "{error}");
}

#[test]
fn srv_925_there_is_a_manual_page_of_the_program_and_of_each_command() {
    let (_, page, _) = herenow(&["man"], &[]);
    assert!(page.contains(".TH herenow 1"), "{page}");
    let (_, page, _) = herenow(&["man", "serve"], &[]);
    assert!(page.contains(".TH herenow-serve 1"), "{page}");
    assert!(page.contains("idle\\-timeout"), "{page}");
    let (_, page, _) = herenow(&["man", "config", "check"], &[]);
    assert!(page.contains(".TH herenow-config-check 1"), "{page}");
    let (code, _, error) = herenow(&["man", "bogus"], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(error, "herenow: there is no command `bogus` in `herenow`\n");
}

#[test]
fn srv_926_the_configuration_of_the_package_is_fine() {
    let path = repository("ops/debian/herenow.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Its secrets are made when the package is installed, and not here.
    let mut files = Vec::new();
    let mut here = String::new();
    for line in text.lines() {
        let secret = ["jwt.secret", "api.keys"]
            .into_iter()
            .find(|name| line.contains(name));
        let file = secret.filter(|_| !line.starts_with('#')).map(|name| {
            let content = match name {
                "jwt.secret" => "0123456789abcdef0123456789abcdef\n",
                _ => "admin:admin:0123456789abcdef\n",
            };
            File::new(name, content)
        });
        let line = match &file {
            Some(file) => {
                let (key, _) = line.split_once('=').unwrap();
                format!("{key}= {:?}", file.0)
            }
            None => line.to_owned(),
        };
        here += &format!("{line}\n");
        files.extend(file);
    }
    assert_eq!(files.len(), 2, "{text}");
    ServerConfig::parse(&here, Path::new(&path)).unwrap();
    let here = File::new("srv-926", &here);
    let (code, _, error) = herenow(&["config", "check", "--config", &here.0], &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
}

#[test]
fn srv_1295_of_a_url_nothing_but_where_it_leads_is_in_an_error_or_shown() {
    let file = File::new(
        "srv-1295",
        "[jwt]\njwks_url = \"https://u:hunter5@keys.example/x?k=hunter6\"\n\
         [otel]\nendpoint = \"https://u:hunter5@otel.example\"\n\
         [fetch]\nurl = \"https://u:hunter5@h.example/x?k=hunter6\"\n\
         [webhook]\nurls = [\"https://ok.example\", \"https://u:hunter5@h.example/x\"]\n\
         [[webhooks]]\nurl = \"https://u:hunter5@h.example:8443\"\n\
         [[topics]]\npattern = \"a\"\nfetch_url = \"u:hunter5@h.example/x\"\n",
    );
    let variable = ("HERENOW_WEBHOOK_URLS", "ftp://u:hunter5@h.example,hunter6");
    let (code, out, error) = herenow(&["config", "check", "--config", &file.0], &[variable]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for expected in [
        "jwt.jwks_url is \"https://keys.example/…\", it must be a URL",
        "otel.endpoint is \"https://otel.example/…\", it must be",
        "fetch.url is \"https://h.example/…\", it must be a URL",
        "webhook.urls is \"https://h.example/…\" in entry 2, it must be a list of URLs",
        "webhooks[0].url is \"https://h.example:8443/…\", it must be a URL",
        "topics[0].fetch_url is no URL, it must be a URL",
        "webhook.urls is \"ftp://h.example/…\" in entry 1 and no URL in entry 2, it must be a list",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    assert!(!error.contains("hunter"), "{error}");
    let plain = "http://h.example/hunter5";
    let (_, _, error) = herenow(
        &[
            "config",
            "check",
            "--webhook-urls",
            plain,
            "--jwt-jwks-url",
            plain,
        ],
        &[("HERENOW_WEBHOOK_SECRET", "a secret of sixteen bytes")],
    );
    assert!(
        error.contains("webhook.urls is http://h.example/…, but"),
        "{error}"
    );
    assert!(
        error.contains("jwt.jwks_url is http://h.example/…, but"),
        "{error}"
    );
    assert!(!error.contains("hunter"), "{error}");
    let file = File::new(
        "srv-1295-show",
        "[jwt]\njwks_url = \"https://keys.example/hunter5?k=hunter6\"\n\
         [otel]\nendpoint = \"https://otel.example\"\n\
         [webhook]\nurls = [\"https://h.example/hunter5\"]\nsecret = \"a secret of sixteen bytes\"\n\
         [[webhooks]]\nurl = \"https://h.example/hunter5\"\n",
    );
    let (code, shown, error) = herenow(&["config", "show", "--config", &file.0], &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for expected in [
        "\n# jwks_url = \"https://keys.example/…\"",
        "\nendpoint = \"https://otel.example\"",
        "\n# urls = [\"https://h.example/…\"]",
        "\n# url = \"https://h.example/…\"",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn srv_1307_an_error_of_a_list_names_the_entry() {
    let file = File::new(
        "srv-1307",
        "[http]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/99\"]\n\
         [webhook]\nevents = [\"joined\", 5]\ntopics = \"room:1\"\n",
    );
    let (code, _, error) = herenow(
        &["config", "check", "--config", &file.0],
        &[("HERENOW_JWT_AUDIENCE", "a,,b")],
    );
    assert_eq!(code, Some(1));
    for expected in [
        "http.trusted_proxies is \"10.0.0.0/99\" in entry 2, it must be a list of addresses",
        "webhook.events is the number 5 in entry 2, it must be a list of events",
        "webhook.topics is \"room:1\", it must be a list of topics",
        "jwt.audience is \"\" in entry 2, it must be a list of texts",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn srv_1308_who_stops_reading_what_is_printed_is_told_nothing() {
    for arguments in [
        &["completions", "bash"][..],
        &["man"],
        &["config", "reference"],
        &["config", "show"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader); // As `head` does when it has seen enough.
        let output = Command::new(env!("CARGO_BIN_EXE_herenow"))
            .args(arguments)
            .env_clear()
            .stdout(writer)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*error),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}
