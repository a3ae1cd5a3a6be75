//! Messages that reach a channel from inside the server.

use std::any::Any;
use std::fmt;

use herenow_protocol::ChannelId;
use herenow_pubsub::Broadcast;

/// What [`Channel::handle_info`](crate::Channel::handle_info) gets.
#[non_exhaustive]
pub enum Info {
    /// A broadcast on a topic that the channel subscribed to beside its own.
    Broadcast(Broadcast),
    /// A value that some task sent with [`Handle::send`](crate::Handle::send), or to all channels
    /// of the connection with
    /// [`ConnectionHandle::tell_channels`](crate::ConnectionHandle::tell_channels).
    Message(Box<dyn Any + Send>),
}

impl Info {
    /// Returns the message if it is a `T`, or else the info as it was.
    ///
    /// # Errors
    ///
    /// The info itself if it is something else.
    pub fn downcast<T: Any>(self) -> Result<T, Self> {
        match self {
            Self::Message(message) => message
                .downcast()
                .map(|message| *message)
                .map_err(Self::Message),
            Self::Broadcast(_) => Err(self),
        }
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broadcast(broadcast) => f.debug_tuple("Broadcast").field(broadcast).finish(),
            Self::Message(_) => f.write_str("Message(..)"),
        }
    }
}

/// Why a message for a channel was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// The channel or its connection has ended.
    #[error("the channel has ended")]
    Ended,
    /// The channels of the connection do not keep up.
    #[error("{max} messages wait for the channels of this connection, which is the limit")]
    Full {
        /// [`SocketConfig::max_infos`](crate::SocketConfig::max_infos).
        max: usize,
    },
}

/// What waits in a mailbox for channels.
#[derive(Debug)]
pub(crate) enum InfoItem {
    /// For the `handle_info` of one.
    Info(ChannelId, Info),
    /// For the `handle_out` of one.
    Intercepted(ChannelId, Broadcast),
    /// For the `handle_info` of each.
    Notice(Box<dyn Notice>),
}

/// A message that can be given to any number of channels.
pub(crate) trait Notice: Send {
    /// Returns one of them.
    fn message(&self) -> Box<dyn Any + Send>;
}

impl<T: Clone + Send + 'static> Notice for T {
    fn message(&self) -> Box<dyn Any + Send> {
        Box::new(self.clone())
    }
}

impl fmt::Debug for dyn Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice")
    }
}
