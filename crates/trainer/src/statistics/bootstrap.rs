//! The bootstrap over groups of test samples, the same draws for every score that is compared.
//!
//! Samples of one group (the same emoji, the same icon) are no independent observations, so whole groups are drawn
//! with replacement. A score is first reduced to sums per group, so that a draw costs no look at any prediction.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Resampled;

/// Draws that are computed side by side, so that every step of a sum is one vector instruction or two.
const LANES: usize = 8;

/// Draws of groups with replacement.
#[derive(Debug, Clone, Copy)]
pub struct Bootstrap {
    /// How many draws.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// How many groups to draw from, and how many are drawn each time.
    pub groups: usize,
}

impl Bootstrap {
    /// Every score under every draw, `[draws][scores]`: entry `[d][i]` and `[d][j]` saw the same groups. The same
    /// numbers whatever the thread count, since each draw has a random stream of its own.
    pub fn run(&self, scores: &[Resampled]) -> Vec<Vec<f64>> {
        let block = |weights: &mut Vec<[f64; LANES]>, block: usize| {
            let first = block * LANES;
            self.draw(first, weights);
            let found: Vec<[f64; LANES]> = scores.iter().map(|score| score.lanes(weights)).collect();
            let lanes = LANES.min(self.draws - first);
            (0..lanes).map(|lane| found.iter().map(|f| f[lane]).collect()).collect::<Vec<Vec<f64>>>()
        };
        let blocks = (0..self.draws.div_ceil(LANES)).into_par_iter().map_init(Vec::new, block);
        blocks.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// How often each group is drawn, in the draws from `first` on.
    fn draw(&self, first: usize, weights: &mut Vec<[f64; LANES]>) {
        weights.clear();
        weights.resize(self.groups, [0.0; LANES]);
        for (lane, stream) in (first as u64..).enumerate().take(LANES) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(stream);
            for _ in 0..self.groups {
                weights[rng.random_range(0..self.groups as u32) as usize][lane] += 1.0;
            }
        }
    }
}
