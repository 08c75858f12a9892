//! Parts of work for several machines.

use std::ops::Range;

/// Part `index` of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// The whole.
    pub(super) const WHOLE: Self = Self { index: 0, of: 1 };

    /// Reads `I/N`; `auto`, where the scheduler says both; or `auto/N`, where it says I alone.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::told(text, |name| std::env::var(name).ok())
    }

    fn told(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (index, of) = match text.split_once('/') {
            None if text == "auto" => array_task(variable)?,
            Some(("auto", of)) => (task(variable)?, of.parse().map_err(|_| expected(text))?),
            _ => {
                let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
                parts.ok_or_else(|| expected(text))?
            }
        };
        if index < of { Ok(Self { index, of }) } else { Err(format!("{index}/{of}: parts are counted from 0")) }
    }

    /// Whether this part has the run of an arm and a seed, both by their number. Every part has as many runs as any other, and as
    /// many of each arm, give or take one: no part is left with the slowest arm of all seeds.
    pub(super) fn has(self, arm: usize, seed: usize, seeds: usize) -> bool {
        (arm * seeds + seed) % self.of == self.index
    }

    /// This part of so many things in a row.
    pub(super) fn range(self, count: usize) -> Range<usize> {
        count * self.index / self.of..count * (self.index + 1) / self.of
    }
}

fn expected(text: &str) -> String {
    format!("`{text}`: expected I/N with I < N, such as 0/4, or auto, or auto/N")
}

fn number(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Option<Result<usize, String>> {
    let text = variable(name)?;
    Some(text.parse().map_err(|_| format!("{name} is `{text}`, no number")))
}

/// The number of this task, as the innermost scheduler says.
fn task(variable: impl Fn(&str) -> Option<String>) -> Result<usize, String> {
    let names = ["HQ_TASK_ID", "JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"];
    names.into_iter().find_map(|name| number(&variable, name)).unwrap_or_else(|| {
        Err("this is no task of a Slurm array, an indexed Kubernetes job or HyperQueue: give I/N".into())
    })
}

/// Which task of a Slurm array this is, and of how many.
fn array_task(variable: impl Fn(&str) -> Option<String>) -> Result<(usize, usize), String> {
    let id = task(&variable)?;
    let told = |name: &str| number(&variable, name).transpose();
    let inner = told("HQ_TASK_ID")?.or(told("JOB_COMPLETION_INDEX")?);
    let range = (told("SLURM_ARRAY_TASK_MIN")?, told("SLURM_ARRAY_TASK_MAX")?, told("SLURM_ARRAY_TASK_COUNT")?);
    let (None, (Some(first), Some(last), Some(count))) = (inner, range) else {
        return Err("the scheduler does not say how many tasks there are: give auto/N".into());
    };
    if !(first..=last).contains(&id) || last - first + 1 != count {
        return Err(format!("the array has gaps ({count} tasks from {first} to {last}): number its tasks without"));
    }
    Ok((id - first, count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(text: &str, variables: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Shard::told(text, variable).map(|shard| (shard.index, shard.of))
    }

    #[test]
    fn schedulers_say_which_part_a_task_is() {
        let slurm = |id, first, last, count| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", first),
                ("SLURM_ARRAY_TASK_MAX", last),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ]
        };
        assert_eq!(told("auto", &slurm("7", "5", "9", "5")), Ok((2, 5)));
        // One task of an array, submitted again.
        assert_eq!(told("auto/16", &slurm("3", "3", "3", "1")), Ok((3, 16)));
        assert!(told("auto", &slurm("7", "1", "7", "3")).unwrap_err().contains("gaps"));
        assert_eq!(told("auto/4", &[("JOB_COMPLETION_INDEX", "3")]), Ok((3, 4)));
        // HyperQueue's workers are themselves jobs of Slurm.
        let inside = [&slurm("1", "0", "1", "2")[..], &[("HQ_TASK_ID", "5")]].concat();
        assert_eq!(told("auto/6", &inside), Ok((5, 6)));
        assert!(told("auto", &inside).unwrap_err().contains("auto/N"));
        assert!(told("auto", &[]).unwrap_err().contains("give I/N"));
        assert!(told("auto/4", &[("HQ_TASK_ID", "4")]).unwrap_err().contains("from 0"));
        for wrong in ["3", "a/b", "4/4", "1/0", "auto/x", "/"] {
            assert!(told(wrong, &[("HQ_TASK_ID", "0")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_are_even_in_runs_and_in_runs_of_each_arm() {
        for (arms, seeds, of) in [(14, 5, 7), (15, 4, 4), (3, 2, 5), (14, 10, 5), (1, 1, 3), (6, 9, 4)] {
            let counts = |arm: Option<usize>| -> Vec<usize> {
                let runs = || {
                    (0..arms)
                        .flat_map(|a| (0..seeds).map(move |s| (a, s)))
                        .filter(|(a, _)| arm.is_none_or(|arm| arm == *a))
                };
                (0..of).map(|index| runs().filter(|&(a, s)| Shard { index, of }.has(a, s, seeds)).count()).collect()
            };
            for arm in std::iter::once(None).chain((0..arms).map(Some)) {
                let counts = counts(arm);
                let all = if arm.is_some() { seeds } else { arms * seeds };
                assert_eq!(counts.iter().sum::<usize>(), all);
                assert!(
                    counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                    "{arms} x {seeds} in {of}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn ranges_of_all_parts_are_the_whole() {
        for (count, of) in [(10, 3), (2, 5), (0, 2), (64, 64)] {
            let all: Vec<usize> = (0..of).flat_map(|index| Shard { index, of }.range(count)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }
}
