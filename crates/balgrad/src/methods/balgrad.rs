//! BalGrad (Kwon et al., "See-Saw Modality Balance: See Gradient, and Sew Impaired Vision-Language Balance to
//! Mitigate Dominant Modality Bias", NAACL 2025).
//!
//! Three objectives: the task `T`, the modalities' own losses `uni = Σ L_m`, and mutual learning
//! `kl = Σ KL(sg[p_other] ‖ p_m)`. On tower `h_m` their coefficients are `(1, λ_uni, λ_kl·w_m + p_m)`, on the own head
//! `f_m` `(0, λ_uni, λ_kl·w_m)`, on the fused head `(1, 0, 0)`:
//!
//! * *Inter-modality reweighting*: `w_m = M·‖g_m‖ / Σ_n ‖g_n‖`. The less learned modality has the larger own gradient
//!   and is pulled more.
//! * *Inter-task projection*: where `⟨g_T, g_kl⟩ < 0` the task gradient is projected off the KL gradient, which adds
//!   `p_m = −⟨g_T, g_kl⟩_m / ‖g_kl‖²_m` to the KL gradient's coefficient.
//!
//! Both losses live in disjoint blocks per modality, so three backward passes give all gradients.
//!
//! With `refresh = n` coefficients are kept for `n` steps, and the steps between take the gradient of the one scalar
//! `L_T + Σ_m (λ_uni L_m + C_m L_kl^m)`: on towers and fused head the same, on own heads with `p_m` too.
//!
//! Declared choices (no official code was found; each is a setting): direction of the KL (mutual, stop-gradient),
//! share by gradient norm, projection per tower, `λ_uni = λ_kl = 1`, temperature 1. Multi-label: mean over labels of
//! the Bernoulli divergence. Three and more modalities: the mean of the divergences from the others.

use candle_core::{Result, Tensor};

use super::{Entry, GramScope, Method, Needs, Objective, Objectives, Prediction, Request, State, Targets};
use crate::objective::number;
use crate::{
    Clock, Conflict, EpochSummary, Evidence, Granularity, Kind, Mix, Outputs, Role, Setting, Settings, Target,
};

const WEIGHT: Kind = Kind::Number { min: 0.0, max: 1e6 };

pub(super) static ENTRY: Entry = Entry {
    name: "balgrad",
    about: "reweights the KL gradients between modalities and projects conflicting task gradients off them",
    paper: "Kwon et al., NAACL 2025",
    when: "where a modality may be missing or noisy and own heads are welcome; with modality dropout it is better still",
    cost: "1F 3B; scope = representation 1F 3B of the heads and 1B of the towers; refresh = n 1F 1B between",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting { name: "reweight", default: "true", kind: Kind::Flag, about: "inter-modality gradient reweighting" },
        Setting { name: "project", default: "true", kind: Kind::Flag, about: "inter-task gradient projection" },
        Setting {
            name: "share",
            default: "norm",
            kind: Kind::Choice(&["norm", "loss", "confidence", "validation", "uniform"]),
            about: "what a modality's contribution is measured by: own gradient norm, own loss, inverse confidence, own validation loss",
        },
        Setting {
            name: "scope",
            default: "block",
            kind: Kind::Choice(&["block", "global", "layer", "representation"]),
            about: "over what the projection's inner products run: each tower, all towers, each layer, the embeddings",
        },
        Setting {
            name: "kl",
            default: "mutual",
            kind: Kind::Choice(&["mutual", "symmetric"]),
            about: "mutual learning with stop-gradient targets, or a symmetric divergence without",
        },
        Setting { name: "uni_weight", default: "1", kind: WEIGHT, about: "weight of the own losses, λ_uni" },
        Setting { name: "kl_weight", default: "1", kind: WEIGHT, about: "weight of the KL losses, λ_kl" },
        Setting {
            name: "temperature",
            default: "1",
            kind: Kind::Number { min: 1e-3, max: 1e3 },
            about: "temperature of the KL; the loss is multiplied by its square",
        },
        Setting {
            name: "refresh",
            default: "1",
            kind: Kind::Count { min: 1, max: 1_000_000 },
            about: "steps for which coefficients are kept; the steps between cost one backward pass (not with kl = symmetric or scope = layer)",
        },
    ],
    build: |_, s| Box::new(BalGrad::new(s)),
};

/// Positions in the list of objectives.
const TASK: usize = 0;
const UNI: usize = 1;
const KL: usize = 2;

/// The signal that shares are measured by, one number for each modality: own losses, or inverse confidences.
const MEASURE: &str = "measure";

