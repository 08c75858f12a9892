//! Chorus: everyone learns, everyone teaches, everyone answers. Our own rule, for what every balancing rule gives away:
//! a fused head that trusts one modality, while own heads that were trained beside it stay silent.
//!
//! `L = CE(z) + Σ_m CE(z_m) + λ Σ_m mean_{n≠m} t_n KL(sg[p_n] ‖ p_m)`: the objectives of BalGrad, without its
//! coefficients, so that one backward pass serves all, as for `joint`. The answer is the mean of the probabilities of
//! the fused head and of all own heads: a head that has lost its modality says little, and is outvoted. Modality
//! dropout teaches the fused head the same; the two add up.
//!
//! `t_n = 1`, or with `trust = validation` the part of what modality `n`'s own head learnt since the first step that
//! holds on the validation split, `(L⁰_n − L_n^val) / (L⁰_n − L_n^train)` within [0, 1], measured once an epoch and 0
//! until then: a modality that is merely memorised teaches nobody. That needs `EpochSummary::val_loss`, the own heads'
//! losses. `docs/chorus.md` has how the rule was chosen, what it was compared with, and where it fails.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Request, State, Targets};
use crate::objective::number;
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "chorus",
    about: "own losses and mutual learning in one pass, and the answer of all heads together",
    paper: "this project",
    when: "first of all methods that train a fused head: one backward pass, and the heads together lose least when a modality is missing",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::All,
    targets: Targets::All,
    settings: &[
        Setting {
            name: "kl_weight",
            default: "1",
            kind: Kind::Number { min: 0.0, max: 1e6 },
            about: "weight λ of what modalities teach each other",
        },
        Setting {
            name: "trust",
            default: "full",
            kind: Kind::Choice(&["full", "validation"]),
            about: "how much a modality teaches: always the same, or as much as it generalises",
        },
    ],
    build: |_, s| {
        Box::new(Chorus {
            kl_weight: s.number("kl_weight"),
            trusting: s.word("trust") == "full",
            first: Vec::new(),
            trust: Vec::new(),
            sums: Vec::new(),
            steps: 0.0,
        })
    },
};

/// The signal that holds each own head's loss.
const LOSSES: &str = "own losses";

struct Chorus {
    kl_weight: f64,
    /// Whether teachers are trusted unseen.
    trusting: bool,
    /// Each own head's loss in the first step.
    first: Vec<f64>,
    /// `t_n`; empty before the first measurement.
    trust: Vec<f64>,
    /// Sums of this epoch's own losses, and steps.
    sums: Vec<f64>,
    steps: f64,
}

/// `t_n`, from the losses at first, in training and on validation.
fn trust(first: f64, train: f64, val: f64) -> f64 {
    let (learnt, holds) = (first - train, first - val);
    if learnt > 0.0 && holds.is_finite() { (holds / learnt).clamp(0.0, 1.0) } else { 0.0 }
}

impl Chorus {
    fn trust_in(&self, n: usize) -> f64 {
        if self.trusting { 1.0 } else { self.trust.get(n).copied().unwrap_or(0.0) }
    }

    fn remember(&mut self, losses: &[f64]) {
        if self.first.is_empty() {
            self.first = losses.to_vec();
        }
        self.sums.resize(losses.len(), 0.0);
        self.sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.steps += 1.0;
    }
}

impl Method for Chorus {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<Vec<_>>>()?;
        let losses = own.iter().map(number).collect::<Result<_>>()?;
        let others = (outputs.modalities() as f64 - 1.0).max(1.0);
        let mut taught = outputs.fused.zeros_like()?.sum_all()?.detach();
        for (m, pupil) in outputs.own.iter().enumerate() {
            for (n, teacher) in outputs.own.iter().enumerate().filter(|(n, _)| *n != m) {
                if self.trust_in(n) > 0.0 {
                    let apart = target.divergence(&teacher.detach(), pupil, 1.0)?;
                    taught = (taught + (apart * (self.trust_in(n) / others))?)?;
                }
            }
        }
        let objectives = vec![
            Objective::new("task", target.nll(&outputs.fused)?),
            Objective::sum("uni", own)?.own(),
            Objective::new("kl", taught),
        ];
        Ok(Objectives::from(objectives).signal(LOSSES, losses))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        self.remember(evidence.signal(LOSSES)?);
        let shares = (0..evidence.modalities).map(|n| self.trust_in(n)).collect();
        Ok(Mix { shares: Some(shares), ..Mix::uniform(evidence.blocks, &[1.0, 1.0, self.kl_weight]) })
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        let train: Vec<f64> = self.sums.iter().map(|sum| sum / self.steps).collect();
        (self.sums, self.steps) = (Vec::new(), 0.0);
        let measured = self.first.iter().zip(train).zip(&summary.val_loss);
        self.trust = measured.map(|((first, train), val)| val.map_or(0.0, |val| trust(*first, train, val))).collect();
        Ok(Vec::new())
    }

    fn state(&self) -> State {
        let part = |name: &str, values: &[f64]| (format!("chorus.{name}"), values.to_vec());
        State::from([
            part("first", &self.first),
            part("trust", &self.trust),
            part("sums", &self.sums),
            part("steps", &[self.steps]),
        ])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let part = |name: &str| state.get(&format!("chorus.{name}")).cloned().unwrap_or_default();
        (self.first, self.trust, self.sums) = (part("first"), part("trust"), part("sums"));
        self.steps = part("steps").first().copied().unwrap_or_default();
        Ok(())
    }
}
