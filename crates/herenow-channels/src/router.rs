//! Which channel serves a topic.

use std::fmt;
use std::sync::Arc;

use crate::channel::{AnyChannel, Assigns, Channel, Socket, new_channel};

/// A topic pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("topic pattern {pattern:?} has a `*` that is not its last character")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
}

/// A pattern and what serves the topics that match it.
pub(crate) struct Route {
    pattern: Pattern,
    factory: Factory,
    assigns: Assigns,
    intercept: &'static [&'static str],
}

type Factory = Arc<dyn Fn(Socket) -> Box<dyn AnyChannel> + Send + Sync>;

#[derive(Debug)]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, PatternError> {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if text.contains('*') {
            return Err(PatternError {
                pattern: pattern.to_owned(),
            });
        }
        Ok(if is_prefix {
            Self::Prefix(text.into())
        } else {
            Self::Exact(text.into())
        })
    }

    fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(text) => topic == &**text,
            Self::Prefix(text) => topic.starts_with(&**text),
        }
    }
}

impl Route {
    /// Routes topics that match `pattern` to channels that `make` makes.
    pub(crate) fn new<C: Channel>(
        pattern: &str,
        assigns: Assigns,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Result<Self, PatternError> {
        Ok(Self {
            pattern: Pattern::parse(pattern)?,
            factory: Arc::new(move |socket| new_channel(make(), socket)),
            assigns,
            intercept: C::INTERCEPT,
        })
    }

    /// Returns the events that the channels intercept.
    pub(crate) fn intercept(&self) -> &'static [&'static str] {
        self.intercept
    }

    /// Returns the values that the route assigns.
    pub(crate) fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// Makes a channel. Runs user code, which may panic.
    pub(crate) fn make(&self, socket: Socket) -> Box<dyn AnyChannel> {
        (self.factory)(socket)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// The routes of one mount, in the order of their declaration.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

impl Router {
    pub(crate) fn add(&mut self, route: Route) {
        self.routes.push(route);
    }

    /// Returns the first route that matches.
    pub(crate) fn find(&self, topic: &str) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.pattern.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_match(patterns: &[&str], topic: &str) -> Option<usize> {
        let patterns: Vec<_> = patterns
            .iter()
            .map(|pattern| Pattern::parse(pattern).unwrap())
            .collect();
        patterns.iter().position(|pattern| pattern.matches(topic))
    }

    #[test]
    fn x_01_first_declared_match_wins() {
        assert_eq!(first_match(&["food*", "foo*"], "foo:1"), Some(1));
        assert_eq!(first_match(&["food*", "foo*"], "food:1"), Some(0));
        assert_eq!(first_match(&["foo*", "food*"], "food:1"), Some(0));
        assert_eq!(first_match(&["food*", "foo*"], "bar:1"), None);
        assert_eq!(first_match(&["room:*"], "room:"), Some(0));
        assert_eq!(first_match(&["room:1"], "room:12"), None);
        assert_eq!(first_match(&["*"], ""), Some(0));
    }

    #[test]
    fn x_01_a_star_elsewhere_is_refused() {
        for pattern in ["a*b", "*:1", "a**"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
