//! Origins that are let in, and those that are not, each beside what was asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const HOST: RequestTarget<'_> = RequestTarget {
    scheme: "http",
    host: "host.com",
    port: 80,
};

fn passes_at(check: &CheckOrigin, origin: &str, target: &RequestTarget<'_>) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(ORIGIN, origin.parse().unwrap());
    check.check(&headers, target).is_ok()
}

fn passes(check: &CheckOrigin, origin: &str) -> bool {
    passes_at(check, origin, &HOST)
}

fn list(entries: &[&str]) -> CheckOrigin {
    CheckOrigin::list(entries).unwrap()
}

#[test]
fn x_09_off_lets_a_bare_slash_in() {
    assert!(passes(&CheckOrigin::off(), "/"));
}

#[test]
fn x_10_public_host_is_the_only_host_let_in() {
    let check = CheckOrigin::public_host("host.com");
    assert!(passes(&check, "https://host.com/"));
    assert!(!passes(&check, "https://another.com/"));
}

#[test]
fn x_11_a_list_given_once_serves_every_mount() {
    let service_wide = list(&["//endpoint.com"]);
    let mount = service_wide.clone();
    assert!(passes(&mount, "https://endpoint.com/"));
    assert!(!passes(&mount, "https://another.com/"));
}

#[test]
fn x_13_wildcard_with_scheme_takes_the_domain_and_what_is_below() {
    let check = list(&["https://*.ex.com", "http://*.ex.com"]);
    for origin in [
        "http://org1.ex.com",
        "https://org1.ex.com",
        "https://ex.com",
    ] {
        assert!(passes(&check, origin), "{origin}");
    }
    assert!(!passes(&check, "https://org1.prefix-ex.com"));
}

#[test]
fn x_14_wildcard_below_a_longer_domain_refuses_look_alikes() {
    let check = list(&["http://*.foo.example.com"]);
    assert!(passes(&check, "http://org1.foo.example.com"));
    assert!(passes(&check, "http://foo.example.com"));
    for origin in [
        "http://bad.example.com",
        "http://org1.prefix-foo.example.com",
        "http://org1.bar.example.com",
        "http://org1.foo.example.com.evil.com",
    ] {
        assert!(!passes(&check, origin), "{origin}");
    }
}

#[test]
fn x_15_without_a_wildcard_subdomains_are_refused() {
    let check = list(&["//ex.com"]);
    assert!(passes(&check, "https://ex.com"));
    assert!(!passes(&check, "http://org1.ex.com"));
}

#[test]
fn x_16_origins_without_a_host_are_refused_and_named() {
    let checks = [
        list(&["//ex.com"]),
        CheckOrigin::public_host("host.com"),
        CheckOrigin::same_host(),
    ];
    for check in &checks {
        for origin in ["file://", "null", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, origin.parse().unwrap());
            let refused = check.check(&headers, &HOST).unwrap_err();
            assert_eq!(
                refused,
                OriginRefused {
                    origin: origin.to_owned(),
                    host: HOST.host.to_owned(),
                }
            );
            let text = refused.to_string();
            assert!(text.contains(origin) && text.contains(HOST.host), "{text}");
        }
    }
}

#[test]
fn x_17_a_callback_may_accept_origins_without_a_host() {
    let check = CheckOrigin::callback(|origin| origin.host().is_none());
    for origin in ["file://", "null", ""] {
        assert!(passes(&check, origin), "{origin}");
    }
    assert!(!passes(&check, "https://host.com"));
}

#[test]
fn x_18_off_accepts_origins_without_a_host() {
    for origin in ["file://", "null", ""] {
        assert!(passes(&CheckOrigin::off(), origin), "{origin}");
    }
}

#[test]
fn x_19_same_origin_compares_scheme_host_and_port() {
    let check = CheckOrigin::same_origin();
    let http = RequestTarget {
        scheme: "http",
        host: "example.com",
        port: 80,
    };
    assert!(passes_at(&check, "http://example.com", &http));
    for origin in [
        "https://example.com",
        "ws://example.com",
        "wss://example.com",
        "http://www.example.com",
        "http://another.com",
        "https://another.com",
    ] {
        assert!(!passes_at(&check, origin, &http), "{origin}");
    }
    let https = RequestTarget {
        scheme: "https",
        host: "example.com",
        port: 443,
    };
    assert!(passes_at(&check, "https://example.com", &https));
    assert!(!passes_at(&check, "http://example.com", &https));
    assert!(!passes_at(&check, "https://example.com:4000", &https));
}

#[test]
fn x_20_a_list_compares_what_each_entry_names() {
    let check = list(&["//example.com", "http://scheme.com", "//port.com:81"]);
    for origin in [
        "http://example.com",
        "https://example.com",
        "http://scheme.com",
        "http://port.com:81",
    ] {
        assert!(passes(&check, origin), "{origin}");
    }
    for origin in [
        "http://notallowed.com",
        "https://scheme.com",
        "http://scheme.com:8080",
        "http://port.com:82",
        "http://port.com",
    ] {
        assert!(!passes(&check, origin), "{origin}");
    }
}

#[test]
fn x_21_a_callback_decides_from_the_parsed_origin() {
    let check = CheckOrigin::callback(|origin| origin.host() == Some("example.com"));
    assert!(passes(&check, "https://example.com/"));
    assert!(!passes(&check, "https://host.com/"));
}

#[test]
fn x_22_a_callback_carries_what_it_captured() {
    let (allowed, asked) = ("example.com".to_owned(), Arc::new(AtomicUsize::new(0)));
    let check = CheckOrigin::callback({
        let asked = Arc::clone(&asked);
        move |origin| {
            asked.fetch_add(1, Ordering::Relaxed);
            origin.host() == Some(&allowed)
        }
    });
    assert!(passes(&check, "https://example.com"));
    assert!(!passes(&check, "https://host.com"));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn soc_100_same_host_counts_loopback_names_as_one() {
    let check = CheckOrigin::default();
    for host in ["localhost", "127.0.0.1", "::1"] {
        let target = RequestTarget {
            scheme: "http",
            host,
            port: 4000,
        };
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1:4000",
            "https://[::1]:4000",
        ] {
            assert!(passes_at(&check, origin, &target), "{origin} at {host}");
        }
        assert!(!passes_at(&check, "http://localhost.evil.com", &target));
        assert!(!passes_at(&check, "http://127.0.0.1.evil.com", &target));
        assert!(!passes_at(&check, "http://evil.com#@localhost", &target));
    }
    assert!(!passes(&check, "http://localhost:4000"));
    assert!(passes(&check, "https://Host.com:8443"));
    assert!(!passes(&check, "https://www.host.com"));
}

#[test]
fn soc_101_a_list_entry_without_a_host_is_an_error_that_names_it() {
    let error = CheckOrigin::list(["//ok.com", "example.com"]).unwrap_err();
    assert_eq!(
        error,
        OriginError::NoHost {
            entry: "example.com".into()
        }
    );
    for entry in ["//*", "//a.*.com", "//*.*.com", "//*."] {
        let error = CheckOrigin::list([entry]).unwrap_err();
        assert_eq!(
            error,
            OriginError::Wildcard {
                entry: entry.into()
            }
        );
    }
}

#[test]
fn soc_102_a_request_without_an_origin_is_let_in() {
    let checks = [CheckOrigin::same_host(), CheckOrigin::callback(|_| false)];
    for check in checks {
        assert_eq!(check.check(&HeaderMap::new(), &HOST), Ok(()));
    }
}
