//! The targets, one file for each area.

mod shard;
mod wire;
mod cluster;
mod server;
mod token;

use crate::target::Target;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Returns all targets.
pub fn targets() -> &'static [Target] {
    &ALL
}

/// Returns the target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

static ALL: [Target; 13] = [
    Target {
        name: "shard_codec",
        input: "a shard message or a heartbeat",
        max_len: 4 * KIB,
        // Sets of versions are read by a crate that takes 256 KiB when two bytes claim so many.
        base_bytes: 512 * KIB,
        bytes_per_byte: 64,
        seeds: shard::seeds_of_codec,
        run: shard::codec,
    },
    Target {
        name: "shard_live",
        input: "a script of messages and heartbeats of three nodes, for a shard with rows of its own",
        max_len: 8 * KIB,
        base_bytes: MIB,
        bytes_per_byte: 256,
        seeds: shard::seeds_of_live,
        run: shard::live,
    },
    Target {
        name: "serializers",
        input: "a byte that chooses version and kind, then a frame of a client or a server",
        max_len: 4 * KIB,
        base_bytes: 64 * KIB,
        bytes_per_byte: 64,
        seeds: wire::seeds_of_serializers,
        run: wire::serializers,
    },
    Target {
        name: "long_poll_batch",
        input: "the body of a POST, taken for a batch",
        max_len: 4 * KIB,
        base_bytes: 64 * KIB,
        bytes_per_byte: 64,
        seeds: wire::seeds_of_batch,
        run: wire::batch,
    },
    Target {
        name: "presence_fold",
        input: "lines: s and a state, d and a diff, or j for a new join",
        max_len: 4 * KIB,
        base_bytes: 64 * KIB,
        bytes_per_byte: 512,
        seeds: wire::seeds_of_fold,
        run: wire::fold,
    },
    Target {
        name: "broker_frames",
        input: "a broker's frame with a broadcast in it",
        max_len: 4 * KIB,
        base_bytes: 256 * KIB,
        bytes_per_byte: 64,
        seeds: cluster::seeds_of_broker,
        run: cluster::broker,
    },
    Target {
        name: "sealed_frames",
        input: "a script: frames delivered, doubled, damaged and forged between two nodes",
        max_len: 4 * KIB,
        base_bytes: MIB,
        bytes_per_byte: 4 * KIB,
        seeds: cluster::seeds_of_sealed,
        run: cluster::sealed,
    },
    Target {
        name: "presence_frames",
        input: "pieces: frames of the presence link, from two nodes, for a running node",
        max_len: 4 * KIB,
        base_bytes: 4 * MIB,
        bytes_per_byte: KIB,
        seeds: cluster::seeds_of_presence,
        run: cluster::presence,
    },
    Target {
        name: "connect",
        input: "lines: query, sub-protocols, origin, host, and an entry of the list of origins",
        max_len: 2 * KIB,
        base_bytes: MIB,
        bytes_per_byte: KIB,
        seeds: server::seeds_of_connect,
        run: server::connect,
    },
    Target {
        name: "long_poll_post",
        input: "a byte that chooses the content type, then the body of a POST of a session",
        max_len: 2 * KIB,
        base_bytes: 4 * MIB,
        bytes_per_byte: KIB,
        seeds: server::seeds_of_post,
        run: server::post,
    },
    Target {
        name: "channel",
        input: "lines: the payload of a join of the built-in channel, then events with payloads",
        max_len: 2 * KIB,
        base_bytes: 4 * MIB,
        bytes_per_byte: KIB,
        seeds: server::seeds_of_channel,
        run: server::channel,
    },
    Target {
        name: "token",
        input: "a byte, then a token; or, if the byte is odd, head and claims on two lines, to be signed",
        max_len: 2 * KIB,
        base_bytes: MIB,
        bytes_per_byte: KIB,
        seeds: token::seeds,
        run: token::token,
    },
    Target {
        name: "configuration",
        input: "a configuration file; its lines also as variables and flags",
        max_len: 4 * KIB,
        base_bytes: MIB,
        bytes_per_byte: KIB,
        seeds: server::seeds_of_configuration,
        run: server::configuration,
    },
];
