//! Seeds made of what a thing is, so that they do not depend on order or threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// SHA-256 of the parts, each with its length, so that no two lists run together.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A number that depends on the parts alone: the same on every machine and in every version.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest(parts);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A generator seeded by the parts.
pub(crate) fn rng(parts: &[&[u8]]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(digest(parts))
}
