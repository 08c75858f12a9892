//! Concatenation, the paper's default: one linear layer over the embeddings side by side.

use candle_core::{D, Result, Tensor};

use super::{Fusion, FusionEntry, FusionShape, slice};
use crate::Parameters;
use crate::layers::Linear;

pub(super) const ENTRY: FusionEntry = FusionEntry {
    name: "concat",
    about: "the embeddings side by side, then one linear layer; additive in the logits",
    paper: "Kwon et al. 2025, the architecture figure (the default)",
    build,
};

struct Concat {
    classifier: Linear,
    shape: FusionShape,
}

fn build(shape: &FusionShape, p: &Parameters) -> crate::Result<Box<dyn Fusion>> {
    let classifier = Linear::new(shape.modalities * shape.width, shape.classes, &p.scope("classifier"))?;
    Ok(Box::new(Concat { classifier, shape: *shape }))
}

impl Fusion for Concat {
    fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor> {
        self.classifier.forward(&Tensor::cat(embeddings, D::Minus1)?)
    }

    fn slices(&self, embeddings: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        let FusionShape { modalities, width, .. } = self.shape;
        let part = |(m, x): (usize, &Tensor)| {
            let weight = self.classifier.weight().narrow(1, m * width, width)?;
            slice(x, &weight, self.classifier.bias(), modalities)
        };
        embeddings.iter().enumerate().map(part).collect::<Result<_>>().map(Some)
    }
}
