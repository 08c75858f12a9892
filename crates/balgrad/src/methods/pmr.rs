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

use candle_core::{DType, Error, Result, Tensor};

use super::{Entry, Method, Objective, Objectives, Prediction, Request, State, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, Target};

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
    targets: Targets::Classes,
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
    build: |_, s| {
        Box::new(Pmr {
            alpha: s.number("alpha"),
            momentum: s.number("momentum"),
            epochs: s.count("epochs"),
            entropy: s.number("entropy"),
            entropy_epochs: s.count("entropy_epochs"),
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
    /// `[modality][class · width]`.
    prototypes: Vec<Vec<f64>>,
    /// Sums of this epoch's embeddings, in the same order, and how many each class has.
    sums: Vec<Vec<f64>>,
    counts: Vec<f64>,
}

/// The signal that holds how many samples of each class the batch has.
const COUNTS: &str = "counts";

/// The signal that holds the sum of a modality's embeddings for each class, `[class · width]`.
fn sums_of(m: usize) -> String {
    format!("sums.{m}")
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Logits `[batch, classes]` that fall with the distance of embeddings `[batch, width]` to prototypes
/// `[classes, width]`.
fn nearness(embedding: &Tensor, prototypes: &Tensor, target: &Target) -> Result<Tensor> {
    // Differences first: a class of one sample has its prototype there, and a square from products would be all rounding.
    let apart = embedding.unsqueeze(1)?.broadcast_sub(&prototypes.unsqueeze(0)?)?;
    let distance = (apart.sqr()?.sum(2)? + 1e-8)?.sqrt()?;
    target.prototype_logits(&distance)
}

impl Pmr {
    /// Adds a batch's sums of embeddings to this epoch's, and its counts.
    fn gather(&mut self, evidence: &Evidence<'_>) -> Result<()> {
        let add = |sums: &mut Vec<f64>, batch: &[f64]| {
            if !sums.is_empty() && sums.len() != batch.len() {
                let (found, wanted) = (batch.len(), sums.len());
                return Err(Error::Msg(format!("PMR's classes and widths must stay: {found} sums after {wanted}")));
            }
            sums.resize(batch.len(), 0.0);
            sums.iter_mut().zip(batch).for_each(|(sum, v)| *sum += v);
            Ok(())
        };
        add(&mut self.counts, evidence.signal(COUNTS)?)?;
        self.sums.resize(evidence.modalities, Vec::new());
        for (m, sums) in self.sums.iter_mut().enumerate() {
            add(sums, evidence.signal(&sums_of(m))?)?;
        }
        Ok(())
    }

    /// The prototype loss, where there is one in this epoch.
    fn rebalance(&self, outputs: &Outputs, target: &Target, epoch: usize) -> Result<Option<Tensor>> {
        if epoch >= self.epochs || self.prototypes.len() != outputs.embeddings.len() || self.prototypes.len() < 2 {
            return Ok(None);
        }
        let classes = outputs.fused.dim(1)?;
        let near = outputs.embeddings.iter().zip(&self.prototypes).map(|(embedding, flat)| {
            let shape = (classes, embedding.dim(1)?);
            let prototypes = Tensor::from_slice(flat, shape, embedding.device())?.to_dtype(embedding.dtype())?;
            nearness(embedding, &prototypes, target)
        });
        let near = near.collect::<Result<Vec<_>>>()?;
        let score = |z| target.true_class_probability(z)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
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
                loss = (loss + (target.nll(z)? * *beta)?)?;
            } else if most > 0.0 && epoch < self.entropy_epochs && self.entropy > 0.0 {
                loss = (loss - (target.entropy(z)?.mean_all()? * (self.entropy * most))?)?;
            }
        }
        Ok((most > 0.0).then_some(loss))
    }
}

impl Method for Pmr {
    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        if outputs.embeddings.len() != outputs.modalities() {
            let (found, wanted) = (outputs.embeddings.len(), outputs.modalities());
            let what = format!("PMR wants `Outputs::embeddings` of all {wanted} modalities, found {found}");
            return Err(Error::Msg(what));
        }
        let mut losses = vec![Objective::new("task", target.nll(&outputs.fused)?)];
        if let Some(loss) = self.rebalance(outputs, target, clock.epoch)? {
            losses.push(Objective::new("prototypes", loss));
        }
        let targets = target.one_hot(&outputs.fused)?;
        let mut objectives = Objectives::from(losses).signal(COUNTS, numbers(&targets.sum(0)?)?);
        for (m, embedding) in outputs.embeddings.iter().enumerate() {
            let sums = numbers(&targets.t()?.matmul(&embedding.detach())?)?;
            objectives.signals.insert(sums_of(m), sums);
        }
        Ok(objectives)
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        self.gather(evidence)?;
        Ok(Mix::uniform(evidence.blocks, &vec![1.0; evidence.objectives()]))
    }

    fn epoch_ended(&mut self, _: &EpochSummary) -> Result<Vec<Request>> {
        self.prototypes.resize(self.sums.len(), Vec::new());
        for (old, sums) in self.prototypes.iter_mut().zip(std::mem::take(&mut self.sums)) {
            let width = sums.len() / self.counts.len().max(1);
            let first = old.len() != sums.len();
            old.resize(sums.len(), 0.0);
            for (i, (old, sum)) in old.iter_mut().zip(sums).enumerate() {
                let count = self.counts.get(i / width.max(1)).copied().unwrap_or_default();
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