/// Below this squared norm a KL gradient counts as zero and nothing is projected.
const NO_GRADIENT: f64 = 1e-30;

#[derive(Clone, Copy, PartialEq)]
enum Share {
    Norm,
    Loss,
    Confidence,
    Validation,
    Uniform,
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Block,
    Global,
    Layer,
    Representation,
}

struct BalGrad {
    project: bool,
    share: Share,
    scope: Scope,
    symmetric: bool,
    uni_weight: f64,
    kl_weight: f64,
    temperature: f64,
    refresh: usize,
    /// Each modality's validation loss in the last epoch, where shares are measured by it.
    measure: Vec<f64>,
}

impl BalGrad {
    fn new(s: &Settings) -> Self {
        Self {
            project: s.flag("project"),
            share: match s.word("share") {
                _ if !s.flag("reweight") => Share::Uniform,
                "loss" => Share::Loss,
                "confidence" => Share::Confidence,
                "validation" => Share::Validation,
                "uniform" => Share::Uniform,
                _ => Share::Norm,
            },
            scope: match s.word("scope") {
                "global" => Scope::Global,
                "layer" => Scope::Layer,
                "representation" => Scope::Representation,
                _ => Scope::Block,
            },
            symmetric: s.word("kl") == "symmetric",
            uni_weight: s.number("uni_weight"),
            kl_weight: s.number("kl_weight"),
            temperature: s.number("temperature"),
            refresh: s.count("refresh"),
            measure: Vec::new(),
        }
    }

    /// `w_m`, mean 1; all 1 where there is nothing to share by.
    fn shares(&self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let modalities = evidence.modalities;
        let measure: Vec<f64> = match self.share {
            Share::Uniform => Vec::new(),
            Share::Norm => {
                let norm = |m| Ok(evidence.tower_inner(m, UNI, UNI)?.max(0.0).sqrt());
                (0..modalities).map(norm).collect::<Result<_>>()?
            }
            Share::Loss | Share::Confidence => evidence.signal(MEASURE)?.to_vec(),
            Share::Validation => self.measure.clone(),
        };
        let total: f64 = measure.iter().sum();
        if measure.len() != modalities || total <= 0.0 || !total.is_finite() {
            return Ok(vec![1.0; modalities]);
        }
        Ok(measure.iter().map(|v| modalities as f64 * v / total).collect())
    }

    /// What projection adds to the KL gradient's coefficient, per block.
    fn projections(&self, evidence: &Evidence<'_>, shares: &[f64]) -> Result<Vec<f64>> {
        if !self.project || self.kl_weight == 0.0 {
            return Ok(vec![0.0; evidence.blocks.len()]);
        }
        let weight = |b: usize| match evidence.blocks[b].role {
            Role::Tower(m) => self.kl_weight * shares[m],
            Role::Head(_) | Role::Fused => 0.0,
        };
        let blocks = 0..evidence.blocks.len();
        // Blocks that the KL gradient does not reach have no Gram matrix to be read.
        let inner = |b: usize, j: usize| if weight(b) == 0.0 { Ok(0.0) } else { evidence.inner(b, j, KL) };
        if self.scope == Scope::Global {
            let (mut task_kl, mut kl_kl) = (0.0, 0.0);
            for b in blocks.clone() {
                task_kl += weight(b) * inner(b, TASK)?;
                kl_kl += weight(b).powi(2) * inner(b, KL)?;
            }
            let p = off(task_kl, kl_kl);
            return Ok(blocks.map(|b| weight(b) * p).collect());
        }
        blocks.map(|b| Ok(if weight(b) > 0.0 { off(inner(b, TASK)?, inner(b, KL)?) } else { 0.0 })).collect()
    }
}

/// `max(0, −⟨g_T, g_kl⟩) / ‖g_kl‖²`, and 0 where the KL gradient is zero.
fn off(task_kl: f64, kl_kl: f64) -> f64 {
    let p = if kl_kl > NO_GRADIENT { (-task_kl).max(0.0) / kl_kl } else { 0.0 };
    if p.is_finite() { p } else { 0.0 }
}

