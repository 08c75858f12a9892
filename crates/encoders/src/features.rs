//! Frozen features that nothing has to be downloaded for: descriptors of images, n-grams of texts.

mod cache;
mod descriptor;
mod ngrams;
mod standardizer;

pub use cache::{CacheKey, CachedFeatures, FeatureCache, FeatureWriter};
pub use descriptor::Descriptor;
pub use ngrams::NGrams;
pub use standardizer::Standardizer;

/// A frozen, unlearned map from an image or a text to a vector.
pub trait Featurizer: Send + Sync {
    /// The length of the vector.
    fn dim(&self) -> usize;

    /// Name, version and settings: equal keys, equal features. Caches are keyed by it.
    fn key(&self) -> String;

    /// The features of an RGB image, `width · height · 3` bytes, rows from the top; `None` if this is no image
    /// featuriser, or the number of bytes does not fit.
    fn image(&self, _rgb: &[u8], _width: usize, _height: usize) -> Option<Vec<f32>> {
        None
    }

    /// The features of a text; `None` if this is no text featuriser.
    fn text(&self, _text: &str) -> Option<Vec<f32>> {
        None
    }
}
