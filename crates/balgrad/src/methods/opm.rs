//! OPM, on-the-fly prediction modulation (Wei et al., "On-the-fly Modulation for Balanced Multimodal Learning",
//! TPAMI 2024).
//!
//! Modality dropout that follows the discrepancy: with `ρ_m = s_m / s_other` as in OGM, the embedding of the modality
//! that is ahead is silenced per sample with probability `q_m = q (1 + α tanh(ρ_m − 1))` before the fused head reads
//! it; `q_m = 0` where `ρ_m ≤ 1`. A batch is treated with probability `p`; what is kept is divided by `1 − mean_m q_m`.
//!
//! Deviations. A sample that would lose all its modalities, which takes three or more, keeps them (paper: it is
//! skipped). Three and more modalities: `s_other` is the mean of the others. Embeddings have one width, so that the
//! mean of `q` needs no weights. `s_m` is read off the fused head as for OGM.

use candle_core::{DType, Result, Tensor};
use rand::Rng;

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Target};

const CHANCE: Kind = Kind::Number { min: 0.0, max: 1.0 };

pub(super) static ENTRY: Entry = Entry {
    name: "opm",
    about: "silences the leading modality's embedding for some samples, the more the further it leads",
    paper: "Wei et al., TPAMI 2024",
    when: "in place of modality dropout, where one modality leads and that one alone should be dropped",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting {
            name: "alpha",
            default: "0.5",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "how much the lead adds to the chance, α",
        },
        Setting { name: "q", default: "0.4", kind: CHANCE, about: "chance q that the leading embedding is silenced" },
        Setting { name: "p", default: "0.7", kind: CHANCE, about: "chance p that a batch is treated" },
        Setting {
            name: "epochs",
            default: "50",
            kind: Kind::Count { min: 0, max: 1_000_000 },
            about: "epochs, from the first, in which embeddings are silenced",
        },
    ],
    build: |_, s| {
        Box::new(Opm { alpha: s.number("alpha"), q: s.number("q"), p: s.number("p"), epochs: s.count("epochs") })
    },
};

struct Opm {
    alpha: f64,
    q: f64,
    p: f64,
    epochs: usize,
}

impl Opm {
    /// `q_m`, from `s_m`.
    fn chances(&self, scores: &[f64]) -> Vec<f64> {
        let total: f64 = scores.iter().sum();
        let one = |s: &f64| {
            let ratio = s * (scores.len() as f64 - 1.0) / (total - s);
            if ratio > 1.0 { (self.q * (1.0 + self.alpha * (ratio - 1.0).tanh())).clamp(0.0, 1.0) } else { 0.0 }
        };
        scores.iter().map(one).collect()
    }

    /// What each embedding is multiplied by, `[modality][sample]`; nothing where the batch is left as it is.
    fn factors(&self, chances: &[f64], batch: usize, clock: &Clock) -> Option<Vec<Vec<f64>>> {
        let mut rng = clock.rng(b"opm");
        let kept = 1.0 - chances.iter().sum::<f64>() / chances.len().max(1) as f64;
        if !rng.random_bool(self.p) || kept >= 1.0 || kept <= 0.0 {
            return None;
        }
        let mut factors = vec![vec![1.0 / kept; batch]; chances.len()];
        for i in 0..batch {
            let lost: Vec<bool> = chances.iter().map(|q| rng.random_bool(*q)).collect();
            if !lost.iter().all(|l| *l) {
                factors.iter_mut().zip(lost).filter(|(_, lost)| *lost).for_each(|(f, _)| f[i] = 0.0);
            }
        }
        Some(factors)
    }
}

impl Method for Opm {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, fused_head: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        let score = |m| {
            let truth = target.true_class_probability(&outputs.seen_by_fused(m)?)?;
            truth.sum_all()?.to_dtype(DType::F64)?.to_scalar()
        };
        let scores = (0..outputs.modalities()).map(score).collect::<Result<Vec<f64>>>()?;
        let modulated = clock.epoch < self.epochs && scores.len() > 1;
        let factors = if modulated { self.factors(&self.chances(&scores), outputs.fused.dim(0)?, clock) } else { None };
        let Some(factors) = factors else {
            return Ok(Objective::new("task", target.nll(&outputs.fused)?).into());
        };
        let silenced = outputs.embeddings.iter().zip(factors).map(|(e, f)| {
            let f = Tensor::new(f, e.device())?.to_dtype(e.dtype())?.unsqueeze(1)?;
            e.broadcast_mul(&f)
        });
        let fused = outputs.asked()?.logits(&silenced.collect::<Result<Vec<_>>>()?)?;
        Ok(Objective::new("task", target.nll(&fused)?).into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
