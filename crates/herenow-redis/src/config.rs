//! [`RedisConfig`]: how to reach one Redis server, and as whom.

use std::num::NonZeroUsize;
use std::time::Duration;

use herenow_pubsub::broker::{
    Backoff, ConfigError, Credentials, Tls, check_durations, check_name, check_url, in_words,
    read_file, token,
};
use redis::{
    Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
};
use rustls::crypto::CryptoProvider;

const SCHEMES: [&str; 2] = ["redis", "rediss"];

/// Settings of a [`RedisAdapter`](crate::RedisAdapter).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the server is: `redis://host:6379`, or `rediss://host:6379` for TLS. May hold
    /// `user:password@` or `:password@`. Default: `redis://127.0.0.1:6379`.
    pub url: String,
    /// Who we are, where the address does not say; a password without a user is the default user's.
    pub credentials: Option<Credentials>,
    /// TLS; with `None` it is used only if the address asks for it.
    pub tls: Option<Tls>,
    /// Nodes of different clusters do not hear each other. Default: `herenow`.
    pub cluster: String,
    /// The name of this node, unique in the cluster.
    pub node: String,
    /// Messages that may wait to be handed to the server. Default: 8,192.
    pub queue_messages: NonZeroUsize,
    /// Bytes that may wait to be handed to the server. Default: 64 MiB.
    pub queue_bytes: NonZeroUsize,
    /// The largest message, with sender and subject. Redis itself would carry 512 MiB, but by
    /// default it cuts off a subscriber for which 32 MiB wait, or 8 MiB for a minute. Default: 8
    /// MiB.
    pub max_message_bytes: NonZeroUsize,
    /// The wait before the second attempt to connect; it doubles. Default: 50 ms.
    pub min_backoff: Duration,
    /// The longest wait between attempts to connect. Default: 1 s.
    pub max_backoff: Duration,
    /// How long one attempt to connect may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How often a quiet server is asked for a sign. Default: 2 s.
    pub ping_interval: Duration,
    /// A server that leaves us without an answer for this long counts as lost. Default: 5 s.
    pub response_timeout: Duration,
    /// How long `close` waits for what was accepted to leave. Default: 5 s.
    pub close_timeout: Duration,
}

impl RedisConfig {
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

impl Default for RedisConfig {
    /// The node's name is empty and has to be set.
    fn default() -> Self {
        let mebibytes = |n: usize| NonZeroUsize::new(n * 1024 * 1024).expect("not zero");
        Self {
            url: "redis://127.0.0.1:6379".into(),
            credentials: None,
            tls: None,
            cluster: "herenow".into(),
            node: String::new(),
            queue_messages: NonZeroUsize::new(8_192).expect("not zero"),
            queue_bytes: mebibytes(64),
            max_message_bytes: mebibytes(8),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Settings that were checked, and what follows from them.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) config: RedisConfig,
    pub(crate) client: Client,
    pub(crate) backoff: Backoff,
    /// The address as it may be logged.
    pub(crate) broker: String,
    prefix: String,
}

impl Checked {
    /// Checks all settings and reads the files of certificates.
    pub(crate) fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        check_name("node", &config.node)?;
        check_name("cluster", &config.cluster)?;
        let backoff = Backoff::new(config.min_backoff, config.max_backoff)?;
        check_durations(&[
            ("connect_timeout", config.connect_timeout),
            ("ping_interval", config.ping_interval),
            ("response_timeout", config.response_timeout),
            ("close_timeout", config.close_timeout),
        ])?;
        let broker = check_url(&config.url, &SCHEMES)?;
        Ok(Self {
            client: client(&config, &broker)?,
            prefix: format!("herenow:{}", token(&config.cluster)),
            broker,
            backoff,
            config,
        })
    }

    /// Returns the channel of what goes to all nodes.
    pub(crate) fn channel_of_all(&self) -> String {
        format!("{}:all", self.prefix)
    }

