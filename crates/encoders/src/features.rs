//! Hand-crafted features that nothing has to be downloaded for: descriptors of images, n-grams of texts.

mod cache;
mod descriptor;
mod ngrams;
mod standardizer;

use balgrad_data::Source;
use candle_core::{Device, Tensor};

pub use cache::{CacheKey, CachedFeatures, FeatureCache, FeatureWriter};
pub use descriptor::Descriptor;
pub use ngrams::NGrams;
pub use standardizer::Standardizer;

use crate::reader::Vectors;
use crate::{Encoder, Input, Item, Reader, Result, View};

/// A fixed map from a part of a sample to a vector.
pub trait Featurizer: Send + Sync {
    /// The length of the vector.
    fn dim(&self) -> usize;

    /// Name, version and settings: equal keys, equal features. Caches are keyed by it.
    fn key(&self) -> String;

    /// The features of the part of sample `id` under a view.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) for a part that cannot be decoded.
    fn features(&self, source: &Source, id: &str, view: &View) -> Result<Vec<f32>>;
}

/// A [`Featurizer`] as an encoder: the work is done where parts are read. A missing part is the zero vector.
pub struct Handcrafted<F>(F);

impl<F> Handcrafted<F> {
    /// The encoder.
    pub fn new(featurizer: F) -> Self {
        Self(featurizer)
    }
}

impl<F: Featurizer> Reader for Handcrafted<F> {
    fn key(&self) -> Result<String> {
        Ok(self.0.key())
    }

    fn item(&self, source: &Source, id: &str, view: &View) -> Result<Item> {
        self.0.features(source, id, view).map(Item::Features)
    }

    fn collate(&self, items: &[Item], device: &Device) -> Result<Input> {
        Vectors(self.0.dim()).collate(items, device)
    }
}

impl<F: Featurizer> Encoder for Handcrafted<F> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn reader(&self) -> &dyn Reader {
        self
    }

    fn forward(&self, input: &Input) -> candle_core::Result<Tensor> {
        input.features().cloned()
    }
}
