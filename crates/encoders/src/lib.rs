#![doc = include_str!("../README.md")]

mod augment;
mod encoder;
mod encoders;
mod error;
mod features;
mod fusion;
mod guard;
mod head;
mod layers;
mod ops;
mod preprocessor;
mod pretrained;
mod reader;
mod tokenizer;
mod tower;
mod weights;

pub use balgrad_nn::{Embedding, Init, InitialValues, LayerNorm, Linear, Parameters, ProcessTuning, tune_process};

pub use augment::{Augment, Draw};
pub use encoder::{Encoder, Input, Precomputed};
pub use encoders::{Depth, ENCODERS, EncoderEntry, EncoderKind, Fit, FitOptions, encoder};
pub use error::{Error, Result};
pub use features::{
    CacheKey, CachedFeatures, Descriptor, FeatureCache, FeatureWriter, Featurizer, Handcrafted, NGrams, Standardizer,
};
pub use fusion::{BuildFusion, FUSIONS, Fusion, FusionEntry, FusionShape, fusion};
pub use head::{CutLayer, EmbeddingHead, HeadForm};
pub use pretrained::{HubSettings, ModelFiles, hub_dataset};
pub use reader::{Item, Pixels, Reader, Tokens, View};
pub use tokenizer::{Splits, Tokenizer};
pub use tower::{BlockRole, ModelConfig, TowerConfig, TwoTower, Views};
pub use weights::Weights;
