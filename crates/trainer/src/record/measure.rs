//! What a row of a table measures: a condition, or the average or gap of the impaired ones.

use std::fmt;
use std::str::FromStr;

use super::{Condition, UnknownCondition};

/// What is done to one modality at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Impairment {
    /// It is taken away.
    Missing,
    /// It is corrupted, as the config says.
    Noisy,
}

impl Impairment {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Missing, Self::Noisy];

    /// The condition in which it is done to a modality.
    pub fn of(self, modality: &str) -> Condition {
        match self {
            Self::Missing => Condition::missing(modality),
            Self::Noisy => Condition::noisy(modality),
        }
    }

    /// `missing` or `noisy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Noisy => "noisy",
        }
    }
}

/// One row of a table, for one score.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// The score under a condition.
    Of(Condition),
    /// `missing-avg`, `noisy-avg`: the mean of the impaired scores over modalities.
    Avg(Impairment),
    /// `missing-gap`, `noisy-gap`: the largest difference between two impaired scores; less is better.
    Gap(Impairment),
}

impl Measure {
    /// The rows of a table: full, then of each impairment its conditions, average and gap.
    pub fn table(modalities: &[impl AsRef<str>]) -> Vec<Self> {
        let impaired = Impairment::ALL.into_iter().flat_map(|impairment| {
            let each = modalities.iter().map(move |m| Self::Of(impairment.of(m.as_ref())));
            each.chain([Self::Avg(impairment), Self::Gap(impairment)])
        });
        std::iter::once(Self::Of(Condition::Full)).chain(impaired).collect()
    }

    /// The same, and then each modality's own view.
    pub fn all(modalities: &[impl AsRef<str>]) -> Vec<Self> {
        let views = modalities.iter().map(|m| Self::Of(Condition::only(m.as_ref())));
        Self::table(modalities).into_iter().chain(views).collect()
    }

    /// The conditions that it is computed from.
    pub fn conditions(&self, modalities: &[impl AsRef<str>]) -> Vec<Condition> {
        match self {
            Self::Of(condition) => vec![condition.clone()],
            Self::Avg(impairment) | Self::Gap(impairment) => {
                modalities.iter().map(|m| impairment.of(m.as_ref())).collect()
            }
        }
    }

    /// Its value from the scores under its [`conditions`](Self::conditions); NaN where one is NaN or there is none.
    pub fn value(&self, scores: &[f64]) -> f64 {
        match self {
            Self::Of(_) => scores.first().copied().unwrap_or(f64::NAN),
            Self::Avg(_) => scores.iter().sum::<f64>() / scores.len() as f64,
            Self::Gap(_) => {
                let (least, most) = scores.iter().fold((f64::NAN, f64::NAN), |(l, m), &s| (l.min(s), m.max(s)));
                if scores.iter().any(|s| s.is_nan()) { f64::NAN } else { most - least }
            }
        }
    }

    /// Whether it is a gap.
    pub fn is_gap(&self) -> bool {
        matches!(self, Self::Gap(_))
    }

    /// Its name in text, such as `Missing image` and `Noisy ΔGap`.
    pub fn title(&self) -> String {
        let text = match self {
            Self::Gap(impairment) => format!("{} ΔGap", impairment.name()),
            other => other.to_string().replace('-', " "),
        };
        let mut letters = text.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(condition) => write!(f, "{condition}"),
            Self::Avg(impairment) => write!(f, "{}-avg", impairment.name()),
            Self::Gap(impairment) => write!(f, "{}-gap", impairment.name()),
        }
    }
}

impl FromStr for Measure {
    type Err = UnknownCondition;

    fn from_str(name: &str) -> Result<Self, UnknownCondition> {
        let pairs = Impairment::ALL.into_iter().flat_map(|i| [Self::Avg(i), Self::Gap(i)]);
        pairs.into_iter().find(|pair| pair.to_string() == name).map_or_else(|| name.parse().map(Self::Of), Ok)
    }
}

crate::by_name::by_name!(Measure);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_papers_order_and_are_read_back() {
        let rows = Measure::table(&["image", "text"]);
        let names: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let papers = [
            "full",
            "missing-image",
            "missing-text",
            "missing-avg",
            "missing-gap",
            "noisy-image",
            "noisy-text",
            "noisy-avg",
            "noisy-gap",
        ];
        assert_eq!(names, papers);
        for row in Measure::all(&["image", "text"]) {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        let titles: Vec<String> = rows.iter().take(5).map(Measure::title).collect();
        assert_eq!(titles, ["Full", "Missing image", "Missing text", "Missing avg", "Missing ΔGap"]);
    }

    #[test]
    fn average_and_gap_are_the_papers_for_two_and_go_on_for_more() {
        let (avg, gap) = (Measure::Avg(Impairment::Missing), Measure::Gap(Impairment::Missing));
        let (a, b) = (0.123_456_789_f64, 0.7);
        assert_eq!((avg.value(&[a, b]), gap.value(&[a, b])), ((a + b) / 2.0, (a - b).abs()));
        assert_eq!((avg.value(&[0.5, 0.25, 0.75]), gap.value(&[0.5, 0.25, 0.75])), (0.5, 0.5));
        assert!(gap.value(&[0.5, f64::NAN]).is_nan() && gap.value(&[]).is_nan() && avg.value(&[]).is_nan());
    }
}
