//! Targets: how true answers become a batch's likelihood, and a model's outputs predictions. A row of [`TARGETS`] each.

use anyhow::{Context, Result, bail};
use balgrad_data::{Sample, Task};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use serde::{Deserialize, Serialize};

use crate::split_data::SplitData;

/// How samples of some form of task are learnt from.
#[derive(Debug)]
pub struct TargetEntry {
    /// Name in configurations and models.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The forms of task whose samples have such an answer.
    pub tasks: &'static [Task],
    /// The truth of a batch, as methods read it.
    pub truth: fn(&Batch<'_>) -> Result<balgrad::Target>,
    /// What outputs `[batch, n]` predict, `[batch, n]`: probabilities, or numbers.
    pub predict: fn(&Tensor) -> candle_core::Result<Tensor>,
    /// Whether predicted numbers are standardised by the training split's statistics, and so to be brought back.
    pub standardized: bool,
}

/// The samples of a batch, and what their truth may depend on.
pub struct Batch<'a> {
    /// The samples, in order.
    pub samples: &'a [&'a Sample],
    /// How many outputs a model has: classes, or numbers.
    pub outputs: usize,
    /// Statistics of the numbers in the training split.
    pub scaling: &'a Scaling,
    /// A weight for each class, `[outputs]`.
    pub weights: Option<&'a Tensor>,
    /// Where to compute.
    pub device: &'a Device,
}

/// Every target, the usual one of a task first.
pub static TARGETS: &[&TargetEntry] = &[&CLASS, &LABELS, &VALUE];

static CLASS: TargetEntry = TargetEntry {
    name: "class",
    about: "one class: softmax cross-entropy",
    tasks: &[Task::MultiClass, Task::Binary],
    truth: |batch| {
        let ids: Vec<u32> = batch.samples.iter().map(|s| s.target.classes().first().copied().unwrap_or(0)).collect();
        Ok(balgrad::Target::class(Tensor::new(ids, batch.device)?, batch.weights.cloned()))
    },
    predict: |logits| softmax(logits, 1),
    standardized: false,
};

static LABELS: TargetEntry = TargetEntry {
    name: "labels",
    about: "any number of labels: binary cross-entropy of each",
    tasks: &[Task::MultiLabel],
    truth: |batch| {
        let mut targets = vec![0f32; batch.samples.len() * batch.outputs];
        for (sample, target) in batch.samples.iter().zip(targets.chunks_exact_mut(batch.outputs)) {
            sample.target.classes().iter().for_each(|&c| target[c as usize] = 1.0);
        }
        let targets = Tensor::from_vec(targets, (batch.samples.len(), batch.outputs), batch.device)?;
        Ok(balgrad::Target::labels(targets, batch.weights.cloned()))
    },
    predict: sigmoid,
    standardized: false,
};

static VALUE: TargetEntry = TargetEntry {
    name: "value",
    about: "numbers: squared error of standardised values, a Gaussian of unit variance",
    tasks: &[Task::Regression],
    truth: |batch| Ok(balgrad::Target::value(batch.standardized()?)),
    predict: |outputs| Ok(outputs.clone()),
    standardized: true,
};

impl Batch<'_> {
    /// The samples' numbers, standardised, `[batch, outputs]`.
    ///
    /// # Errors
    /// Samples without numbers.
    pub fn standardized(&self) -> Result<Tensor> {
        let mut values = Vec::with_capacity(self.samples.len() * self.outputs);
        for sample in self.samples {
            let numbers = sample.target.values();
            if numbers.len() != self.outputs {
                bail!("sample `{}`: expected {} number(s), found {}", sample.id, self.outputs, numbers.len());
            }
            values.extend(numbers.iter().enumerate().map(|(n, v)| self.scaling.forward(n, *v)));
        }
        Ok(Tensor::from_vec(values, (self.samples.len(), self.outputs), self.device)?)
    }
}

/// The target of a task: the one that is named, or the usual one where the name is empty.
///
/// # Errors
/// An unknown name, or a target that does not suit the task.
pub(crate) fn target_of(task: Task, name: &str, known: &[&'static TargetEntry]) -> Result<&'static TargetEntry> {
    let suits = |entry: &&&TargetEntry| entry.tasks.contains(&task);
    let usual = || known.iter().find(suits).copied().with_context(|| format!("no target suits a {} task", task.name()));
    if name.is_empty() || name == "auto" {
        return usual();
    }
    let names = || known.iter().filter(suits).map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    let found = known.iter().filter(suits).find(|entry| entry.name == name).copied();
    let task_name = task.name();
    found.ok_or_else(|| crate::Usage(format!("`target = {name}`: a {task_name} task takes {}", names())).into())
}

/// Mean and deviation of each number of a regression, over the training split. Of classes there are none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scaling {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scaling {
    /// Statistics of the training split.
    pub(crate) fn fit<'a>(train: impl Iterator<Item = &'a Sample>) -> Self {
        let rows: Vec<&[f32]> = train.map(|sample| sample.target.values()).collect();
        let width = rows.first().map_or(0, |row| row.len());
        let column = |n: usize| rows.iter().map(move |row| f64::from(row[n]));
        let count = rows.len().max(1) as f64;
        let mean: Vec<f64> = (0..width).map(|n| column(n).sum::<f64>() / count).collect();
        let spread = |n: usize| (column(n).map(|v| (v - mean[n]).powi(2)).sum::<f64>() / count).sqrt();
        // A number that does not vary is left in its own unit.
        let deviation = (0..width).map(|n| Some(spread(n)).filter(|d| *d > 0.0 && d.is_finite()).unwrap_or(1.0));
        Self { deviation: deviation.collect(), mean }
    }

    /// Whether these are usable statistics of `count` numbers: what a file holds may be anything.
    pub(crate) fn fits(&self, count: usize) -> bool {
        let finite = |values: &[f64]| values.len() == count && values.iter().all(|v| v.is_finite());
        finite(&self.mean) && finite(&self.deviation) && self.deviation.iter().all(|d| *d > 0.0)
    }

    fn forward(&self, n: usize, value: f32) -> f32 {
        let (mean, deviation) = self.of(n);
        ((f64::from(value) - mean) / deviation) as f32
    }

    /// A standardised number in its own unit.
    pub(crate) fn back(&self, n: usize, value: f32) -> f32 {
        let (mean, deviation) = self.of(n);
        (f64::from(value) * deviation + mean) as f32
    }

    /// The deviation of a number.
    pub(crate) fn deviation(&self, n: usize) -> f64 {
        self.of(n).1
    }

    fn of(&self, n: usize) -> (f64, f64) {
        (self.mean.get(n).copied().unwrap_or(0.0), self.deviation.get(n).copied().unwrap_or(1.0))
    }
}

/// Weights that make up for unequal class counts: `n / (classes · n_c)`, or for multi-label tasks negatives over
/// positives; 1 for a class without samples.
///
/// # Errors
/// When the device refuses the memory.
pub(crate) fn balanced_weights(train: &SplitData, classes: usize, task: Task, device: &Device) -> Result<Tensor> {
    let mut counts = vec![0f64; classes];
    train.labels().iter().flatten().for_each(|&c| counts[c as usize] += 1.0);
    let n = train.len() as f64;
    let weight = |c: &f64| match (task, *c) {
        (_, 0.0) => 1.0,
        (Task::MultiLabel, c) => (n - c) / c,
        (_, c) => n / (classes as f64 * c),
    };
    let weights: Vec<f64> = counts.iter().map(weight).collect();
    Ok(Tensor::new(weights, device)?.to_dtype(DType::F32)?)
}
