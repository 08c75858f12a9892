//! `balgrad check`

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::session::open_data;
use anyhow::Result;
use balgrad_data::{Problem, Split};
use clap::Args;

use super::Configured;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    configured: Configured,
    /// Do not open the images.
    #[arg(long)]
    fast: bool,
}

/// Characters of a class that are shown.
const LONGEST: usize = 48;

impl Check {
    pub(super) fn run(self) -> Result<ExitCode> {
        let config = self.configured.load(&[])?;
        let data = open_data(&config)?;
        out!(
            "{}: {} ({}), {} classes, {} samples",
            data.name,
            data.task.name(),
            data.layout,
            data.classes.len(),
            data.samples.len()
        );
        for note in &data.notes {
            out!("  note: {note}");
        }
        let splits = [Split::Train, Split::Val, Split::Test];
        let mut counts: BTreeMap<u32, [usize; 3]> = BTreeMap::new();
        let mut totals = [0usize; 3];
        for sample in &data.samples {
            let Some(s) = splits.iter().position(|s| *s == sample.split) else { continue };
            totals[s] += 1;
            sample.target.classes().iter().for_each(|&c| counts.entry(c).or_default()[s] += 1);
        }
        let classes: Vec<String> = data.classes.iter().map(|name| short(name)).collect();
        let width = classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(5);
        out!("{:width$}  {:>7} {:>7} {:>7}", "class", "train", "val", "test");
        for (class, name) in classes.iter().enumerate() {
            let [a, b, c] = counts.get(&(class as u32)).copied().unwrap_or_default();
            out!("{name:width$}  {a:>7} {b:>7} {c:>7}");
        }
        out!("{:width$}  {:>7} {:>7} {:>7}", "all", totals[0], totals[1], totals[2]);
        let without = |(m, modality): (usize, &&balgrad_data::Modality)| {
            let count = data.samples.iter().filter(|s| s.parts[m].is_none()).count();
            format!("without {} {count}", modality.name)
        };
        out!("{}", data.modalities.iter().enumerate().map(without).collect::<Vec<_>>().join(", "));
        let mut all_broken = false;
        let mut problems = data.problems.clone();
        if !self.fast {
            use rayon::prelude::*;
            let broken = |sample: &balgrad_data::Sample| {
                Some(Problem { place: sample.id.clone(), what: data.fault(sample)?.to_string() })
            };
            let broken: Vec<Problem> = data.samples.par_iter().filter_map(broken).collect();
            all_broken = !broken.is_empty() && broken.len() == data.samples.len();
            problems.extend(broken);
        }
        for line in super::problems(&problems) {
            out!("{line}");
        }
        out!("{} problems", problems.len());
        let classes = data.task != balgrad_data::Task::Regression;
        let unusable = totals[..2].contains(&0) || classes && data.classes.len() < 2;
        if unusable {
            out!("unusable: training and validation need samples, and there must be two classes or more");
        } else if totals[2] == 0 {
            out!("no labelled test sample: a model can be trained, and nothing is scored");
        }
        if all_broken {
            out!("unusable: no sample can be opened");
        }
        if unusable || all_broken {
            return Ok(ExitCode::FAILURE);
        }
        say!("next: balgrad train --data {}", super::shell(&config.data.source));
        Ok(ExitCode::SUCCESS)
    }
}

/// The start of a name that is too long for a table.
fn short(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
