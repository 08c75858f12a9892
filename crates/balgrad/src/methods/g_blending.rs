//! G-Blending, gradient blending (Wang, Tran & Feiszli, "What Makes Training Multi-modal Classification Networks
//! Hard?", CVPR 2020), online.
//!
//! The loss is `Σ_k w_k CE_k` over the fused head and the own heads. Every super-epoch the weights follow the
//! overfitting-to-generalisation ratio: `w_k ∝ max(G_k, 0) / max(O_k, 1e-3)²`, where `G_k` is the gain in validation
//! loss since the last super-epoch and `O_k` the growth of the gap between validation and training loss. Uniform at
//! first, and where no head has gained.
//!
//! Deviations. The paper trains every head apart to measure `G` and `O`; here they are those of the heads as they train
//! together. Public code takes `|G_k|`, which rewards a head that got worse, and sums losses over different numbers of
//! batches; here losses are means. A super-epoch is 2 epochs (paper: 10, in longer runs): of 15 epochs measured every 5
//! no head has gained since the last time, and the weights stay uniform. A training loss is the mean
//! over the steps of the last epoch; the first measurement is taken after the first epoch.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Request, State, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "g-blending",
    about: "loss weights from each head's gain against its overfitting",
    paper: "Wang et al., CVPR 2020",
    when: "where modalities overfit at different rates and the validation split is large enough to measure a loss on",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[Setting {
        name: "super_epoch",
        default: "2",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        about: "epochs between measurements",
    }],
    build: |_, s| Box::new(GBlending { every: s.count("super_epoch"), ..GBlending::default() }),
};

/// The least overfitting that a gain is divided by.
const LEAST: f64 = 1e-3;

#[derive(Default)]
struct GBlending {
    every: usize,
    /// `w_k`; empty until the first measurement.
    weights: Vec<f64>,
    /// Training and validation losses at the last measurement.
    before: Option<[Vec<f64>; 2]>,
    /// Sums of this epoch's losses, and steps.
    sums: Vec<f64>,
    steps: f64,
}

/// `w_k`, from training and validation losses before and now.
fn weights(before: &[Vec<f64>; 2], now: &[Vec<f64>; 2]) -> Vec<f64> {
    let k = now[0].len();
    let ratio = |i: usize| {
        let gain = before[1][i] - now[1][i];
        let overfitting = (now[1][i] - now[0][i]) - (before[1][i] - before[0][i]);
        gain.max(0.0) / overfitting.max(LEAST).powi(2)
    };
    let ratios: Vec<f64> = (0..k).map(ratio).collect();
    let sum: f64 = ratios.iter().sum();
    if sum > 0.0 && sum.is_finite() { ratios.iter().map(|r| r / sum).collect() } else { vec![1.0 / k as f64; k] }
}

impl Method for GBlending {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let mut all = vec![Objective::new("task", target.nll(&outputs.fused)?)];
        for (m, own) in outputs.own.iter().enumerate() {
            all.push(Objective::new(format!("own.{m}"), target.nll(own)?).own());
        }
        Ok(all.into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let k = evidence.objectives();
        self.sums.resize(k, 0.0);
        self.sums.iter_mut().zip(evidence.losses).for_each(|(sum, loss)| *sum += loss);
        self.steps += 1.0;
        let uniform = vec![1.0 / k as f64; k];
        let weights = if self.weights.len() == k { &self.weights } else { &uniform };
        Ok(Mix::uniform(evidence.blocks, weights))
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        let train: Vec<f64> = self.sums.iter().map(|sum| sum / self.steps).collect();
        (self.sums, self.steps) = (Vec::new(), 0.0);
        let val: Option<Vec<f64>> =
            std::iter::once(summary.fused_val_loss).chain(summary.val_loss.iter().copied()).collect();
        let Some(val) = val.filter(|val| val.len() == train.len() && val.iter().chain(&train).all(|l| l.is_finite()))
        else {
            return Ok(Vec::new());
        };
        let now = [train, val];
        match &self.before {
            Some(before) if summary.epoch.is_multiple_of(self.every) => self.weights = weights(before, &now),
            Some(_) => return Ok(Vec::new()),
            None => {}
        }
        self.before = Some(now);
        Ok(Vec::new())
    }

    fn state(&self) -> State {
        let mut state = State::from([
            ("g-blending.weights".to_owned(), self.weights.clone()),
            ("g-blending.sums".to_owned(), self.sums.clone()),
            ("g-blending.steps".to_owned(), vec![self.steps]),
        ]);
        if let Some([train, val]) = &self.before {
            state.insert("g-blending.train".to_owned(), train.clone());
            state.insert("g-blending.val".to_owned(), val.clone());
        }
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let part = |name: &str| state.get(&format!("g-blending.{name}")).cloned();
        self.weights = part("weights").unwrap_or_default();
        self.sums = part("sums").unwrap_or_default();
        self.steps = part("steps").and_then(|s| s.first().copied()).unwrap_or_default();
        self.before = part("train").zip(part("val")).map(|(train, val)| [train, val]);
        Ok(())
    }
}
