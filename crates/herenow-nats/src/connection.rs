//! The client of the server: its options, the first attempt, what its events mean.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, rustls};
use herenow_pubsub::broker::{ConnectError, Mailroom, Trouble, in_words};

use crate::config::Checked;

/// Commands that wait inside the client; the queue that counts is ours.
const CLIENT_QUEUE: usize = 256;
/// The wait of a closed adapter's client, which could not be closed, before it connects again.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Connects, or begins to if the server is not there.
///
/// The client connects again by itself whenever it has to, and tells the mailroom.
pub(crate) async fn connect(
    checked: &Checked,
    mailroom: &Arc<Mailroom>,
) -> Result<Client, ConnectError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that somebody else was faster, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let attempt = options(checked, mailroom, 1).connect(&checked.servers[..]);
    let error = match attempt.await {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    let (broker, reason) = (checked.broker.clone(), in_words(&error));
    if is_refusal(error.kind()) {
        return Err(ConnectError::Credentials { broker, reason });
    }
    if error.kind() == ConnectErrorKind::Tls || is_of_tls(&error) {
        return Err(ConnectError::Untrusted { broker, reason });
    }
    mailroom.note_trouble(&Trouble::Unreachable(reason));
    let keep_trying = options(checked, mailroom, 0).retry_on_initial_connect();
    keep_trying
        .connect(&checked.servers[..])
        .await
        .map_err(|error| ConnectError::Unfit {
            broker: checked.broker.clone(),
            reason: in_words(&error),
        })
}

/// Of the first `n_at_once` attempts none waits.
fn options(checked: &Checked, mailroom: &Arc<Mailroom>, n_at_once: usize) -> ConnectOptions {
    let config = &checked.config;
    let backoff = checked.backoff;
    let n_at_once = n_at_once * checked.servers.len();
    let (of_events, of_delays) = (mailroom.clone(), mailroom.clone());
    let mut options = ConnectOptions::new()
        .name(format!("herenow {}", config.node))
        .no_echo()
        .custom_inbox_prefix(format!("{}.inbox", checked.prefix))
        .client_capacity(CLIENT_QUEUE)
        .subscription_capacity(config.inbox_messages.get())
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .reconnect_delay_callback(move |n_attempt| {
            if of_delays.is_over() {
                // The client has no other way to be told to stop.
                return NEVER;
            }
            if !of_delays.has_connected() && n_attempt <= n_at_once {
                return Duration::ZERO;
            }
            backoff.wait(n_attempt.saturating_sub(1))
        })
        .event_callback(move |event| {
            on_event(&of_events, &event);
            std::future::ready(())
        });
    options = match &checked.credentials {
        Some(credentials) => match &credentials.user {
            Some(user) => options.user_and_password(user.clone(), credentials.password.clone()),
            None => options.token(credentials.password.clone()),
        },
        None => options,
    };
    let Some(tls) = &config.tls else {
        return options;
    };
    options = options.require_tls(true);
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    match &tls.identity {
        Some(own) => options.add_client_certificate(own.certificate.clone(), own.key.clone()),
        None => options,
    }
}

fn on_event(mailroom: &Mailroom, event: &Event) {
    match event {
        Event::Connected => mailroom.note_connected(),
        Event::Disconnected => {
            mailroom.note_trouble(&Trouble::Unreachable("the connection ended".into()));
        }
        // One event per message dropped; events themselves are dropped when there are very many.
        Event::SlowConsumer(_subscription) => mailroom.note_lost(1),
        Event::ServerError(error) => {
            let (node, broker) = (mailroom.node(), mailroom.broker());
            tracing::warn!(node, broker, %error, "the broker reports an error");
        }
        Event::ClientError(error) => {
            let error = error.to_string();
            // The client passes on no more of a failed attempt than its words.
            let is_refusal = [
                ConnectErrorKind::AuthorizationViolation,
                ConnectErrorKind::Authentication,
            ]
            .iter()
            .any(|kind| error.contains(&kind.to_string()));
            mailroom.note_trouble(&if is_refusal {
                Trouble::Refused(error)
            } else {
                Trouble::Unreachable(error)
            });
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::debug!(node = mailroom.node(), broker = mailroom.broker(), %event, "broker event");
        }
    }
}

fn is_refusal(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication
    )
}

/// Returns whether TLS failed somewhere below: an `io::Error` hides its cause from `source`.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}
