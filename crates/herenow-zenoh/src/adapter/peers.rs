//! [`Peers`]: which nodes are there, by their signs of life.
//!
//! A process that is killed and started again has a new instance under the old name, and the two
//! signs may overlap: a node is gone when its last instance is.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// Instances that are there; what comes on top is not reported.
const MAX_INSTANCES: usize = 16_384;

/// Instances that are gone and whose node is remembered.
const MAX_FORMER: usize = 1024;

/// The nodes that are there.
#[derive(Debug, Default)]
pub(super) struct Peers {
    instances: HashMap<String, BTreeSet<String>>,
    n_instances: usize,
    /// The latest instances that went, each with its node.
    former: VecDeque<(String, String)>,
    n_returns: u64,
}

impl Peers {
    /// Takes in that an instance is there; true if that is news.
    pub(super) fn on_seen(&mut self, node: &str, instance: &str) -> bool {
        if self.n_instances >= MAX_INSTANCES {
            return false;
        }
        let instances = self.instances.entry(node.to_owned()).or_default();
        let is_new = instances.insert(instance.to_owned());
        self.n_instances += usize::from(is_new);
        let n_former = self.former.len();
        self.former.retain(|(former, _)| former != instance);
        self.n_returns += u64::from(is_new && self.former.len() < n_former);
        is_new
    }

    /// Takes in that an instance is gone; true if it was the node's last.
    pub(super) fn on_gone(&mut self, node: &str, instance: &str) -> bool {
        let Some(instances) = self.instances.get_mut(node) else {
            return false;
        };
        if instances.remove(instance) {
            self.n_instances -= 1;
            if self.former.len() == MAX_FORMER {
                self.former.pop_front();
            }
            self.former
                .push_back((instance.to_owned(), node.to_owned()));
        }
        if instances.is_empty() {
            self.instances.remove(node);
            return true;
        }
        false
    }

    /// Returns whether an instance is gone and another one has its node's name.
    pub(super) fn is_replaced(&self, instance: &str) -> bool {
        self.former
            .iter()
            .any(|(former, node)| former == instance && self.instances.contains_key(node))
    }

    /// Returns the node of an instance that is there.
    pub(super) fn node_of(&self, instance: &str) -> Option<&str> {
        let mut nodes = self.instances.iter();
        let (node, _) = nodes.find(|(_, instances)| instances.contains(instance))?;
        Some(node)
    }

    pub(super) fn has(&self, node: &str) -> bool {
        self.instances.contains_key(node)
    }

    /// Returns how often an instance came that had gone before.
    pub(super) fn n_returns(&self) -> u64 {
        self.n_returns
    }

    pub(super) fn n_nodes(&self) -> usize {
        self.instances.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_gone_with_its_last_instance() {
        let mut peers = Peers::default();
        assert!(peers.on_seen("a", "1"));
        assert!(!peers.on_seen("a", "1"));
        assert!(peers.on_seen("a", "2"));
        assert_eq!(peers.node_of("2"), Some("a"));
        assert_eq!((peers.node_of("3"), peers.has("a")), (None, true));
        assert!(!peers.on_gone("a", "1"));
        assert_eq!(peers.n_nodes(), 1);
        assert!(!peers.on_gone("b", "1"));
        assert!(peers.on_gone("a", "2"));
        assert!(!peers.on_gone("a", "2"));
        assert_eq!((peers.n_nodes(), peers.n_instances), (0, 0));
        assert!(!peers.has("a"));
    }

    #[test]
    fn an_instance_is_replaced_by_another_of_its_node() {
        let mut peers = Peers::default();
        peers.on_seen("a", "1");
        peers.on_gone("a", "1");
        assert!(!peers.is_replaced("1"), "it may come back");
        peers.on_seen("b", "2");
        assert!(!peers.is_replaced("1"));
        peers.on_seen("a", "3");
        assert!(peers.is_replaced("1"));
        peers.on_seen("a", "1");
        assert!(!peers.is_replaced("1"), "it came back");
    }

    #[test]
    fn instances_are_bounded() {
        let mut peers = Peers::default();
        for n in 0..MAX_INSTANCES {
            assert!(peers.on_seen("a", &n.to_string()));
        }
        assert!(!peers.on_seen("b", "x"));
        for n in 0..=MAX_FORMER {
            assert!(!peers.on_gone("a", &n.to_string()));
        }
        assert!(peers.on_seen("b", "x"));
        assert_eq!(peers.former.len(), MAX_FORMER);
    }
}
