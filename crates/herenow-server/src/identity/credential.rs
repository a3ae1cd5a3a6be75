//! [`Credential`]: the identity of one connection, which a new token can renew.
//!
//! It is what channels find in their assigns, and guards the connection: joins of topics that the
//! identity does not have are answered as if those did not exist, and `access_token` on topic
//! `phoenix` brings a new token. A connection is closed when its token is over.

use std::sync::{Arc, LazyLock};

use herenow_channels::{
    Assigns, ConnectInfo, ConnectRefused, Connected, ConnectionHandle, ConnectionRef, Guard,
};
use herenow_protocol::Payload;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::authority::{Authority, refused};
use super::eviction::user_id;
use super::expiry::{Held, Place};
use super::refusal::TokenRefusal;
use super::who::Identity;
use crate::raw;

/// The event that brings a new token, `{"access_token": …}`.
pub(crate) const ACCESS_TOKEN: &str = "access_token";

/// What connections have in dev mode that did not say who they are.
static UNNAMED: LazyLock<Assigns> = LazyLock::new(|| {
    let credential = Credential::new(None, Identity::claimed(None));
    let mut assigns = Assigns::new();
    assigns.insert_arc(credential);
    assigns
});

/// Tells the channels that the connection's identity has changed.
#[derive(Debug, Clone)]
pub(crate) struct IdentityChanged;

/// The identity of one connection. Shared by its channels.
#[derive(Debug)]
pub struct Credential {
    /// `None` in dev mode.
    authority: Option<Authority>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    identity: Identity,
    connection: ConnectionHandle,
    /// Among the connections by their ends.
    place: Option<Place>,
    /// Whether a token on topic `phoenix` is being checked.
    is_checking: bool,
}

impl Authority {
    /// Decides on a request for a socket: refuses it, or gives the connection its identity, and an
    /// id by which all connections of the user can be closed.
    ///
    /// # Errors
    ///
    /// The refusal of its token, with a word as the reason, before anything is upgraded.
    pub async fn connect(&self, info: &ConnectInfo) -> Result<Connected, ConnectRefused> {
        match self.identify(info).await {
            Ok(identity) => Ok(self.connected(identity)),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Accepts a connection of `identity`.
    pub fn connected(&self, identity: Identity) -> Connected {
        let mut connected = Connected::anonymous();
        if self.is_dev() {
            if identity.key().is_some() {
                return connected.assign_arc(Credential::new(None, identity));
            }
            connected.assigns = UNNAMED.clone();
            return connected;
        }
        connected.id = identity.key().map(user_id);
        let credential = Credential::new(Some(self), identity);
        connected
            .assign_arc(credential.clone())
            .guarded_by(credential)
    }
}

impl Credential {
    fn new(authority: Option<&Authority>, identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            authority: authority.cloned(),
            state: Mutex::new(State {
                identity,
                connection: ConnectionHandle::default(),
                place: None,
                is_checking: false,
            }),
        })
    }

    /// The credential among a channel's assigns.
    pub fn of(assigns: &Assigns) -> Option<&Self> {
        assigns.get()
    }

    /// The identity as it is now.
    pub fn identity(&self) -> Identity {
        self.state.lock().identity.clone()
    }

    /// Takes a new token, of the same user: from now on it counts, and all channels are told
    /// `IdentityChanged`. In dev mode it is not looked at.
    ///
    /// # Errors
    ///
    /// [`TokenRefusal`]; the old token counts on.
    pub async fn renew(&self, token: &str) -> Result<Identity, TokenRefusal> {
        let Some(authority) = &self.authority else {
            return Ok(self.identity());
        };
        let is_own = |new: &Identity| new.key() == self.state.lock().identity.key();
        let new = authority.check_for(token, is_own).await?;
        let mut state = self.state.lock();
        state.identity = new.clone();
        state.take_place(authority);
        let connection = state.connection.clone();
        drop(state);
        connection.tell_channels(IdentityChanged);
        Ok(new)
    }

    /// Checks a token of topic `phoenix`, one at a time.
    fn renew_later(self: Arc<Self>, token: String, reply: ConnectionRef) {
        if std::mem::replace(&mut self.state.lock().is_checking, true) {
            let busy = json!({ "reason": "a token is being checked" });
            let _closed = reply.reply("error", busy);
            return;
        }
        tokio::spawn(async move {
            let renewed = self.renew(&token).await;
            self.state.lock().is_checking = false;
            let (status, response) = answer(&renewed);
            // A connection that has closed wants no reply.
            let _closed = reply.reply(status, response);
        });
    }
}

impl State {
    /// Moves the connection to the place of its end.
    fn take_place(&mut self, authority: &Authority) {
        let expiries = authority.expiries();
        if let Some(place) = self.place.take() {
            expiries.remove(place);
        }
        let expires_at = self.identity.expires_at_unix();
        let held = || Held::Connection(self.connection.clone());
        self.place = expires_at.map(|at| expiries.insert(at, held()));
    }
}

impl Guard for Credential {
    fn opened(&self, connection: ConnectionHandle) {
        let mut state = self.state.lock();
        state.connection = connection;
        if let Some(authority) = &self.authority {
            state.take_place(authority);
        }
    }

    fn admits(&self, topic: &str) -> bool {
        self.state.lock().identity.may_join(topic)
    }

    fn handle_in(self: Arc<Self>, event: &str, payload: &Payload, reply: &ConnectionRef) -> bool {
        let is_ours = event == ACCESS_TOKEN;
        if is_ours {
            match token_in(payload) {
                Some(token) => self.renew_later(token, reply.clone()),
                // A connection that has closed wants no reply.
                None => {
                    let (status, response) = answer(&Err(TokenRefusal::Missing));
                    let _closed = reply.reply(status, response);
                }
            }
        }
        is_ours
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        if let (Some(authority), Some(place)) = (&self.authority, self.state.get_mut().place) {
            authority.expiries().remove(place);
        }
    }
}

/// The token in the payload of [`ACCESS_TOKEN`].
pub(crate) fn token_in(payload: &Payload) -> Option<String> {
    let [token] = raw::members_of(payload, [ACCESS_TOKEN]);
    token.and_then(raw::text)
}

/// What is answered to a new token: when it is over, or the word for why it does not count.
pub(crate) fn answer(renewed: &Result<Identity, TokenRefusal>) -> (&'static str, Value) {
    match renewed {
        Ok(identity) => ("ok", json!({ "expires_at": identity.expires_at_unix() })),
        Err(refusal) => ("error", json!({ "reason": refusal.word() })),
    }
}
