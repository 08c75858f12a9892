//! The table of scores: whoever adds one writes its row, here or in a [registry](crate::Registry).

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use thiserror::Error;

use super::{Classified, Measured, Scored, Task, calibration, counts, ranking, values};
use crate::registry::registry;
use crate::statistics::{Resampled, resampled};

/// Which way a score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// How a score is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A fraction, written in percent.
    Percent,
    /// A number, written as it is.
    #[default]
    Plain,
}

impl Unit {
    /// What a value is multiplied with before it is written.
    pub fn scale(self) -> f64 {
        match self {
            Self::Percent => 100.0,
            Self::Plain => 1.0,
        }
    }
}

/// What a score needs, and how it is computed from it; `None` where it is undefined.
#[derive(Debug, Clone, Copy)]
pub enum Compute {
    /// Probabilities and labels.
    Classes(fn(&Classified<'_>) -> Option<f64>),
    /// Predicted and true numbers.
    Values(fn(&Measured) -> Option<f64>),
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Its name in results files and on the command line.
    pub name: &'static str,
    /// Its name in text.
    pub title: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// How it is written.
    pub unit: Unit,
    /// What it needs, and how it is computed.
    pub compute: Compute,
    /// Whether a data set may name it as its headline.
    pub leads: bool,
    /// Forms of target whose headline it is, unless the data set names another.
    pub headline: &'static [Task],
    /// Forms of target for which a report compares it beside the headline.
    pub compared: &'static [Task],
    /// How it is reduced to sums per group of samples, for the bootstrap; none where it cannot be.
    pub resample: Option<Resample>,
}

/// Reduces a score of predictions, whose samples are in groups `0..count`, to sums per group.
pub type Resample = fn(scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Resampled>;

/// The scores of this workspace, in the order of results files.
pub static METRICS: &[Metric] = &[
    Metric {
        headline: &[Task::MultiClass, Task::Binary],
        compared: &[Task::Binary],
        resample: Some(resampled::accuracy),
        ..Metric::percent("accuracy", "accuracy", Compute::Classes(counts::accuracy))
    },
    Metric {
        headline: &[Task::MultiLabel],
        compared: &[Task::Binary],
        resample: Some(resampled::f1_macro),
        ..Metric::percent("f1_macro", "F1-macro", Compute::Classes(counts::f1_macro))
    },
    Metric::percent("f1_micro", "F1-micro", Compute::Classes(counts::f1_micro)),
    Metric {
        compared: &[Task::Binary],
        resample: Some(resampled::auroc),
        ..Metric::percent("auroc", "AUROC", Compute::Classes(|c| c.macro_mean(c.ranked(), ranking::auroc)))
    },
    Metric::percent("map", "mAP", Compute::Classes(|c| c.macro_mean(0..c.classes, ranking::average_precision))),
    Metric { leads: false, better: Better::Lower, ..Metric::percent("ece", "ECE", Compute::Classes(calibration::ece)) },
    Metric {
        leads: false,
        better: Better::Lower,
        ..Metric::percent("brier", "Brier score", Compute::Classes(calibration::brier))
    },
    Metric {
        better: Better::Lower,
        headline: &[Task::Regression],
        resample: Some(resampled::mae),
        ..Metric::plain("mae", "MAE", Compute::Values(values::mae))
    },
    Metric {
        better: Better::Lower,
        resample: Some(resampled::rmse),
        ..Metric::plain("rmse", "RMSE", Compute::Values(values::rmse))
    },
    Metric::plain("r2", "R²", Compute::Values(values::r2)),
    Metric::plain("pearson", "Pearson's r", Compute::Values(values::pearson)),
];

impl Metric {
    /// A fraction, better where it is higher, that no task has for its headline.
    pub const fn percent(name: &'static str, title: &'static str, compute: Compute) -> Self {
        Self {
            name,
            title,
            better: Better::Higher,
            unit: Unit::Percent,
            compute,
            leads: true,
            headline: &[],
            compared: &[],
            resample: None,
        }
    }

    /// The same of a number that is no fraction.
    pub const fn plain(name: &'static str, title: &'static str, compute: Compute) -> Self {
        Self { unit: Unit::Plain, ..Self::percent(name, title, compute) }
    }
}

/// A row of the table, by reference.
#[derive(Debug, Clone, Copy)]
pub struct Score(&'static Metric);

/// No score has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown metric `{name}` (known: {known})")]
pub struct UnknownScore {
    /// The name.
    pub name: String,
    /// The names that there are, with commas between them.
    pub known: String,
}

impl Score {
    /// Every score.
    pub fn all() -> impl Iterator<Item = Self> {
        registry().metrics.iter().copied().map(Self)
    }

    /// The scores that suit a form of target.
    pub fn of(form: Task) -> impl Iterator<Item = Self> {
        Self::all().filter(move |score| score.suits(form))
    }

    /// The score that stands for a run, unless the data set names another.
    pub fn headline(form: Task) -> Self {
        Self::all().find(|score| score.headline.contains(&form)).unwrap_or(Self(&METRICS[0]))
    }

    /// Whether it is computed for a form of target.
    pub fn suits(self, form: Task) -> bool {
        matches!(self.compute, Compute::Values(_)) == (form == Task::Regression)
    }

    /// Its value; `None` where it is undefined, or does not suit the predictions.
    pub fn compute(self, scored: &Scored<'_>) -> Option<f64> {
        match (self.compute, scored) {
            (Compute::Classes(compute), Scored::Classes(classes)) => compute(classes),
            (Compute::Values(compute), Scored::Values(values)) => compute(values),
            _ => None,
        }
    }

    /// Whether `a` is better than `b`.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self.better {
            Better::Higher => a > b,
            Better::Lower => a < b,
        }
    }

    /// What every value is better than.
    pub fn worst(self) -> f64 {
        match self.better {
            Better::Higher => f64::MIN,
            Better::Lower => f64::MAX,
        }
    }

    /// From better to worse.
    pub fn order(self, a: f64, b: f64) -> Ordering {
        match self.better {
            Better::Higher => b.total_cmp(&a),
            Better::Lower => a.total_cmp(&b),
        }
    }

    /// A value as text: percent with `digits` decimals, or a plain number with at least as many and four significant
    /// digits.
    pub fn text(self, value: f64, digits: usize) -> String {
        let digits = self.digits(value, digits);
        format!("{:.digits$}", self.unit.scale() * value)
    }

    /// The decimals with which [`text`](Self::text) writes a value.
    pub fn digits(self, value: f64, digits: usize) -> usize {
        match self.unit {
            Unit::Percent => digits,
            Unit::Plain if value == 0.0 || !value.is_finite() => digits,
            Unit::Plain => (3 - value.abs().log10().floor() as i32).clamp(digits as i32, 9) as usize,
        }
    }

    fn place(self) -> usize {
        Self::all().position(|score| score.name == self.name).unwrap_or(usize::MAX)
    }
}

impl Deref for Score {
    type Target = Metric;

    fn deref(&self) -> &Metric {
        self.0
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Score {
    type Err = UnknownScore;

    fn from_str(name: &str) -> Result<Self, UnknownScore> {
        let unknown = || UnknownScore {
            name: name.to_owned(),
            known: Self::all().map(|score| score.0.name).collect::<Vec<_>>().join(", "),
        };
        Self::all().find(|score| score.name == name).ok_or_else(unknown)
    }
}

crate::by_name::by_name!(Score);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_unique_and_every_form_has_one_headline() {
        for (place, score) in Score::all().enumerate() {
            assert_eq!(score.place(), place, "{score}");
            assert_eq!(score.name.parse(), Ok(score));
            assert!(score.leads || score.headline.is_empty(), "{score}");
        }
        for form in Task::ALL {
            let headlines: Vec<Score> = Score::all().filter(|s| s.headline.contains(&form)).collect();
            assert_eq!(headlines, [Score::headline(form)], "{form:?}");
            assert!(headlines[0].suits(form));
        }
        assert!("acuracy".parse::<Score>().unwrap_err().to_string().contains("known: accuracy, f1_macro"));
    }

    #[test]
    fn direction_and_unit_are_read_off_the_row() {
        let (accuracy, mae) = (Score::headline(Task::Binary), Score::headline(Task::Regression));
        assert!(accuracy.is_better(0.8, 0.7) && mae.is_better(0.7, 0.8));
        assert!(accuracy.is_better(0.0, accuracy.worst()) && mae.is_better(1e9, mae.worst()));
        assert_eq!((accuracy.text(0.12345, 1), accuracy.text(1.0, 2)), ("12.3".into(), "100.00".into()));
        assert_eq!((mae.text(0.012_345, 1), mae.text(1234.5, 1)), ("0.01235".into(), "1234.5".into()));
    }
}
