//! Features to mean 0 and deviation 1, with the statistics of the training split.
//!
//! Values beyond three deviations count as three: a feature that hardly varies in training, and does under noise, would
//! drown all others.

use serde::{Deserialize, Serialize};

/// The largest value, in deviations.
const LIMIT: f32 = 3.0;

/// Means and deviations, fitted once on training rows and saved with the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standardizer {
    mean: Vec<f32>,
    /// 0 where the feature was constant in training: it says nothing then.
    inverse_deviation: Vec<f32>,
}

impl Standardizer {
    /// Statistics of `rows`, each of `dim` values; sums in f64. Rows of another length are ignored.
    pub fn fit<'a>(dim: usize, rows: impl Iterator<Item = &'a [f32]> + Clone) -> Self {
        let rows = rows.filter(|row| row.len() == dim);
        let n = rows.clone().count().max(1) as f64;
        let mut mean = vec![0f64; dim];
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / n);
        }
        let mut variance = vec![0f64; dim];
        for row in rows {
            for ((sum, x), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(*x) - mean).powi(2) / n;
            }
        }
        let inverse = |v: &f64| if v.sqrt() > 1e-6 { (1.0 / v.sqrt()) as f32 } else { 0.0 };
        Self {
            inverse_deviation: variance.iter().map(inverse).collect(),
            mean: mean.into_iter().map(|m| m as f32).collect(),
        }
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Whether these are finite statistics of rows of `dim` values: what a file holds may be anything.
    pub fn fits(&self, dim: usize) -> bool {
        let finite = |values: &[f32]| values.len() == dim && values.iter().all(|v| v.is_finite());
        finite(&self.mean) && finite(&self.inverse_deviation) && self.inverse_deviation.iter().all(|v| *v >= 0.0)
    }

    /// Standardises one row in place; values beyond the row's or the statistics' length stay as they are.
    ///
    /// A missing modality is not passed through here: it is the zero row *after* standardisation, the training mean.
    pub fn apply(&self, row: &mut [f32]) {
        for ((x, mean), inverse) in row.iter_mut().zip(&self.mean).zip(&self.inverse_deviation) {
            *x = ((*x - mean) * inverse).clamp(-LIMIT, LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_get_mean_zero_and_deviation_one() {
        let rows = [[1.0, 10.0, 7.0], [3.0, 30.0, 7.0], [5.0, 50.0, 7.0], [7.0, 70.0, 7.0]];
        let standardizer = Standardizer::fit(3, rows.iter().map(<[f32; 3]>::as_slice));
        let done: Vec<_> = rows.map(|mut row| (standardizer.apply(&mut row), row).1).into();
        for column in 0..2 {
            let mean: f32 = done.iter().map(|row| row[column]).sum::<f32>() / 4.0;
            let variance: f32 = done.iter().map(|row| (row[column] - mean).powi(2)).sum::<f32>() / 4.0;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5);
        }
        assert!(done.iter().all(|row| row[2] == 0.0), "a constant feature says nothing");
    }

    #[test]
    fn outliers_are_cut() {
        let rows = [[0f32], [2.0]];
        let standardizer = Standardizer::fit(1, rows.iter().map(<[f32; 1]>::as_slice));
        let mut row = [100.0, 7.0];
        standardizer.apply(&mut row);
        assert_eq!(row, [3.0, 7.0]);
    }

    #[test]
    fn saved_statistics_are_exact() {
        let rows = [[0.1f32, 0.7], [0.2, -1.3], [0.4, 1e-3]];
        let fitted = Standardizer::fit(2, rows.iter().map(<[f32; 2]>::as_slice));
        let read: Standardizer = serde_json::from_str(&serde_json::to_string(&fitted).unwrap()).unwrap();
        assert_eq!(fitted, read);
    }
}