    /// Returns the channel of what goes to one node.
    pub(crate) fn channel_of_node(&self, node: &str) -> String {
        format!("{}:node:{}", self.prefix, token(node))
    }
}

/// Prepares connections, without making one.
fn client(config: &RedisConfig, broker: &str) -> Result<Client, ConfigError> {
    let wrong_url = |error: redis::RedisError| ConfigError::Url {
        url: broker.to_owned(),
        reason: in_words(&error),
    };
    let info = info(config).map_err(wrong_url)?;
    if CryptoProvider::get_default().is_none() {
        // An error means that somebody else was faster, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let Some(tls) = &config.tls else {
        return Client::open(info).map_err(wrong_url);
    };
    let client_tls = match &tls.identity {
        Some(own) => Some(ClientTlsConfig {
            client_cert: read_file(&own.certificate)?,
            client_key: read_file(&own.key)?,
        }),
        None => None,
    };
    let root_cert = tls.ca.as_deref().map(read_file).transpose()?;
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    Client::build_with_tls(info, certificates).map_err(|error| ConfigError::Tls {
        reason: in_words(&error),
    })
}

fn info(config: &RedisConfig) -> redis::RedisResult<ConnectionInfo> {
    let url = match config.url.strip_prefix("redis://") {
        Some(rest) if config.tls.is_some() => format!("rediss://{rest}"),
        Some(_) | None => config.url.clone(),
    };
    let info = url.into_connection_info()?;
    let mut settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    if let Some(credentials) = &config.credentials {
        if let Some(user) = &credentials.user {
            settings = settings.set_username(user);
        }
        settings = settings.set_password(&credentials.password);
    }
    Ok(info.set_redis_settings(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut RedisConfig)) -> Result<Checked, ConfigError> {
        let mut config = RedisConfig::new("a");
        change(&mut config);
        Checked::new(config)
    }

    #[test]
    fn pub_129_wrong_redis_settings_are_refused() {
        let error = |change: fn(&mut RedisConfig)| checked(change).unwrap_err().to_string();
        let text = error(|config| config.cluster = "c".repeat(200));
        assert_eq!(text, "cluster is 200 bytes, it must be 1 to 128");
        let text = error(|config| config.max_backoff = Duration::from_millis(1));
        assert!(text.contains("50ms") && text.contains("1ms"), "{text}");
        let text = error(|config| config.url = "nats://me:secret@host".into());
        assert!(
            text.contains("nats://host") && !text.contains("secret"),
            "{text}"
        );
        let text = error(|config| config.url = "redis://me:secret@h:99999".into());
        assert!(
            text.contains("redis://h:99999") && !text.contains("secret"),
            "{text}"
        );
        let text = error(|config| config.response_timeout = Duration::ZERO);
        assert_eq!(text, "response_timeout is 0s, it must be longer");
        let text = error(|config| {
            config.tls = Some(Tls {
                ca: Some("/nowhere.pem".into()),
                identity: None,
            });
        });
        assert!(text.contains("/nowhere.pem"), "{text}");
    }

    #[test]
    fn channels_of_clusters_and_nodes_never_meet() {
        let checked = checked(|config| config.cluster = "a:node".into()).unwrap();
        assert_eq!(checked.channel_of_all(), "herenow:a%3Anode:all");
        assert_eq!(checked.channel_of_node("*"), "herenow:a%3Anode:node:%2A");
    }

    #[test]
    fn credentials_may_stand_beside_the_address() {
        let of = |user: Option<&str>| {
            let made = checked(|config| {
                config.credentials = Some(Credentials {
                    user: user.map(str::to_owned),
                    password: "pass".into(),
                });
            });
            let settings = made.unwrap().client.get_connection_info().clone();
            let settings = settings.redis_settings().clone();
            let user = settings.username().map(str::to_owned);
            (user, settings.password().map(str::to_owned))
        };
        assert_eq!(of(None), (None, Some("pass".into())));
        assert_eq!(of(Some("me")), (Some("me".into()), Some("pass".into())));
    }
}
