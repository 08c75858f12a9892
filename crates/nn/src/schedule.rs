//! How the learning rate changes over a run.

use std::f64::consts::PI;

/// The learning rate at each step: a linear warm-up to a peak, then one of three courses.
///
/// ```
/// use balgrad_nn::{Decay, Schedule};
/// let schedule = Schedule { peak: 1e-3, warmup: 0.1, decay: Decay::Cosine };
/// assert_eq!(schedule.rate(0.0, 100.0), 1e-4);
/// assert_eq!(schedule.rate(10.0, 100.0), 1e-3);
/// assert_eq!(schedule.rate(100.0, 100.0), 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub peak: f64,
    /// The course after the warm-up.
    pub decay: Decay,
    /// The fraction of all steps over which the rate rises linearly to the peak.
    pub warmup: f64,
}

/// The course of a [`Schedule`] after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to 0.
    Linear,
    /// Falls along half a cosine to 0 (Loshchilov & Hutter 2017, [arXiv:1608.03983](https://arxiv.org/abs/1608.03983)).
    #[default]
    Cosine,
}

impl Decay {
    /// Every course and its name in a config.
    pub const ALL: [(&'static str, Self); 3] =
        [("constant", Self::Constant), ("linear", Self::Linear), ("cosine", Self::Cosine)];
}

impl Schedule {
    /// The learning rate at `step` (from 0; fractions of a step are allowed) of `total`: a factor in `[0, 1]` times the peak.
    ///
    /// The warm-up takes `⌊warmup · total⌋` steps, and its first has a rate above 0 already. After `total` steps the rate stays as
    /// it is there.
    pub fn rate(&self, step: f64, total: f64) -> f64 {
        let warm = (self.warmup * total).floor();
        if step < warm {
            return self.peak * (step + 1.0) / warm;
        }
        let fraction = ((step - warm) / (total - warm).max(1.0)).min(1.0);
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Linear => self.peak * (1.0 - fraction),
            Decay::Cosine => self.peak * 0.5 * (1.0 + (PI * fraction).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay, warmup: f64) -> Schedule {
        Schedule { decay, warmup, peak: 0.3 }
    }

    #[test]
    fn the_warm_up_rises_to_the_peak_in_equal_steps() {
        for (_, decay) in Decay::ALL {
            let schedule = schedule(decay, 0.25);
            // ⌊0.25 · 18⌋ = 4 steps.
            let rates: Vec<f64> = (0..5).map(|step| schedule.rate(f64::from(step), 18.0)).collect();
            assert_eq!(rates, [0.3 * 1.0 / 4.0, 0.3 * 2.0 / 4.0, 0.3 * 3.0 / 4.0, 0.3, 0.3], "{decay:?}");
        }
    }

    #[test]
    fn each_course_ends_where_it_should() {
        for (decay, middle, end) in
            [(Decay::Constant, 0.3, 0.3), (Decay::Linear, 0.15, 0.0), (Decay::Cosine, 0.15, 0.0)]
        {
            let schedule = schedule(decay, 0.0);
            assert_eq!(schedule.rate(0.0, 10.0), 0.3);
            assert!((schedule.rate(5.0, 10.0) - middle).abs() < 1e-15, "{decay:?}");
            assert_eq!(schedule.rate(10.0, 10.0), end, "{decay:?}");
            assert_eq!(schedule.rate(11.0, 10.0), end, "{decay:?}: past its end");
        }
    }

    #[test]
    fn a_cosine_never_rises() {
        let schedule = schedule(Decay::Cosine, 0.1);
        let rates: Vec<f64> = (10..=100).map(|step| schedule.rate(f64::from(step), 100.0)).collect();
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]) && rates.iter().all(|rate| *rate >= 0.0));
    }

    #[test]
    fn runs_of_no_step_or_all_warm_up_stay_finite() {
        for (_, decay) in Decay::ALL {
            assert_eq!(schedule(decay, 0.5).rate(0.0, 0.0), 0.3);
            assert_eq!(schedule(decay, 1.0).rate(3.0, 4.0), 0.3);
            assert_eq!(schedule(decay, 0.5).rate(0.0, 1.0), 0.3);
        }
    }
}
