//! Where in a run a step stands, and the random numbers that follow from it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Where in the run a step stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clock {
    /// Steps taken before this one.
    pub step: usize,
    /// Epochs finished before this one.
    pub epoch: usize,
    /// The run's seed: with `step` it decides a draw.
    pub seed: u64,
    /// The fraction of all steps that is done, in [0, 1]; 0 where the balancer was not told how many there are.
    pub progress: f64,
    /// The same of the epoch's steps.
    pub within_epoch: f64,
}

impl Clock {
    /// A generator for this step's draws. Draws of one step that must not depend on each other take different names, of
    /// which the first 16 bytes count.
    pub fn rng(&self, name: &[u8]) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&(self.step as u64).to_le_bytes());
        key[16..].iter_mut().zip(name).for_each(|(k, n)| *k = *n);
        ChaCha8Rng::from_seed(key)
    }
}
