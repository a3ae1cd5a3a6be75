//! [`Links`]: what this node has dialled, and who was there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use zenoh::config::{Locator, ZenohId};

/// The links that this node made, and the routers that it is linked to either way.
#[derive(Debug, Default)]
pub(super) struct Links {
    dialled: HashMap<ZenohId, Locator>,
    routers: HashSet<ZenohId>,
}

impl Links {
    pub(super) fn on_dialled(&mut self, peer: ZenohId, address: Locator) {
        self.dialled.insert(peer, address);
    }

    pub(super) fn on_router(&mut self, peer: ZenohId) {
        self.routers.insert(peer);
    }

    /// Takes in that there is no link to a peer any more; returns where this node had dialled it.
    pub(super) fn on_lost(&mut self, peer: &ZenohId) -> Option<Locator> {
        self.routers.remove(peer);
        self.dialled.remove(peer)
    }

    /// Returns who is linked to at any of these addresses.
    pub(super) fn at<'a>(
        &'a self,
        addresses: &'a [SocketAddr],
    ) -> impl Iterator<Item = &'a ZenohId> {
        let is_there = |at: &Locator| address(at).is_some_and(|at| addresses.contains(&at));
        let dialled = self.dialled.iter();
        dialled.filter_map(move |(peer, at)| is_there(at).then_some(peer))
    }

    pub(super) fn is_router(&self, peer: &ZenohId) -> bool {
        self.routers.contains(peer)
    }
}

/// A link leads to an address, by whichever name it was dialled.
fn address(locator: &Locator) -> Option<SocketAddr> {
    locator.address().as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_dialled_is_found_by_address_until_the_link_is_lost() {
        let (peer, router) = (ZenohId::default(), ZenohId::default());
        let locator = |text: &str| text.parse::<Locator>().unwrap();
        let at = |text: &str| [text.parse::<SocketAddr>().unwrap()];
        let mut links = Links::default();
        links.on_dialled(peer, locator("tcp/127.0.0.1:7447"));
        links.on_dialled(router, locator("tls/[::1]:7448"));
        links.on_router(router);
        let found = |links: &Links, text| links.at(&at(text)).copied().collect::<Vec<_>>();
        assert_eq!(found(&links, "127.0.0.1:7447"), [peer]);
        assert_eq!(found(&links, "[::1]:7448"), [router]);
        assert_eq!(found(&links, "127.0.0.1:7448"), []);
        assert!(links.is_router(&router) && !links.is_router(&peer));
        assert_eq!(links.on_lost(&peer), Some(locator("tcp/127.0.0.1:7447")));
        assert_eq!(links.on_lost(&peer), None);
        assert_eq!(found(&links, "127.0.0.1:7447"), []);
    }
}
