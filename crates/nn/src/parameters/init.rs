//! First values, drawn from a stream of their own per parameter.

use candle_core::{Device, Shape, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use sha2::{Digest, Sha256};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Every element the same.
    Const(f64),
    /// Uniform in `[-bound, bound]`.
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

impl Init {
    /// Uniform with bound `1/√n`: the usual start of a linear layer with `n` inputs, and of its bias.
    pub fn fan_in(n: usize) -> Self {
        Self::Uniform(1.0 / (n.max(1) as f64).sqrt())
    }

    /// Normal with standard deviation `√(2/n)` (He et al. 2015), for `n` inputs before a rectifier.
    pub fn he(n: usize) -> Self {
        Self::Normal((2.0 / n.max(1) as f64).sqrt())
    }

    /// `shape` f64 values of the stream that belongs to (`seed`, `name`).
    pub(super) fn draw(self, seed: u64, name: &str, shape: &Shape, device: &Device) -> candle_core::Result<Tensor> {
        let n = shape.elem_count();
        let values: Vec<f64> = match self {
            Self::Const(value) => vec![value; n],
            Self::Uniform(bound) => {
                let mut rng = stream(seed, name);
                (0..n).map(|_| rng.random_range(-1.0..=1.0) * bound).collect()
            }
            Self::Normal(deviation) => {
                let mut rng = stream(seed, name);
                (0..n).map(|_| rng.sample::<f64, _>(StandardNormal) * deviation).collect()
            }
        };
        Tensor::from_vec(values, shape.clone(), device)
    }
}

fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    ChaCha8Rng::from_seed(digest.into())
}
