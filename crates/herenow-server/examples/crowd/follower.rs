//! What a stock client makes of what it is sent: the list of who is here.

use std::collections::BTreeSet;

use herenow_protocol::{JoinRef, Payload, PresenceFold, event};
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Client;

/// A client's list. Texts are kept until the list is asked for, so that reading takes no time.
#[derive(Default)]
pub(crate) struct Follower {
    texts: Vec<String>,
    fold: PresenceFold,
}

impl Follower {
    /// Reads a client; tells whether the answer to its join was there.
    pub(crate) fn read(&mut self, client: &mut Client) -> bool {
        let mut is_joined = false;
        client.read(|text| is_joined |= self.take(text));
        is_joined
    }

    /// Takes a text that has come; tells whether it was the answer to the join.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        if text.contains(event::PRESENCE_STATE) || text.contains(event::PRESENCE_DIFF) {
            self.texts.push(text.to_owned());
            return false;
        }
        super::client::is_joined_by(text)
    }

    /// Returns who is here, for all that the client has been told.
    pub(crate) fn keys(&mut self) -> BTreeSet<String> {
        for text in std::mem::take(&mut self.texts) {
            let (_, _, _, event, payload): (Value, Value, Value, String, Box<RawValue>) =
                serde_json::from_str(&text).expect("a message of five");
            let payload = Payload::Json(payload.get().to_owned().into());
            let join_ref = JoinRef::from("1");
            let folded = self
                .fold
                .handle_event(&join_ref, &event, &payload, &mut |_| {});
            folded.expect("what the server sends folds");
        }
        self.fold
            .state()
            .list()
            .map(|(key, _)| key.to_owned())
            .collect()
    }
}
