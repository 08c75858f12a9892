//! PMR, prototypical modal rebalance (Fan et al., "PMR: Prototypical Modal Rebalance for Multimodal Learning", CVPR
//! 2023).
//!
//! A class's prototype is the mean embedding of its samples, per modality, kept as an exponential mean over epochs.
//! With `p_m = softmax(−‖f_m − prototype‖)`, `s_m` the batch's sum of the probability that `p_m` gives to the truth and
//! `β_m = α · clip(s_other / s_m − 1, 0, 1)`, the loss is `CE(z) + Σ_m β_m CE(p_m)`: only the slower modality has `β >
//! 0`. In the first epochs the faster one is held back by its entropy, `− ε β_slower H(p_faster)`.
//!
//! Deviations. Prototypes are means over the whole epoch as it is trained, with no pass of their own (paper: a tenth of
//! the training split); the first epoch has none and trains the task alone. The clip and the entropy are the paper's;
//! public code lacks both. Multi-label: the distance to the prototype of a label's samples, less the mean of all
//! distances, is that label's logit. Three and more modalities: `s_other` is the mean of the others. Needs
//! `Outputs::embeddings`, and `Balancer::epoch_ended` after each epoch.

use candle_core::{DType, Result, Tensor};

use super::{Entry, Method, Objective, Prediction, Request, State};
use crate::losses::entropy;
use crate::{
    EpochSummary, Evidence, Kind, Labels, Mix, Moment, Outputs, Setting, cross_entropy, true_class_probability,
};

const EPOCHS: Kind = Kind::Count { min: 0, max: 1_000_000 };
const PART: Kind = Kind::Number { min: 0.0, max: 1.0 };

pub(super) static ENTRY: Entry = Entry {
    name: "pmr",
    about: "draws the slower modality's embeddings to their class prototypes",
    paper: "Fan et al., CVPR 2023",
    when: "where classes form clusters in each modality, and one modality is slow to start",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    settings: &[
        Setting {
            name: "alpha",
            default: "1",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "weight α of the prototype loss",
        },
        Setting {
            name: "momentum",
            default: "0.5",
            kind: PART,
            about: "part of the old prototype that an epoch keeps",
        },
        Setting { name: "epochs", default: "10", kind: EPOCHS, about: "epochs, from the first, with a prototype loss" },
        Setting {
            name: "entropy",
            default: "0.1",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "weight ε of the faster modality's entropy",
        },
        Setting {
            name: "entropy_epochs",
            default: "3",
            kind: EPOCHS,
            about: "epochs, from the first, with that entropy",
        },
    ],
    build: |s| {
        Box::new(Pmr {
            alpha: s.number("alpha"),
            momentum: s.number("momentum"),
            epochs: s.count("epochs"),
            entropy: s.number("entropy"),
            entropy_epochs: s.count("entropy_epochs"),
            epoch: 0,
            prototypes: Vec::new(),
            sums: Vec::new(),
            counts: Vec::new(),
        })
    },
};

struct Pmr {
    alpha: f64,
    momentum: f64,
    epochs: usize,
    entropy: f64,
    entropy_epochs: usize,
    epoch: usize,
    /// `[modality][class · width]`.
    prototypes: Vec<Vec<f64>>,
    /// Sums of this epoch's embeddings, in the same order, and how many each class has.
    sums: Vec<Vec<f64>>,
    counts: Vec<f64>,
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Logits `[batch, classes]` that fall with the distance of embeddings `[batch, width]` to prototypes
/// `[classes, width]`.
fn nearness(embedding: &Tensor, prototypes: &Tensor, labels: &Labels) -> Result<Tensor> {
    // Differences first: a class of one sample has its prototype there, and a square from products would be all rounding.
    let apart = embedding.unsqueeze(1)?.broadcast_sub(&prototypes.unsqueeze(0)?)?;
    let distance = (apart.sqr()?.sum(2)? + 1e-8)?.sqrt()?;
    match labels {
        Labels::Classes { .. } => distance.neg(),
        Labels::Many { .. } => distance.mean_keepdim(1)?.broadcast_sub(&distance),
    }
}

impl Pmr {
    fn gather(&mut self, outputs: &Outputs, labels: &Labels) -> Result<()> {
        let targets = labels.targets(&outputs.fused)?;
        let counts = numbers(&targets.sum(0)?)?;
        self.counts.resize(counts.len(), 0.0);
        self.counts.iter_mut().zip(counts).for_each(|(sum, c)| *sum += c);
        self.sums.resize(outputs.embeddings.len(), Vec::new());
        for (sums, embedding) in self.sums.iter_mut().zip(&outputs.embeddings) {
            let batch = numbers(&targets.t()?.matmul(&embedding.detach())?)?;
            sums.resize(batch.len(), 0.0);
            sums.iter_mut().zip(batch).for_each(|(sum, v)| *sum += v);
        }
        Ok(())
    }

