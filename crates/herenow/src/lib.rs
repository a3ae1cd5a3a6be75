//! Who is here, right now, on every node: Phoenix-compatible presence, channels and pubsub for Rust.
