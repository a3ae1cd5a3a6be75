//! What keys are called in flags and in the environment.

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "HERENOW_";

/// Keys whose flags and variables are shorter than their names.
const SHORT: [(&str, &str); 5] = [
    ("cluster.engine", "cluster"),
    ("cluster.node", "node"),
    ("cluster.peers", "peers"),
    ("cluster.nats_url", "nats_url"),
    ("cluster.redis_url", "redis_url"),
];

/// Tells whether the flag and the variable of a key are not simply made of its name.
pub(super) fn has_short_name(key: &str) -> bool {
    short(key) != key
}

fn short(key: &str) -> &str {
    let found = SHORT.iter().find(|(long, _)| *long == key);
    found.map_or(key, |(_, short)| short)
}

/// The flag of a key: `socket.idle_timeout` is set by `--socket-idle-timeout`.
pub(crate) fn flag_name(key: &str) -> String {
    format!("--{}", short(key).replace(['.', '_'], "-"))
}

/// The environment variable of a key: `socket.idle_timeout` is set by
/// `HERENOW_SOCKET_IDLE_TIMEOUT`.
pub(crate) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", short(key).replace('.', "_").to_uppercase())
}
