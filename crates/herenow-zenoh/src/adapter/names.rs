//! Key expressions: one for all nodes of a cluster, one for each node, one for each sign of life.
//!
//! Names come from configuration and from strangers, so that each is one escaped chunk: no name can
//! reach into another cluster, stand for many nodes, or be refused by zenoh.

/// What everything of ours begins with; the number is the version of the layout.
const ROOT: &str = "herenow/1";

/// The key expressions of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(cluster: &str) -> Self {
        Self {
            prefix: format!("{ROOT}/{}", escape(cluster)),
        }
    }

    /// What broadcasts go to.
    pub(super) fn all(&self) -> String {
        format!("{}/all", self.prefix)
    }

    /// What messages to `node` go to.
    pub(super) fn direct(&self, node: &str) -> String {
        format!("{}/to/{}", self.prefix, escape(node))
    }

    /// The sign of life of one process of that name.
    pub(super) fn token(&self, node: &str, instance: &str) -> String {
        format!("{}/here/{}/{}", self.prefix, escape(node), escape(instance))
    }

    /// Every node's signs of life.
    pub(super) fn tokens(&self) -> String {
        format!("{}/here/*/*", self.prefix)
    }

    /// Returns the node and the instance that a sign of life is of.
    pub(super) fn parse_token(&self, key: &str) -> Option<(String, String)> {
        let rest = key.strip_prefix(&self.prefix)?.strip_prefix("/here/")?;
        let (node, instance) = rest.split_once('/')?;
        Some((unescape(node)?, unescape(instance)?))
    }
}

/// Makes any text one chunk of a key expression: `%` and two digits for all but letters, digits,
/// `-`, `_` and `.`.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(chunk: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(chunk.len());
    let mut rest = chunk;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(escaped.get(..2)?, 16).ok()?);
        rest = &escaped[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use zenoh::key_expr::KeyExpr;

    use super::*;

    const NAMES: [&str; 9] = [
        "a",
        "node-1.example_x",
        "a/b",
        "*",
        "$*",
        "?#%41",
        "@/admin",
        "Zoë 王",
        "%",
    ];

    #[test]
    fn any_name_is_one_chunk_and_comes_back() {
        for name in NAMES {
            let chunk = escape(name);
            assert_eq!(unescape(&chunk).as_deref(), Some(name));
            assert!(!chunk.contains('/'));
            let names = Names::new(name);
            for key in [names.all(), names.direct(name), names.token(name, name)] {
                KeyExpr::try_from(key).expect("zenoh takes it as it is");
            }
            assert_eq!(
                names.parse_token(&names.token(name, "1f")),
                Some((name.to_owned(), "1f".to_owned()))
            );
        }
    }

    #[test]
    fn no_two_names_meet() {
        for one in NAMES {
            for other in NAMES.iter().filter(|other| **other != one) {
                let (a, b) = (Names::new(one), Names::new(other));
                let tokens = KeyExpr::try_from(a.tokens()).unwrap();
                assert!(!tokens.intersects(&KeyExpr::try_from(b.token("n", "1")).unwrap()));
                assert!(tokens.includes(&KeyExpr::try_from(a.token(other, "1")).unwrap()));
                assert_ne!(a.all(), b.all());
                assert_ne!(a.direct(one), a.direct(other));
            }
        }
    }

    #[test]
    fn foreign_keys_are_not_tokens() {
        let names = Names::new("c");
        for key in [
            "herenow/1/d/here/n/1",
            "herenow/1/c/all",
            "herenow/1/c/here/n",
            "herenow/1/c/here/%F/1",
            "herenow/1/c/here/%FF/1",
            "herenow/1/c/here/%é/1",
        ] {
            assert_eq!(names.parse_token(key), None, "{key}");
        }
    }
}
