//! The sections of a configuration, as typed fields. What each means and may be stands in the table of
//! [keys](super::KEYS).

use std::collections::BTreeMap;

use balgrad_data::{OnBadSample, OnMissingFile};
use balgrad_nn::Decay;

use super::words::{ClassWeights, Device, Freeze, OnNan, Optimizer, Plot, Projector};

/// Which data, and how it is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    /// A bundled task, a folder, a file, or `hf:owner/name`; empty if none was named.
    pub source: String,
    /// How the folder is laid out; `None`: whichever layout recognises it.
    pub layout: Option<String>,
    /// Seed of splits that the data set does not bring.
    pub split_seed: u64,
    /// Which plot of a film is read.
    pub plot: Plot,
    /// What to do with a sample that cannot be read.
    pub on_bad_sample: OnBadSample,
    /// What to do with a sample that names a file which does not exist.
    pub on_missing_file: OnMissingFile,
    /// The column of a table that holds paths of images; empty: found by names and content, as are the others.
    pub column_image: String,
    /// The columns that hold texts, separated by commas.
    pub column_text: String,
    /// The column that holds classes.
    pub column_label: String,
    /// The column that holds splits.
    pub column_split: String,
    /// The column that holds groups.
    pub column_group: String,
    /// The column that holds a number to predict.
    pub column_target: String,
    /// Threads that read ahead; 0: as many as compute.
    pub workers: usize,
}

/// Which encoders read the modalities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoders {
    /// Encoder of each modality, by the modality's name; where none is named, the modality's usual one.
    pub names: BTreeMap<String, String>,
    /// Weights of pretrained encoders, by the modality's name: a folder or a repository; empty: the usual model.
    pub weights: BTreeMap<String, String>,
    /// Which blocks of pretrained encoders keep their weights.
    pub freeze: Freeze,
    /// Pixels per side; 0: the encoder's own size.
    pub image_size: usize,
    /// Tokens that a pretrained text encoder reads; 0: as many as it can.
    pub max_tokens: usize,
    /// Entries of a vocabulary learnt from the training texts.
    pub vocab_size: usize,
    /// Cached variants of each training sample for frozen encoders; 0: the sample as it is.
    pub feature_variants: usize,
}

/// What stands on the encoders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// How embeddings are fused.
    pub fusion: String,
    /// Width of each embedding.
    pub width: usize,
    /// The layers between an encoder and the fusion.
    pub projector: Projector,
    /// How answers are learnt from: a name of the table of targets; `auto`: by the data.
    pub target: String,
}

/// What the training loop does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Training {
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Shards that a batch is cut into, each with a replica of the model; 0: as many as there are ranks.
    pub shards: usize,
    /// Whether trainable encoders see small seeded changes.
    pub augment: bool,
    /// Probability that a training sample loses a modality.
    pub modality_dropout: f64,
    /// Whether the losses weight classes by inverse frequency.
    pub class_weights: ClassWeights,
    /// Epochs without a better validation score after which training stops; 0: never.
    pub patience: usize,
    /// Seconds after which training stops; 0: never.
    pub time_budget: f64,
    /// What to do with a step whose loss is not finite.
    pub on_nan: OnNan,
}

/// The optimiser and its learning rate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Optimization {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of all steps over which the learning rate rises.
    pub warmup_ratio: f64,
    /// How the learning rate falls afterwards.
    pub schedule: Decay,
    /// Factor on the learning rate of a trained encoder, per block from its end.
    pub layer_decay: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Largest norm of the whole gradient; 0: no limit.
    pub clip_grad_norm: f64,
}

/// The conditions of the test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// Kind of corruption under the condition `noisy-M`, by the modality's name.
    pub noise: BTreeMap<String, String>,
    /// Severity of the corruption, from 1 to 5.
    pub severity: u8,
}

/// What a run writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// What tables call the run; empty: the method's name.
    pub label: String,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: usize,
    /// Seconds between two checkpoints.
    pub checkpoint_seconds: f64,
}

/// Every setting of a run but its method's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sections {
    /// Seed of initialisation, order, dropout and impairments.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
    /// Which data, and how it is read.
    pub data: Data,
    /// Which encoders read the modalities.
    pub encoders: Encoders,
    /// What stands on the encoders.
    pub model: Model,
    /// What the training loop does.
    pub training: Training,
    /// The optimiser and its learning rate.
    pub optimization: Optimization,
    /// The conditions of the test.
    pub evaluation: Evaluation,
    /// What a run writes.
    pub output: Output,
}
