//! The target `laplace`: numbers whose errors follow a Laplace distribution, so that the loss is the absolute error.

use balgrad::Likelihood;
use balgrad_data::Task;
use balgrad_trainer::TargetEntry;
use candle_core::{Result, Tensor};

/// The target.
pub(crate) static TARGET: TargetEntry = TargetEntry {
    name: "laplace",
    about: "numbers: absolute error of standardised values",
    tasks: &[Task::Regression],
    truth: |batch| Ok(balgrad::Target::new(Laplace(batch.standardized()?))),
    predict: |outputs| Ok(outputs.clone()),
    standardized: true,
};

/// The true numbers, `[batch, n]`.
#[derive(Debug)]
struct Laplace(Tensor);

impl Likelihood for Laplace {
    fn name(&self) -> &'static str {
        "laplace"
    }

    fn nll(&self, z: &Tensor) -> Result<Tensor> {
        (&self.0 - z)?.abs()?.mean_all()
    }

    /// `|d| + exp(−|d|) − 1` for two of unit scale whose means lie `d` apart.
    fn divergence(&self, target: &Tensor, prediction: &Tensor, _t: f64) -> Result<Tensor> {
        let apart = (target - prediction)?.abs()?;
        ((&apart + apart.neg()?.exp()?)? - 1.0)?.mean_all()
    }

    fn true_class_probability(&self, z: &Tensor) -> Result<Tensor> {
        (&self.0 - z.detach())?.abs()?.mean(1)?.neg()?.exp()
    }
}
