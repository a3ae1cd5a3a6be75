//! [`NatsConfig`]: how to reach one NATS server, or one cluster of them, and as whom.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_nats::ServerAddr;
use herenow_pubsub::broker::{
    Backoff, ConfigError, Credentials, Tls, check_durations, check_name, check_url, read_file,
    token, unescape,
};

const SCHEMES: [&str; 2] = ["nats", "tls"];

/// Settings of a [`NatsAdapter`](crate::NatsAdapter).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsConfig {
    /// Where the server is: `nats://host:4222`, or `tls://host:4222`; several, divided by commas,
    /// are servers of one NATS cluster. May hold `user:password@`. Default:
    /// `nats://127.0.0.1:4222`.
    pub url: String,
    /// Who we are, where the address does not say; a password without a user is a token.
    pub credentials: Option<Credentials>,
    /// TLS; with `None` it is used only if the address or the server asks for it.
    pub tls: Option<Tls>,
    /// Nodes of different clusters do not hear each other. Default: `herenow`.
    pub cluster: String,
    /// The name of this node, unique in the cluster.
    pub node: String,
    /// Messages that may wait to be handed to the server. Default: 8,192.
    pub queue_messages: NonZeroUsize,
    /// Bytes that may wait to be handed to the server. Default: 64 MiB.
    pub queue_bytes: NonZeroUsize,
    /// Received messages that may wait for the receiver, per subject. Default: 16,384.
    pub inbox_messages: NonZeroUsize,
    /// The wait before the second attempt to connect; it doubles. Default: 50 ms.
    pub min_backoff: Duration,
    /// The longest wait between attempts to connect. Default: 1 s.
    pub max_backoff: Duration,
    /// How long one attempt to connect may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// A server that has been silent this long is asked for a sign; after the third in vain it
    /// counts as lost. Default: 2 s.
    pub ping_interval: Duration,
    /// How long `close` waits for what was accepted to leave. Default: 5 s.
    pub close_timeout: Duration,
}

impl NatsConfig {
    /// Returns the defaults for a node of this name.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            ..Self::default()
        }
    }

    /// Checks all of it, without connecting.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first that is wrong; files of certificates must be there.
    pub fn check(&self) -> Result<(), ConfigError> {
        Checked::new(self.clone()).map(drop)
    }
}

impl Default for NatsConfig {
    /// The node's name is empty and has to be set.
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            credentials: None,
            tls: None,
            cluster: "herenow".into(),
            node: String::new(),
            queue_messages: NonZeroUsize::new(8_192).expect("not zero"),
            queue_bytes: NonZeroUsize::new(64 * 1024 * 1024).expect("not zero"),
            inbox_messages: NonZeroUsize::new(16_384).expect("not zero"),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Settings that were checked, and what follows from them.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) config: NatsConfig,
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) backoff: Backoff,
    /// The addresses as they may be logged.
    pub(crate) broker: String,
    /// What all our subjects begin with.
    pub(crate) prefix: String,
}

impl Checked {
    /// Checks all settings; files of certificates must be there.
    pub(crate) fn new(config: NatsConfig) -> Result<Self, ConfigError> {
        check_name("node", &config.node)?;
        check_name("cluster", &config.cluster)?;
        let backoff = Backoff::new(config.min_backoff, config.max_backoff)?;
        check_durations(&[
            ("connect_timeout", config.connect_timeout),
            ("ping_interval", config.ping_interval),
            ("close_timeout", config.close_timeout),
        ])?;
        check_files(config.tls.as_ref())?;
        let mut servers = Vec::new();
        let mut shown = Vec::new();
        for url in config.url.split(',') {
            let url = url.trim();
            shown.push(check_url(url, &SCHEMES)?);
            servers.push(server(url, shown.last().map_or("", |shown| shown))?);
        }
        Ok(Self {
            credentials: config.credentials.clone().or_else(|| of_url(&servers)),
            broker: shown.join(","),
            prefix: format!("herenow.{}", token(&config.cluster)),
            servers,
            backoff,
            config,
        })
    }

    /// Returns the subject of what goes to all nodes.
    pub(crate) fn subject_of_all(&self) -> String {
        format!("{}.all", self.prefix)
    }

    /// Returns the subject of what goes to one node.
    pub(crate) fn subject_of_node(&self, node: &str) -> String {
        format!("{}.node.{}", self.prefix, token(node))
    }
}

fn check_files(tls: Option<&Tls>) -> Result<(), ConfigError> {
    let identity = tls.and_then(|tls| tls.identity.as_ref());
    let of_identity = identity.map(|identity| [&identity.certificate, &identity.key]);
    let ca = tls.and_then(|tls| tls.ca.as_ref());
    for path in ca.into_iter().chain(of_identity.into_iter().flatten()) {
        read_file(path)?;
    }
    Ok(())
}

fn server(url: &str, shown: &str) -> Result<ServerAddr, ConfigError> {
    url.parse()
        .map_err(|error: std::io::Error| ConfigError::Url {
            url: shown.to_owned(),
            reason: error.to_string(),
        })
}

/// Returns the first user and password, or token, of the addresses.
fn of_url(servers: &[ServerAddr]) -> Option<Credentials> {
    let server = servers.iter().find(|server| server.has_user_pass())?;
    let user = unescape(server.username()?);
    Some(match server.password() {
        Some(password) => Credentials {
            user: Some(user),
            password: unescape(password),
        },
        None => Credentials {
            user: None,
            password: user,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut NatsConfig)) -> Result<Checked, ConfigError> {
        let mut config = NatsConfig::new("a");
        change(&mut config);
        Checked::new(config)
    }

    #[test]
    fn pub_128_wrong_nats_settings_are_refused() {
        let error = |change: fn(&mut NatsConfig)| checked(change).unwrap_err().to_string();
        let text = error(|config| config.node.clear());
        assert_eq!(text, "node is 0 bytes, it must be 1 to 128");
        let text = error(|config| config.max_backoff = Duration::from_millis(1));
        assert!(text.contains("50ms") && text.contains("1ms"), "{text}");
        let text = error(|config| config.url = "http://me:secret@host".into());
        assert!(
            text.contains("http://host") && !text.contains("secret"),
            "{text}"
        );
        let text = error(|config| config.url = "nats://h:99999".into());
        assert!(text.contains("nats://h:99999"), "{text}");
        let text = error(|config| config.ping_interval = Duration::ZERO);
        assert_eq!(text, "ping_interval is 0s, it must be longer");
        let text = error(|config| {
            config.tls = Some(Tls {
                ca: Some("/nowhere.pem".into()),
                identity: None,
            });
        });
        assert!(text.contains("/nowhere.pem"), "{text}");
    }

    #[test]
    fn subjects_of_clusters_and_nodes_never_meet() {
        let checked = checked(|config| config.cluster = "a.node".into()).unwrap();
        assert_eq!(checked.subject_of_all(), "herenow.a%2Enode.all");
        assert_eq!(checked.subject_of_node("*"), "herenow.a%2Enode.node.%2A");
    }

    #[test]
    fn credentials_may_stand_in_the_address() {
        let of = |url: &str| {
            checked(|config| config.url = url.into())
                .unwrap()
                .credentials
        };
        let two = of("nats://h1, nats://me:p%40ss@h2:4223").unwrap();
        assert_eq!((two.user.as_deref(), &*two.password), (Some("me"), "p@ss"));
        let token = of("nats://token@h1").unwrap();
        assert_eq!((token.user, &*token.password), (None, "token"));
        assert_eq!(of("nats://h1"), None);
    }
}
