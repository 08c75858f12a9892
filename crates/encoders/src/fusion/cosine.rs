//! MMCosine (Xu, Feng & Hu, "MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained Classification",
//! ICASSP 2023): logits are `s Σ_m cos(f_m, W_m)`, so that no modality wins by the length of its embeddings or weights.
//!
//! `s = 10`, the paper's; no bias. The cosine with an embedding of zero is 0.
//! Made for classes: answers that are numbers start up to `s` standard deviations off for each modality.

use candle_core::{D, Result, Tensor};

use super::{Fusion, FusionEntry, FusionShape, sum};
use crate::Parameters;
use crate::layers::Linear;

pub(super) const ENTRY: FusionEntry = FusionEntry {
    name: "cosine",
    about: "MMCosine: a sum of scaled cosines between embeddings and class weights; additive in the logits",
    paper: "Xu et al., ICASSP 2023",
    build,
};

/// `s`.
const SCALE: f64 = 10.0;

/// `[classes, width]`, one for each modality.
struct Cosine(Vec<Linear>);

fn build(shape: &FusionShape, p: &Parameters) -> crate::Result<Box<dyn Fusion>> {
    let one = |m: usize| Linear::without_bias(shape.width, shape.classes, &p.scope("classifier").scope(m));
    Ok(Box::new(Cosine((0..shape.modalities).map(one).collect::<balgrad_nn::Result<_>>()?)))
}

fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?)
}

impl Fusion for Cosine {
    fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor> {
        sum(&self.parts(embeddings)?)
    }

    fn slices(&self, embeddings: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        self.parts(embeddings).map(Some)
    }
}

impl Cosine {
    fn parts(&self, embeddings: &[Tensor]) -> Result<Vec<Tensor>> {
        let part = |(x, w): (&Tensor, &Linear)| crate::ops::linear(&unit(x)?, &(unit(w.weight())? * SCALE)?, None);
        embeddings.iter().zip(&self.0).map(part).collect()
    }
}
