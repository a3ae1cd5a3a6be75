//! The home of a topic: the node that tells what is of the topic and of nobody.

use herenow_presence::{NodeName, Topic};
use sha2::{Digest, Sha256};

/// The node that tells what is of a topic and of nobody.
pub(super) fn home_of<'a>(
    topic: &Topic,
    nodes: impl Iterator<Item = &'a NodeName>,
) -> Option<&'a str> {
    let mut nodes = nodes.map(NodeName::as_str).peekable();
    let first = nodes.next()?;
    if nodes.peek().is_none() {
        return Some(first); // A node alone is everything's home.
    }
    let weight = |node: &str| {
        let mut hash = Sha256::new();
        hash.update(node);
        hash.update([0]);
        hash.update(topic.as_str());
        <[u8; 32]>::from(hash.finalize())
    };
    let weighed = std::iter::once(first)
        .chain(nodes)
        .map(|node| (weight(node), node));
    weighed.max().map(|(_, node)| node)
}
