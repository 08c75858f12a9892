//! The metric `medae`: the median of the absolute errors, which a few wild predictions cannot move.

use balgrad_trainer::metrics::{Better, Compute, Metric};

/// The metric.
pub(crate) static METRIC: Metric = Metric {
    better: Better::Lower,
    ..Metric::plain(
        "medae",
        "median absolute error",
        Compute::Values(|measured| {
            let mut errors: Vec<f64> = measured.column(0).map(|(predicted, truth)| (predicted - truth).abs()).collect();
            errors.sort_by(f64::total_cmp);
            let middle = errors.len() / 2;
            match errors.len() % 2 {
                1 => Some(errors[middle]),
                _ => Some((errors.get(middle.checked_sub(1)?)? + errors[middle]) / 2.0),
            }
        }),
    )
};
