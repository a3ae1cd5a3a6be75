//! Makes an input out of kept ones, blindly: bytes changed, cut out, doubled, and pieces of others.

use oorandom::Rand64;

/// Numbers at which lengths and versions turn over.
const EDGES: [u64; 12] = [
    0,
    1,
    0x17,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
/// Changes of one input at most.
const MAX_CHANGES: u64 = 6;

/// Returns a changed copy of one of `kept`, of `max_len` bytes at most. `kept` is not empty.
pub(crate) fn mutated(random: &mut Rand64, kept: &[Vec<u8>], max_len: usize) -> Vec<u8> {
    let mut bytes = pick(random, kept).clone();
    for _ in 0..=random.rand_range(0..MAX_CHANGES) {
        change(random, kept, &mut bytes);
    }
    bytes.truncate(max_len);
    bytes
}

fn change(random: &mut Rand64, kept: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = below(random, bytes.len() + 1);
    let end = (at + 1 + below(random, 16)).min(bytes.len());
    match random.rand_range(0..9) {
        0 if at < bytes.len() => bytes[at] = any_byte(random),
        1 if at < bytes.len() => bytes[at] ^= 1 << random.rand_range(0..8),
        2 if at < bytes.len() => {
            bytes[at] = bytes[at].wrapping_add(any_byte(random) % 7).wrapping_sub(3)
        }
        3 => drop(bytes.drain(at..end.max(at))),
        4 => bytes.insert(at, any_byte(random)),
        5 => {
            let doubled = bytes[at..end.max(at)].to_vec();
            bytes.splice(at..at, doubled);
        }
        6 => {
            let other = pick(random, kept);
            let from = below(random, other.len() + 1);
            let to = from + below(random, other.len() - from + 1);
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        7 => {
            let edge = EDGES[below(random, EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 8][below(random, 4)];
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, edge[8 - width..].iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

fn pick<'a>(random: &mut Rand64, kept: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &kept[below(random, kept.len())]
}

fn below(random: &mut Rand64, len: usize) -> usize {
    let below = random.rand_range(0..len.max(1) as u64);
    usize::try_from(below).expect("below a length")
}

fn any_byte(random: &mut Rand64) -> u8 {
    random.rand_u64().to_be_bytes()[0]
}
