//! Addition: one linear layer over the sum of the embeddings.

use candle_core::{Result, Tensor};

use super::{Fusion, FusionEntry, FusionShape, slice, sum};
use crate::Parameters;
use crate::layers::Linear;

pub(super) const ENTRY: FusionEntry = FusionEntry {
    name: "add",
    about: "the sum of the embeddings, then one linear layer; additive in the logits",
    paper: "Kwon et al. 2025, Figure 8",
    build,
};

struct Add {
    classifier: Linear,
    modalities: usize,
}

fn build(shape: &FusionShape, p: &Parameters) -> crate::Result<Box<dyn Fusion>> {
    let classifier = Linear::new(shape.width, shape.classes, &p.scope("classifier"))?;
    Ok(Box::new(Add { classifier, modalities: shape.modalities }))
}

impl Fusion for Add {
    fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor> {
        self.classifier.forward(&sum(embeddings)?)
    }

    fn slices(&self, embeddings: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        let part = |x| slice(x, self.classifier.weight(), self.classifier.bias(), self.modalities);
        embeddings.iter().map(part).collect::<Result<_>>().map(Some)
    }
}
