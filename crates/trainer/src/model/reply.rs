//! An answer as `predict` prints it and `serve` sends it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Answer, Model, OwnView};
use crate::metrics::Task;

/// An answer with its probabilities by class.
#[derive(Debug, Serialize)]
pub(crate) struct Reply {
    labels: Vec<String>,
    probs: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibrated: Option<Map<String, Value>>,
    got: Vec<&'static str>,
    views: Map<String, Value>,
    confidence: f64,
    abstained: bool,
    /// What its sample is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
}

#[cfg(feature = "serve")]
impl Reply {
    /// The same with what its sample is called.
    pub(crate) fn called(self, id: Option<Value>) -> Self {
        Self { id, ..self }
    }
}

impl Model {
    /// An answer to print, and what its sample is called.
    pub(crate) fn reply(&self, answer: &Answer, id: Option<Value>) -> Reply {
        let by_class = |probs: &[f32]| self.classes().iter().cloned().zip(probs.iter().map(|p| (*p).into())).collect();
        let numbers = self.task() == Task::Regression;
        let view = |view: &OwnView| match numbers {
            true => json!({"values": view.probs}),
            false => json!({"labels": view.labels, "confidence": view.confidence}),
        };
        let own = |name: &str| answer.views.get(name).and_then(Option::as_ref).map_or(Value::Null, view);
        Reply {
            labels: answer.labels.clone(),
            probs: by_class(&answer.probs),
            calibrated: (!numbers).then(|| by_class(&answer.calibrated)),
            got: answer.got.clone(),
            views: self.modalities().into_iter().map(|name| (name.to_owned(), own(name))).collect(),
            confidence: answer.confidence.into(),
            abstained: answer.abstained,
            id,
        }
    }
}
