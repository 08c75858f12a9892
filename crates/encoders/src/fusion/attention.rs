//! Attention: a softmax-weighted mean of the embeddings.
//!
//! `a = softmax_m(vᵀ tanh(U z_m + e_m))`, `z = Σ_m a_m z_m`, then one linear layer. `e_m` is learnt for each
//! modality, so a weight can depend on what a modality says and on which one it is. The paper shows results with
//! attention fusion (Figure 8) but not its form; this one (attention pooling, Ilse et al. 2018, eq. 8) is a declared
//! choice. Weights depend on all embeddings, so there are no additive slices.

use candle_core::{D, Result, Tensor};

use super::{Fusion, FusionEntry, FusionShape, sum};
use crate::layers::Linear;
use crate::{Init, Parameters, ops};

pub(super) const ENTRY: FusionEntry = FusionEntry {
    name: "attention",
    about: "a softmax-weighted mean of the embeddings, then one linear layer",
    paper: "Kwon et al. 2025, Figure 8 (form not given); Ilse et al. 2018, eq. 8",
    build,
};

struct Attention {
    key: Linear,
    modality: Tensor,
    score: Linear,
    classifier: Linear,
}

fn build(shape: &FusionShape, p: &Parameters) -> crate::Result<Box<dyn Fusion>> {
    let FusionShape { modalities, width, classes } = *shape;
    Ok(Box::new(Attention {
        key: Linear::without_bias(width, width, &p.scope("key"))?,
        modality: p.get("modality", (modalities, width), Init::Normal(0.02))?,
        // A bias would shift every score alike, and so do nothing.
        score: Linear::without_bias(width, 1, &p.scope("score"))?,
        classifier: Linear::new(width, classes, &p.scope("classifier"))?,
    }))
}

impl Fusion for Attention {
    fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor> {
        let score = |(m, z): (usize, &Tensor)| {
            let key = self.key.forward(z)?.broadcast_add(&self.modality.get(m)?)?;
            self.score.forward(&key.tanh()?)
        };
        let scores = embeddings.iter().enumerate().map(score).collect::<Result<Vec<_>>>()?;
        let shares = ops::softmax(&Tensor::cat(&scores, D::Minus1)?)?;
        let weighted = |(m, z): (usize, &Tensor)| z.broadcast_mul(&shares.narrow(1, m, 1)?);
        let parts = embeddings.iter().enumerate().map(weighted).collect::<Result<Vec<_>>>()?;
        self.classifier.forward(&sum(&parts)?)
    }
}
