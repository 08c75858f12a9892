//! Small seeded changes to training samples, so that encoders trained from scratch memorise less.
//!
//! Each change is drawn from (seed, epoch, sample id): the same for any number of threads and any order.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Splits;

/// How much training samples may change; the default changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Images move by up to this many pixels on each axis; the border is repeated.
    pub shift: usize,
    /// Images are mirrored left to right, one in two.
    pub flip: bool,
    /// A word piece is split in two with this probability, and so are its parts (MaxMatch-dropout, Hiraoka 2022, by splits
    /// drawn evenly): words that were never seen look less strange.
    pub split_tokens: f64,
    /// Each token but the first and the last is dropped with this probability; one always stays.
    pub drop_tokens: f64,
}

/// Names one sample in one epoch of one run.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample's id.
    pub id: &'a str,
}

impl Draw<'_> {
    fn rng(&self, purpose: &str) -> ChaCha8Rng {
        let hash = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.epoch.to_le_bytes());
        ChaCha8Rng::from_seed(hash.chain_update(purpose).chain_update([0]).chain_update(self.id).finalize().into())
    }
}

impl Augment {
    /// Changes a square RGB image, `side · side · 3` bytes, rows from the top. Other lengths stay as they are.
    pub fn pixels(&self, rgb: &mut [u8], side: usize, draw: Draw<'_>) {
        if side == 0 || rgb.len() != side * side * 3 || (self.shift == 0 && !self.flip) {
            return;
        }
        let mut rng = draw.rng("pixels");
        let reach = self.shift.min(side) as i64;
        let (dx, dy) = (rng.random_range(-reach..=reach), rng.random_range(-reach..=reach));
        let mirror = self.flip && rng.random_bool(0.5);
        let before = rgb.to_vec();
        let last = side as i64 - 1;
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i % side) as i64, (i / side) as i64);
            let x = if mirror { last - x } else { x };
            let (x, y) = ((x + dx).clamp(0, last) as usize, (y + dy).clamp(0, last) as usize);
            pixel.copy_from_slice(&before[(y * side + x) * 3..][..3]);
        }
    }

    /// Splits word pieces and drops tokens between the first and the last.
    pub fn tokens(&self, ids: &mut Vec<u32>, splits: &Splits, draw: Draw<'_>) {
        if self.split_tokens > 0.0 {
            let mut rng = draw.rng("pieces");
            let mut todo: Vec<u32> = ids.drain(..).rev().collect();
            while let Some(id) = todo.pop() {
                match splits.of(id) {
                    [] => ids.push(id),
                    ways if rng.random_bool(self.split_tokens.min(1.0)) => {
                        let (left, right) = ways[rng.random_range(0..ways.len())];
                        todo.extend([right, left]);
                    }
                    _ => ids.push(id),
                }
            }
        }
        if self.drop_tokens <= 0.0 || ids.len() < 4 {
            return;
        }
        let mut rng = draw.rng("tokens");
        let keep_at_least = rng.random_range(1..ids.len() - 1);
        let last = ids.len() - 1;
        let mut at = 0;
        ids.retain(|_| {
            let drop = rng.random_bool(self.drop_tokens.min(1.0));
            at += 1;
            at == 1 || at > last || at - 1 == keep_at_least || !drop
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DRAW: Draw<'_> = Draw { seed: 1, epoch: 2, id: "cat" };

    #[test]
    fn the_same_draw_changes_the_same_way() {
        let augment = Augment { shift: 2, flip: true, drop_tokens: 0.5, ..Augment::default() };
        let image: Vec<u8> = (0..8 * 8 * 3).map(|i| i as u8).collect();
        let changed = |draw| {
            let mut image = image.clone();
            augment.pixels(&mut image, 8, draw);
            image
        };
        assert_eq!(changed(DRAW), changed(DRAW));
        let epochs: Vec<_> = (0..20).map(|epoch| changed(Draw { epoch, ..DRAW })).collect();
        let different: std::collections::BTreeSet<_> = epochs.iter().collect();
        assert!(different.len() > 10);
    }

    #[test]
    fn nothing_is_the_default() {
        let mut image = vec![7, 8, 9, 1, 2, 3, 4, 5, 6, 10, 11, 12];
        let before = image.clone();
        let mut ids = vec![2, 9, 8, 7, 3];
        Augment::default().pixels(&mut image, 2, DRAW);
        Augment::default().tokens(&mut ids, &Splits::default(), DRAW);
        assert_eq!((image, ids), (before, vec![2, 9, 8, 7, 3]));
    }

    #[test]
    fn the_ends_and_one_word_stay() {
        let augment = Augment { drop_tokens: 1.0, ..Augment::default() };
        for epoch in 0..20 {
            let mut ids = vec![2, 10, 11, 12, 3];
            augment.tokens(&mut ids, &Splits::default(), Draw { epoch, ..DRAW });
            assert!(ids.len() == 3 && ids[0] == 2 && ids[2] == 3 && ids[1] >= 10, "{ids:?}");
        }
    }

    #[test]
    fn split_pieces_spell_the_same_text() {
        let tokenizer = crate::Tokenizer::train(["rowing rowing row", "sewing sewing", "wing wing ring"], 64).unwrap();
        let before = tokenizer.encode("rowing").unwrap();
        let vocabulary: Vec<String> =
            (0..tokenizer.vocabulary() as u32).map(|id| tokenizer.token(id).unwrap()).collect();
        let spelt = |ids: &[u32]| {
            let text: String = ids.iter().map(|&id| vocabulary[id as usize].replace("##", "")).collect();
            text
        };
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..50 {
            let mut ids = before.clone();
            let augment = Augment { split_tokens: 0.5, ..Augment::default() };
            augment.tokens(&mut ids, tokenizer.splits(), Draw { epoch, ..DRAW });
            assert_eq!(spelt(&ids), spelt(&before));
            seen.insert(ids);
        }
        assert!(seen.len() > 3, "{seen:?}");
    }
}
