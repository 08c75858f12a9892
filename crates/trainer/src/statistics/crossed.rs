//! One interval for a score or a difference: the crossed bootstrap, which draws seeds and groups of test samples alike.
//!
//! A draw of the groups gives each seed's score ([`Bootstrap`](super::Bootstrap)); of these one fewer seeds than there are
//! is drawn with replacement, so that few seeds do not look more alike than they are. The spread of the draws is the
//! standard error. How many degrees of freedom it has follows from how much of it the seeds make (Satterthwaite); interval
//! and p-value are both Student's t with these, so that they never contradict each other.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{mean, standard_deviation, student_two_sided};

/// What a crossed bootstrap says of a mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Crossed {
    /// 95 % interval.
    pub ci95: [f64; 2],
    /// Chance of a mean as far from 0 when the true one is 0; none for one seed, which says nothing about others.
    pub p: Option<f64>,
}

/// The interval of `estimate`, the mean over seeds of something whose values under each draw of the `groups` test groups
/// are `draws`, `[draws][seeds]`. With one seed the interval is about test samples alone.
///
/// `None` without spread, or where more than one draw in a hundred is undefined.
pub fn crossed(estimate: f64, draws: &[Vec<f64>], groups: usize, seed: u64) -> Option<Crossed> {
    let seeds = draws.first()?.len();
    let finite: Vec<&Vec<f64>> = draws.iter().filter(|d| d.iter().all(|v| v.is_finite())).collect();
    if groups < 2 || seeds == 0 || (draws.len() - finite.len()) * 100 > draws.len() {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let taken = seeds.max(2) - 1;
    let both: Vec<f64> = finite
        .iter()
        .map(|d| (0..taken).map(|_| d[rng.random_range(0..seeds as u32) as usize]).sum::<f64>() / taken as f64)
        .collect();
    let of_groups: Vec<f64> = finite.iter().filter_map(|d| mean(d)).collect();
    let (error, of_groups) = (standard_deviation(&both)?, standard_deviation(&of_groups)?);
    let scale = finite.iter().flat_map(|d| d.iter()).fold(0.0f64, |m, v| m.max(v.abs()));
    if error <= 1e-12 * scale || !estimate.is_finite() {
        return None;
    }
    let by_seeds = if seeds > 1 { (1.0 - (of_groups / error).powi(2)).clamp(0.0, 1.0) } else { 0.0 };
    let of_seeds = if seeds > 1 { by_seeds.powi(2) / (seeds - 1) as f64 } else { 0.0 };
    let degrees = 1.0 / (of_seeds + (1.0 - by_seeds).powi(2) / (groups - 1) as f64);
    let reach = StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(0.975) * error;
    let p = (seeds > 1).then(|| student_two_sided(estimate / error, degrees));
    Some(Crossed { ci95: [estimate - reach, estimate + reach], p })
}

/// What may be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The corrected p-value is below .05.
    Clear,
    /// By itself its interval leaves 0 out, but not after the correction for all comparisons that are shown.
    Suggestive,
    /// Its interval holds 0.
    NotSignificant,
}

impl Grade {
    /// The grade of an interval and a corrected p-value.
    pub fn of(ci95: [f64; 2], corrected: Option<f64>) -> Self {
        match corrected {
            Some(p) if p < 0.05 => Self::Clear,
            _ if ci95[0] > 0.0 || ci95[1] < 0.0 => Self::Suggestive,
            _ => Self::NotSignificant,
        }
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Suggestive => "suggestive",
            Self::NotSignificant => "not significant",
        }
    }
}
