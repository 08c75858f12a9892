//! The table of methods as tests walk through it: each entry in every variant, and a bench to step it on.

use std::collections::BTreeMap;

use balgrad::{Balancer, Block, Entry, EpochSummary, Kind, METHODS, Outputs, Value};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use super::Matrix;
use super::model::{Model, blocks, matrix};

pub type Given = BTreeMap<String, Value>;

/// The defaults, and every other value of every choice and flag on its own.
pub fn variants(entry: &Entry) -> Vec<Given> {
    let mut all = vec![Given::new()];
    for setting in entry.settings {
        let values: Vec<Value> = match setting.kind {
            Kind::Choice(words) => words.iter().map(|w| Value::Word((*w).to_owned())).collect(),
            Kind::Flag => vec![Value::Flag(true), Value::Flag(false)],
            Kind::Count { .. } if setting.name == "refresh" => vec![Value::Count(3)],
            _ => Vec::new(),
        };
        let other = values.into_iter().filter(|v| v.to_string() != setting.default);
        all.extend(other.map(|v| Given::from([(setting.name.to_owned(), v)])));
    }
    all
}

pub fn cases() -> impl Iterator<Item = (&'static Entry, Given)> {
    METHODS.iter().flat_map(|entry| variants(entry).into_iter().map(|given| (*entry, given)))
}

pub fn summary(epoch: usize) -> EpochSummary {
    let (e, both) = (epoch as f64, |a: f64, b: f64| vec![Some(a), Some(b)]);
    EpochSummary {
        epoch,
        train_loss: both(0.9 / e, 0.8 / e),
        val_loss: both(1.0 / e, 0.7),
        val_score: both(0.4, 0.5 + 0.01 * e),
        fused_val_loss: Some(0.8),
        fused_train_loss: Some(0.7 / e),
        probe: None,
    }
}

pub struct Bench {
    pub model: Model,
    pub vars: Vec<Var>,
    leaves: bool,
    pub balancer: Balancer,
}

impl Bench {
    pub fn new(entry: &Entry, given: &Given, model: &Model, arrange: impl Fn(&mut Vec<Block>)) -> Self {
        let vars = model.vars(DType::F32);
        let method = entry.with(given).unwrap();
        let needs = method.needs();
        let mut blocks = blocks(&vars, needs.granularity);
        arrange(&mut blocks);
        let balancer = Balancer::new(method, blocks, 5);
        Self { model: model.clone(), vars, leaves: needs.leaves, balancer }
    }

    pub fn outputs(&self) -> Outputs {
        let mut outputs = self.model.outputs(&self.vars, self.leaves).unwrap();
        // Teachers that say what the pupil says.
        outputs.teacher = Some(outputs.embeddings.iter().map(Tensor::detach).collect());
        outputs
    }

    pub fn step(&mut self) -> GradStore {
        self.balancer.backward(&self.outputs(), &self.model.labels(DType::F32)).unwrap()
    }

    pub fn gradients(&mut self) -> Vec<Option<Matrix>> {
        let store = self.step();
        self.vars.iter().map(|v| store.get(v.as_tensor()).map(matrix)).collect()
    }
}
