//! The gradient law that every trainable part obeys.

use balgrad_encoders::Parameters;
use candle_core::{Result, Tensor};

/// Checks in f64 that every parameter of `parameters` gets a finite, non-zero gradient of `loss`, and that it agrees
/// with central differences along a fixed direction which involves every element.
///
/// `flat` names parameters whose true gradient is zero (a key's bias shifts all scores alike): there the gradient
/// must vanish.
pub(crate) fn check_gradients(parameters: &Parameters, flat: &[&str], loss: impl Fn() -> Result<Tensor>) {
    let value = || loss().unwrap().to_scalar::<f64>().unwrap();
    let gradients = loss().unwrap().backward().unwrap();
    let variables = parameters.all();
    assert!(!variables.is_empty());
    for (name, variable) in variables {
        let gradient = gradients.get(&variable).unwrap_or_else(|| panic!("{name}: no gradient"));
        assert_eq!(gradient.dims(), variable.dims(), "{name}");
        let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{name}: not finite");
        let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        if flat.iter().any(|suffix| name.ends_with(suffix)) {
            assert!(length < 1e-12, "{name}: gradient {length}, expected none");
            continue;
        }
        assert!(length > 1e-10, "{name}: zero gradient");

        // Mostly along the gradient, so that rounding is small beside it, with a fixed irregular part.
        let irregular = |i: usize| ((i * 7919 + 13) % 97) as f64 / 48.5 - 1.0;
        let scale = length / (gradient.len() as f64).sqrt();
        let direction: Vec<f64> = gradient.iter().enumerate().map(|(i, g)| g + 0.5 * scale * irregular(i)).collect();
        let norm = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
        let direction: Vec<f64> = direction.iter().map(|d| d / norm).collect();
        let expected: f64 = direction.iter().zip(&gradient).map(|(d, g)| d * g).sum();

        let start = variable.as_detached_tensor().copy().unwrap();
        let direction = Tensor::from_vec(direction, variable.dims(), variable.device()).unwrap();
        let step = 1e-5;
        let moved = |by: f64| {
            variable.set(&(&start + (&direction * by).unwrap()).unwrap()).unwrap();
            value()
        };
        let found = (moved(step) - moved(-step)) / (2.0 * step);
        variable.set(&start).unwrap();
        let error = (found - expected).abs();
        assert!(error < 1e-5 * expected.abs() + 1e-9, "{name}: backward says {expected}, differences say {found}");
    }
}

/// A scalar that depends on every element of `x` in its own way.
pub(crate) fn scalar(x: &Tensor) -> Result<Tensor> {
    let n = x.elem_count();
    let weights: Vec<f64> = (0..n).map(|i| ((i as f64 + 1.0) * 0.7).sin()).collect();
    let weights = Tensor::from_vec(weights, n, x.device())?;
    let x = x.flatten_all()?;
    ((&x * weights)? + (x.sqr()? * 0.1)?)?.sum_all()
}

/// Fixed irregular values of `shape`, within ±1.
#[allow(dead_code, reason = "not every test file needs inputs of its own")]
pub(crate) fn pattern(shape: impl Into<candle_core::Shape>) -> Tensor {
    let shape = shape.into();
    let values: Vec<f64> = (0..shape.elem_count()).map(|i| ((i as f64) * 1.37 + 0.3).sin()).collect();
    Tensor::from_vec(values, shape, &candle_core::Device::Cpu).unwrap()
}