    /// The prototype loss, where there is one in this epoch.
    fn rebalance(&self, outputs: &Outputs, labels: &Labels) -> Result<Option<Tensor>> {
        if self.epoch >= self.epochs || self.prototypes.len() != outputs.embeddings.len() || self.prototypes.len() < 2 {
            return Ok(None);
        }
        let classes = outputs.fused.dim(1)?;
        let near = outputs.embeddings.iter().zip(&self.prototypes).map(|(embedding, flat)| {
            let shape = (classes, embedding.dim(1)?);
            let prototypes = Tensor::from_slice(flat, shape, embedding.device())?.to_dtype(embedding.dtype())?;
            nearness(embedding, &prototypes, labels)
        });
        let near = near.collect::<Result<Vec<_>>>()?;
        let score = |z| true_class_probability(z, labels)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
        let scores = near.iter().map(score).collect::<Result<Vec<_>>>()?;
        let total: f64 = scores.iter().sum();
        let beta = |m: usize| {
            let others = (total - scores[m]) / (scores.len() as f64 - 1.0);
            let lead = (others / scores[m] - 1.0).clamp(0.0, 1.0);
            if lead.is_nan() { 0.0 } else { self.alpha * lead }
        };
        let betas: Vec<f64> = (0..near.len()).map(beta).collect();
        let most = betas.iter().copied().fold(0.0, f64::max);
        let mut loss = outputs.fused.zeros_like()?.sum_all()?.detach();
        for (z, beta) in near.iter().zip(&betas) {
            if *beta > 0.0 {
                loss = (loss + (cross_entropy(z, labels)? * *beta)?)?;
            } else if most > 0.0 && self.epoch < self.entropy_epochs && self.entropy > 0.0 {
                loss = (loss - (entropy(z, labels)?.mean_all()? * (self.entropy * most))?)?;
            }
        }
        Ok((most > 0.0).then_some(loss))
    }
}

impl Method for Pmr {
    fn begin(&mut self, moment: &Moment) {
        self.epoch = moment.epoch;
    }

    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        let mut objectives = vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)];
        if let Some(loss) = self.rebalance(outputs, labels)? {
            objectives.push(Objective::new("prototypes", loss));
        }
        self.gather(outputs, labels)?;
        Ok(objectives)
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &vec![1.0; evidence.objectives()]))
    }

    fn epoch_ended(&mut self, _: &EpochSummary) -> Result<Vec<Request>> {
        self.prototypes.resize(self.sums.len(), Vec::new());
        for (old, sums) in self.prototypes.iter_mut().zip(std::mem::take(&mut self.sums)) {
            let width = sums.len() / self.counts.len().max(1);
            let first = old.len() != sums.len();
            old.resize(sums.len(), 0.0);
            for (i, (old, sum)) in old.iter_mut().zip(sums).enumerate() {
                let count = self.counts[i / width.max(1)];
                // A class that this epoch did not show keeps its place.
                if count > 0.0 && sum.is_finite() {
                    let keep = if first { 0.0 } else { self.momentum };
                    *old = keep * *old + (1.0 - keep) * sum / count;
                }
            }
        }
        self.counts.clear();
        Ok(Vec::new())
    }

    fn state(&self) -> State {
        let mut state = State::from([("pmr.counts".to_owned(), self.counts.clone())]);
        for (name, rows) in [("prototypes", &self.prototypes), ("sums", &self.sums)] {
            state.extend(rows.iter().enumerate().map(|(m, row)| (format!("pmr.{name}.{m}"), row.clone())));
        }
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let rows = |name: &str| (0..).map_while(|m| state.get(&format!("pmr.{name}.{m}")).cloned()).collect();
        (self.prototypes, self.sums) = (rows("prototypes"), rows("sums"));
        self.counts = state.get("pmr.counts").cloned().unwrap_or_default();
        Ok(())
    }
}