/// Cosines between task and KL gradient in modality `m`'s tower, before and after `g_T += p_b · g_kl` in each block.
fn conflict(evidence: &Evidence<'_>, projections: &[f64], m: usize) -> Result<Conflict> {
    let (mut task_kl, mut task_task, mut kl_kl) = ([0.0; 2], [0.0; 2], 0.0);
    for (b, _) in evidence.blocks.iter().enumerate().filter(|(_, block)| block.role == Role::Tower(m)) {
        let inner = |i, j| evidence.inner(b, i, j);
        let (tt, tk, kk) = (inner(TASK, TASK)?, inner(TASK, KL)?, inner(KL, KL)?);
        let p = projections[b];
        task_kl[0] += tk;
        task_task[0] += tt;
        task_kl[1] += tk + p * kk;
        task_task[1] += tt + 2.0 * p * tk + p * p * kk;
        kl_kl += kk;
    }
    let cosine = |i: usize| {
        let norms = (task_task[i].max(0.0) * kl_kl).sqrt();
        (norms > 0.0 && norms.is_finite()).then(|| (task_kl[i] / norms).clamp(-1.0, 1.0))
    };
    Ok(Conflict { before: cosine(0), after: cosine(1) })
}

/// Each modality's divergence from the others' mean opinion: `mean_{n≠m} KL(p_n ‖ p_m)`, targets held constant unless
/// `symmetric`.
pub(super) fn mutual(outputs: &Outputs, target: &Target, temperature: f64, symmetric: bool) -> Result<Vec<Tensor>> {
    let others = (outputs.modalities() as f64 - 1.0).max(1.0);
    let mut divergences = Vec::with_capacity(outputs.modalities());
    for (m, own) in outputs.own.iter().enumerate() {
        // A single modality has nobody to agree with: its divergence is zero.
        let mut sum = own.zeros_like()?.sum_all()?;
        for (_, teacher) in outputs.own.iter().enumerate().filter(|(n, _)| *n != m) {
            let teacher = if symmetric { teacher.clone() } else { teacher.detach() };
            sum = (sum + (target.divergence(&teacher, own, temperature)? / others)?)?;
        }
        divergences.push(sum);
    }
    Ok(divergences)
}

impl Method for BalGrad {
    fn needs(&self) -> Needs {
        Needs {
            gram: GramScope::Towers,
            granularity: if self.scope == Scope::Layer { Granularity::Layer } else { Granularity::Role },
            leaves: self.scope == Scope::Representation,
            // Without stop-gradient the divergences share blocks, and layers of one tower differ in coefficients: no one
            // scalar has such a mix as its gradient.
            refresh: if self.symmetric || self.scope == Scope::Layer { 1 } else { self.refresh },
            ..Needs::default()
        }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let task = target.nll(&outputs.fused)?;
        let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<Vec<_>>>()?;
        let uni = Objective::sum("uni", own)?.own();
        let measure = match self.share {
            Share::Loss => Some(uni.parts.iter().map(number).collect::<Result<_>>()?),
            Share::Confidence => {
                let inverse = |z| Ok(1.0 / number(&target.true_class_probability(z)?.mean_all()?)?.max(1e-12));
                Some(outputs.own.iter().map(inverse).collect::<Result<_>>()?)
            }
            Share::Norm | Share::Validation | Share::Uniform => None,
        };
        let divergences = mutual(outputs, target, self.temperature, self.symmetric)?;
        let mut kl = Objective::sum("kl", divergences)?;
        if self.symmetric {
            kl.parts.clear();
        }
        let objectives = Objectives::from(vec![Objective::new("task", task), uni, kl]);
        Ok(match measure {
            Some(measure) => objectives.signal(MEASURE, measure),
            None => objectives,
        })
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let shares = self.shares(evidence)?;
        let projections = self.projections(evidence, &shares)?;
        let row = |(b, block): (usize, &crate::BlockInfo)| match block.role {
            Role::Tower(m) => vec![1.0, self.uni_weight, self.kl_weight * shares[m] + projections[b]],
            Role::Head(m) => vec![0.0, self.uni_weight, self.kl_weight * shares[m]],
            Role::Fused => vec![1.0, 0.0, 0.0],
        };
        Ok(Mix {
            coefficients: evidence.blocks.iter().enumerate().map(row).collect(),
            conflict: Some(
                (0..evidence.modalities).map(|m| conflict(evidence, &projections, m)).collect::<Result<_>>()?,
            ),
            shares: Some(shares),
            ..Mix::uniform(evidence.blocks, &[])
        })
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        if self.share == Share::Validation {
            // A modality that was not measured must not pass for one that has nothing left to learn: all or none.
            let measured = summary.val_loss.iter().map(|l| l.filter(|v| v.is_finite()));
            self.measure = measured.collect::<Option<_>>().unwrap_or_default();
        }
        Ok(Vec::new())
    }

    fn state(&self) -> State {
        State::from([("balgrad.measure".into(), self.measure.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.measure = state.get("balgrad.measure").cloned().unwrap_or_default();
        Ok(())
    }
}
