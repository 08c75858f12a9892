//! What is known at the end of an epoch.

/// What is known at the end of an epoch; a method never sees the test split.
#[derive(Debug, Clone, Default)]
pub struct EpochSummary {
    /// Epochs finished, this one included.
    pub epoch: usize,
    /// Mean training loss of each modality's view. The balancer fills it where the method's objectives name the own losses
    /// ([`Objective::own`](crate::Objective::own)): a mean over the epoch's steps, without those whose loss was not finite.
    pub train_loss: Vec<Option<f64>>,
    /// Validation loss of each modality's view (own head where the method trains it, else the fused head's view).
    pub val_loss: Vec<Option<f64>>,
    /// Validation headline metric of each modality's view, in [0, 1].
    pub val_score: Vec<Option<f64>>,
    /// Validation loss of the fused head.
    pub fused_val_loss: Option<f64>,
    /// Mean training loss of the fused head.
    pub fused_train_loss: Option<f64>,
    /// How the model sees every sample, where the method asked for it ([`Method::probes`](crate::Method::probes)).
    pub probe: Option<Probe>,
}

/// How a model in training sees every sample of the splits that it may look at.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// The training split, in its own order.
    pub train: SplitProbe,
    /// The validation split.
    pub val: SplitProbe,
}

/// How a model sees the samples of one split.
#[derive(Debug, Clone, Default)]
pub struct SplitProbe {
    /// Class indices of each sample.
    pub labels: Vec<Vec<u32>>,
    /// Embeddings `[modality][sample][width]`.
    pub embeddings: Vec<Vec<Vec<f32>>>,
    /// Whether the prediction is right, in [0, 1] (multi-label: the fraction of labels that are), for every set of modalities
    /// that the model is shown: `[set][sample]`, bit `m` of `set` standing for modality `m`.
    pub correct: Vec<Vec<f64>>,
}
