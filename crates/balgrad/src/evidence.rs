//! The little that a method may look at when it picks coefficients.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{BlockInfo, Role};

/// Where in the run a step stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// Steps taken before this one.
    pub step: usize,
    /// Epochs finished before this one.
    pub epoch: usize,
    /// The run's seed: with `step` it decides a draw.
    pub seed: u64,
    /// The part of all steps that is done, in [0, 1]; 0 where the balancer was not told how many there are.
    pub progress: f64,
    /// The same of the epoch's steps.
    pub within_epoch: f64,
}

impl Moment {
    /// Random numbers of this step, for what goes by `name`.
    pub(crate) fn rng(&self, name: &[u8]) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&(self.step as u64).to_le_bytes());
        key[16..].iter_mut().zip(name).for_each(|(k, n)| *k = *n);
        ChaCha8Rng::from_seed(key)
    }
}

/// What is known in one step after the backward passes: plain numbers, no tensors.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Steps taken before this one.
    pub step: usize,
    /// Epochs finished before this one.
    pub epoch: usize,
    /// The run's seed, for methods that leave something to chance: with `step` it decides a draw.
    pub seed: u64,
    /// The number of modalities.
    pub modalities: usize,
    /// The value of each objective, in the order of [`Method::objectives`](crate::Method::objectives).
    pub losses: &'a [f64],
    /// The blocks, in the order of the coefficients' rows.
    pub blocks: &'a [BlockInfo],
    /// Per block the Gram matrix of the objectives' gradients, row-major `k × k`; empty where the method's needs
    /// leave it out.
    pub gram: &'a [Vec<f64>],
}

impl Evidence<'_> {
    /// The number of objectives.
    pub fn objectives(&self) -> usize {
        self.losses.len()
    }

    /// `⟨g_i, g_j⟩` in block `b`; 0 where no Gram matrix was taken.
    pub fn inner(&self, b: usize, i: usize, j: usize) -> f64 {
        self.gram.get(b).and_then(|g| g.get(i * self.objectives() + j)).copied().unwrap_or(0.0)
    }

    /// `⟨g_i, g_j⟩` over all blocks of modality `m`'s tower.
    pub fn tower_inner(&self, m: usize, i: usize, j: usize) -> f64 {
        let of_tower = |b: &usize| self.blocks[*b].role == Role::Tower(m);
        (0..self.blocks.len()).filter(of_tower).map(|b| self.inner(b, i, j)).sum()
    }
}

/// What is known at the end of an epoch; a method never sees the test split.
#[derive(Debug, Clone, Default)]
pub struct EpochSummary {
    /// Epochs finished, this one included.
    pub epoch: usize,
    /// Mean training loss of each modality's view, where measured.
    pub train_loss: Vec<Option<f64>>,
    /// Validation loss of each modality's view (own head where the method trains it, else the fused head's view).
    pub val_loss: Vec<Option<f64>>,
    /// Validation headline metric of each modality's view, in [0, 1].
    pub val_score: Vec<Option<f64>>,
    /// Validation loss of the fused head.
    pub fused_val_loss: Option<f64>,
    /// Mean training loss of the fused head.
    pub fused_train_loss: Option<f64>,
    /// How the model sees every sample, where the method asked for it ([`Method::surveys`](crate::Method::surveys)).
    pub survey: Option<Survey>,
}

/// How a model in training sees every sample of the splits that it may look at.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The training split, in its own order.
    pub train: Panel,
    /// The validation split.
    pub val: Panel,
}

/// How a model sees the samples of one split.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Class indices of each sample.
    pub labels: Vec<Vec<u32>>,
    /// Embeddings `[modality][sample][width]`.
    pub embeddings: Vec<Vec<Vec<f32>>>,
    /// Whether the answer is right, in [0, 1] (multi-label: the part of labels that are), for every set of modalities
    /// that the model is shown: `[set][sample]`, bit `m` of `set` standing for modality `m`.
    pub correct: Vec<Vec<f64>>,
}
