//! UMT, uni-modal teacher (Du et al., "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning", ICML 2023).
//!
//! First each modality learns by itself (its tower and own head); the towers are then frozen as teachers, and a fresh
//! model trains with `CE(z) + λ Σ_m MSE(f_m, f_m^teacher)`.
//!
//! Deviations. The teachers are those of the last of `teacher_epochs` epochs, all trained at once, which with a head of
//! its own for each modality is the same as one after the other. In a loop of your own: on `Request::Teach` keep a copy
//! of the towers and fill `Outputs::teacher` from then on; on `Request::Restart` draw the parameters anew.

use candle_core::{Error, Result};

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, Request, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "umt",
    about: "distils each tower from one that was trained by itself",
    paper: "Du et al., ICML 2023",
    when: "where each modality alone learns features that joint training does not reach, and twice the epochs are affordable",
    cost: "2F 1B, after as many epochs of teachers",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting {
            name: "lambda",
            default: "10",
            kind: Kind::Number { min: 0.0, max: 1e6 },
            about: "weight λ of the distance to the teachers' embeddings",
        },
        Setting {
            name: "teacher_epochs",
            default: "15",
            kind: Kind::Count { min: 1, max: 1_000_000 },
            about: "epochs that the teachers are trained for, before the run's own",
        },
    ],
    build: |_, s| Box::new(Umt { lambda: s.number("lambda"), teachers: s.count("teacher_epochs") }),
};

struct Umt {
    lambda: f64,
    teachers: usize,
}

impl Method for Umt {
    fn needs(&self) -> Needs {
        Needs { prelude: self.teachers, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        if clock.epoch < self.teachers {
            let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<_>>()?;
            return Ok(Objective::sum("teachers", own)?.own().into());
        }
        let teacher = outputs.teacher.as_ref().filter(|t| t.len() == outputs.embeddings.len());
        let Some(teacher) = teacher else {
            return Err(Error::Msg("UMT has asked for teachers: fill `Outputs::teacher` with their embeddings".into()));
        };
        let parts = outputs.embeddings.iter().zip(teacher).map(|(f, t)| (f - t.detach())?.sqr()?.mean_all());
        Ok(vec![
            Objective::new("task", target.nll(&outputs.fused)?),
            Objective::sum("distillation", parts.collect::<Result<_>>()?)?,
        ]
        .into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let weights: &[f64] = if evidence.objectives() == 1 { &[1.0] } else { &[1.0, self.lambda] };
        Ok(Mix::uniform(evidence.blocks, weights))
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        Ok(if summary.epoch == self.teachers { vec![Request::Teach, Request::Restart] } else { Vec::new() })
    }
}
