//! A two-tower model in plain f64 arithmetic, gradients written out by hand: the oracle shares no line with the crate.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::needless_range_loop)]

pub mod differences;
pub mod gradients;
pub mod model;
pub mod table;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A dense matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<f64>,
}

impl Matrix {
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }
    pub fn from(rows: usize, cols: usize, f: impl FnMut(usize) -> f64) -> Self {
        Self { rows, cols, data: (0..rows * cols).map(f).collect() }
    }
    pub fn at(&self, r: usize, c: usize) -> f64 {
        self.data[r * self.cols + c]
    }
    pub fn row(&self, r: usize) -> &[f64] {
        &self.data[r * self.cols..(r + 1) * self.cols]
    }
    pub fn mul(&self, other: &Self) -> Self {
        assert_eq!(self.cols, other.rows);
        let entry = |i| {
            let (r, c) = (i / other.cols, i % other.cols);
            (0..self.cols).map(|k| self.at(r, k) * other.at(k, c)).sum()
        };
        Self::from(self.rows, other.cols, entry)
    }
    pub fn t(&self) -> Self {
        Self::from(self.cols, self.rows, |i| self.at(i % self.rows, i / self.rows))
    }
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::from(self.rows, self.cols, |i| f(self.data[i]))
    }
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols));
        Self::from(self.rows, self.cols, |i| f(self.data[i], other.data[i]))
    }
    pub fn add(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    pub fn scale(&self, s: f64) -> Self {
        self.map(|v| s * v)
    }
    /// Adds a `1 × cols` row to every row.
    pub fn plus_row(&self, row: &Self) -> Self {
        Self::from(self.rows, self.cols, |i| self.data[i] + row.data[i % self.cols])
    }
    /// Sum over rows, `1 × cols`.
    pub fn column_sums(&self) -> Self {
        Self::from(1, self.cols, |c| (0..self.rows).map(|r| self.at(r, c)).sum())
    }
    pub fn dot(&self, other: &Self) -> f64 {
        self.data.iter().zip(&other.data).map(|(a, b)| a * b).sum()
    }
    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }
}

/// What the batch is labelled with.
#[derive(Clone, Debug)]
pub enum Truth {
    Classes { ids: Vec<usize>, weights: Option<Vec<f64>> },
    Many { targets: Matrix, positive: Option<Vec<f64>> },
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn random(rng: &mut ChaCha8Rng, rows: usize, cols: usize, scale: f64) -> Matrix {
    Matrix::from(rows, cols, |_| scale * rng.random_range(-1.0..1.0))
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::MIN, f64::max);
    let e: Vec<f64> = row.iter().map(|z| (z - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::MIN, f64::max);
    let lse = row.iter().map(|z| (z - top).exp()).sum::<f64>().ln() + top;
    row.iter().map(|z| z - lse).collect()
}

pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

pub fn log_sigmoid(z: f64) -> f64 {
    if z >= 0.0 { -(-z).exp().ln_1p() } else { z - z.exp().ln_1p() }
}

/// Cross-entropy and its gradient with respect to the logits.
pub fn cross_entropy(z: &Matrix, truth: &Truth) -> (f64, Matrix) {
    let mut gradient = Matrix::zeros(z.rows, z.cols);
    let mut loss = 0.0;
    match truth {
        Truth::Classes { ids, weights } => {
            let weight = |y: usize| weights.as_ref().map_or(1.0, |w| w[y]);
            let total: f64 = ids.iter().map(|y| weight(*y)).sum();
            for (r, y) in ids.iter().enumerate() {
                let (share, p) = (weight(*y) / total, softmax(z.row(r)));
                loss -= share * log_softmax(z.row(r))[*y];
                for c in 0..z.cols {
                    gradient.data[r * z.cols + c] = share * (p[c] - f64::from(u8::from(c == *y)));
                }
            }
        }
        Truth::Many { targets, positive } => {
            let n = z.data.len() as f64;
            for i in 0..z.data.len() {
                let (v, y) = (z.data[i], targets.data[i]);
                let w = positive.as_ref().map_or(1.0, |w| w[i % z.cols]);
                loss -= (w * y * log_sigmoid(v) + (1.0 - y) * log_sigmoid(-v)) / n;
                gradient.data[i] = ((1.0 - y) * sigmoid(v) - w * y * sigmoid(-v)) / n;
            }
        }
    }
    (loss, gradient)
}

/// `t² KL(target ‖ prediction)` at temperature `t`, its gradient with respect to the target's logits, and with
/// respect to the prediction's.
pub fn kl(target: &Matrix, prediction: &Matrix, truth: &Truth, t: f64) -> (f64, Matrix, Matrix) {
    let (a, b) = (target.scale(1.0 / t), prediction.scale(1.0 / t));
    let mut loss = 0.0;
    let (mut da, mut db) = (Matrix::zeros(a.rows, a.cols), Matrix::zeros(a.rows, a.cols));
    for r in 0..a.rows {
        if let Truth::Classes { .. } = truth {
            let (p, q, lp, lq) = (softmax(a.row(r)), softmax(b.row(r)), log_softmax(a.row(r)), log_softmax(b.row(r)));
            let here: f64 = (0..a.cols).map(|c| if p[c] > 0.0 { p[c] * (lp[c] - lq[c]) } else { 0.0 }).sum();
            loss += t * t * here / a.rows as f64;
            for c in 0..a.cols {
                db.data[r * a.cols + c] = t * (q[c] - p[c]) / a.rows as f64;
                da.data[r * a.cols + c] = t * p[c] * (lp[c] - lq[c] - here) / a.rows as f64;
            }
        } else {
            for c in 0..a.cols {
                let (i, n) = (r * a.cols + c, a.data.len() as f64);
                let (p, q) = (sigmoid(a.data[i]), sigmoid(b.data[i]));
                let on = p * (log_sigmoid(a.data[i]) - log_sigmoid(b.data[i]));
                let off = sigmoid(-a.data[i]) * (log_sigmoid(-a.data[i]) - log_sigmoid(-b.data[i]));
                loss += t * t * (on + off) / n;
                db.data[i] = t * (q - p) / n;
                da.data[i] = t * p * sigmoid(-a.data[i]) * (a.data[i] - b.data[i]) / n;
            }
        }
    }
    (loss, da, db)
}

/// The probability given to the truth, per sample.
pub fn truth_probability(z: &Matrix, truth: &Truth) -> Vec<f64> {
    match truth {
        Truth::Classes { ids, .. } => ids.iter().enumerate().map(|(r, y)| softmax(z.row(r))[*y]).collect(),
        Truth::Many { targets, .. } => {
            let one =
                |r: usize, c: usize| if targets.at(r, c) > 0.5 { sigmoid(z.at(r, c)) } else { sigmoid(-z.at(r, c)) };
            (0..z.rows).map(|r| (0..z.cols).map(|c| one(r, c)).sum::<f64>() / z.cols as f64).collect()
        }
    }
}
