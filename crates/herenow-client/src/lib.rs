//! A small client for Phoenix channels and presence.
