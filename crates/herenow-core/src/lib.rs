//! Single-writer presence tables and the shard protocol, without IO.
