//! One interval for a score or a difference: the crossed bootstrap, in which seeds and groups of test samples both vary.
//!
//! Groups are drawn ([`Bootstrap`](super::Bootstrap)), and the spread of the mean over seeds is the groups' error. The
//! spread of a mean of one fewer seeds than there are, drawn with replacement, needs no draws: it is the standard error
//! over seeds. Each error reaches as far as Student's t with its own degrees of freedom, and the two reaches add up as
//! squares: such an interval holds the truth at least as often as it says (Banerjee 1960), however few the seeds. The
//! p-value is the level at which the interval touches 0, so that the two never contradict each other.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{mean, standard_deviation};

/// What a crossed bootstrap says of a mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Crossed {
    /// 95 % interval.
    pub ci95: [f64; 2],
    /// Chance of a mean as far from 0 when the true one is 0; none for one seed, which says nothing about others.
    pub p: Option<f64>,
}

/// The interval of the mean of `observed`, one value per seed, whose values under each draw of the `groups` test groups
/// are `draws`, `[draws][seeds]`. With one seed the interval is about test samples alone.
///
/// `None` without spread, or where more than one draw in a hundred is undefined.
pub fn crossed(observed: &[f64], draws: &[Vec<f64>], groups: usize) -> Option<Crossed> {
    let (estimate, seeds) = (mean(observed)?, observed.len());
    let finite = draws.iter().filter(|d| d.iter().all(|v| v.is_finite()));
    let means: Vec<f64> = finite.filter_map(|d| mean(d)).collect();
    if groups < 2 || !estimate.is_finite() || (draws.len() - means.len()) * 100 > draws.len() {
        return None;
    }
    let of_groups = standard_deviation(&means)?;
    let of_seeds = standard_deviation(observed).map(|deviation| deviation / (seeds as f64).sqrt());
    let scale = observed.iter().chain(&means).fold(0.0f64, |most, v| most.max(v.abs()));
    if of_groups.hypot(of_seeds.unwrap_or(0.0)) <= 1e-12 * scale {
        return None;
    }
    let t = |degrees: usize| StudentsT::new(0.0, 1.0, degrees as f64).ok();
    let (by_groups, by_seeds) = (t(groups - 1)?, t(seeds.max(2) - 1)?);
    let reach = |level: f64| {
        let far = |t: &StudentsT, error: f64| t.inverse_cdf(level / 2.0) * error;
        far(&by_groups, of_groups).hypot(of_seeds.map_or(0.0, |error| far(&by_seeds, error)))
    };
    let half = reach(0.05);
    let p = of_seeds.map(|_| {
        // Halving the logarithm of the level: below the smallest level the search ends.
        let (mut low, mut high) = (1e-12f64.ln(), 0.0f64);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if reach(middle.exp()) > estimate.abs() { low = middle } else { high = middle }
        }
        high.exp()
    });
    Some(Crossed { ci95: [estimate - half, estimate + half], p })
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
