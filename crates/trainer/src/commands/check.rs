//! `balgrad check`

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use balgrad_data::Split;
use balgrad_trainer::stage::open_data;
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

/// Problems shown in full; the rest is counted.
const SHOWN: usize = 20;

impl Check {
    pub(super) fn run(self) -> Result<ExitCode> {
        let config = self.configured.load(&[])?;
        let data = open_data(&config)?;
        println!(
            "{}: {} ({}), {} classes, {} samples",
            data.name,
            data.task.name(),
            data.layout,
            data.classes.len(),
            data.samples.len()
        );
        for note in &data.notes {
            println!("  note: {note}");
        }
        let splits = [Split::Train, Split::Val, Split::Test];
        let mut counts: BTreeMap<u32, [usize; 3]> = BTreeMap::new();
        let mut totals = [0usize; 3];
        for sample in &data.samples {
            let Some(s) = splits.iter().position(|s| *s == sample.split) else { continue };
            totals[s] += 1;
            sample.labels.iter().for_each(|&c| counts.entry(c).or_default()[s] += 1);
        }
        let width = data.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(5);
        println!("{:width$}  {:>7} {:>7} {:>7}", "class", "train", "val", "test");
        for (class, name) in data.classes.iter().enumerate() {
            let [a, b, c] = counts.get(&(class as u32)).copied().unwrap_or_default();
            println!("{name:width$}  {a:>7} {b:>7} {c:>7}");
        }
        println!("{:width$}  {:>7} {:>7} {:>7}", "all", totals[0], totals[1], totals[2]);
        let count = |missing: fn(&balgrad_data::Sample) -> bool| data.samples.iter().filter(|s| missing(s)).count();
        let (images, texts) = (count(|s| s.image.is_none()), count(|s| s.text.is_none()));
        println!("without image {images}, without text {texts}");
        let mut problems: Vec<String> = data.problems.iter().map(ToString::to_string).collect();
        if !self.fast {
            use rayon::prelude::*;
            let broken: Vec<String> = data
                .samples
                .par_iter()
                .filter_map(|s| {
                    s.image.as_ref().and_then(|i| balgrad_data::decode(i).err()).map(|e| format!("{}: {e}", s.id))
                })
                .collect();
            problems.extend(broken);
        }
        for problem in problems.iter().take(SHOWN) {
            println!("problem: {problem}");
        }
        if problems.len() > SHOWN {
            println!("… and {} more", problems.len() - SHOWN);
        }
        println!("{} problems", problems.len());
        let unusable = totals.contains(&0) || data.classes.len() < 2;
        if unusable {
            println!("unusable: every split needs samples and there must be two classes or more");
        }
        Ok(if unusable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
