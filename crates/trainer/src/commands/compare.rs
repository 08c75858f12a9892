//! `balgrad compare`: a grid of runs, each in a process of its own.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::arms::{self, Arm};
use crate::config::Config;
use crate::interrupt::{self, Hold, LEASH};
use crate::{Usage, run};
use anyhow::{Context, Result, bail};
use balgrad::Value;
use clap::Args;

use super::Configured;
use crate::storage::{create_folder, write_atomic};

#[derive(Args)]
pub(super) struct Compare {
    #[command(flatten)]
    configured: Configured,
    /// A comma-separated list of methods; `balgrad:share=loss` sets a setting, `joint+dropout` adds modality dropout;
    /// `paper` and `all` stand for many.
    #[arg(long, default_value = "paper")]
    methods: String,
    /// How many seeds (0, 1, …), or a range such as `5..10`.
    #[arg(long, default_value = "5", value_parser = seeds)]
    seeds: Range<u64>,
    /// The folder of run folders: DIR/METHOD/seed-N.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Runs at a time. Default: one per two cores, at least two where there are two.
    #[arg(long)]
    jobs: Option<usize>,
    /// Do only part I of N of the grid (from 0), for several machines on one folder.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Print nothing but errors.
    #[arg(long)]
    quiet: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |t: &str| {
        t.parse::<u64>().map_err(|_| format!("`{text}`: expected a count such as 5, or a range such as 5..10"))
    };
    let range = match text.split_once("..") {
        None => 0..number(text)?,
        Some((a, b)) => number(a)?..number(b)?,
    };
    if range.is_empty() { Err(format!("`{text}` names no seed")) } else { Ok(range) }
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| i < n).ok_or_else(|| format!("`{text}`: expected I/N with I < N, such as 0/4"))
}

/// One run of the grid.
struct Job {
    arm: Arm,
    seed: u64,
    folder: PathBuf,
}

impl Compare {
    pub(super) fn run(self) -> Result<ExitCode> {
        let arms = arms::parse(&self.methods)?;
        let mut jobs = VecDeque::new();
        let (mut total, mut done) = (0, 0);
        // Seeds outermost: an interrupted grid holds whole rows of few seeds, not few rows of all.
        for seed in self.seeds.clone() {
            for arm in &arms {
                let (part, parts) = self.shard.unwrap_or((0, 1));
                total += 1;
                if (total - 1) % parts != part {
                    continue;
                }
                let folder = self.out.join(arm.label.replace([':', '='], "_")).join(format!("seed-{seed}"));
                let config = self.config(arm, seed)?;
                if jobs.is_empty() && done == 0 {
                    config.tell_notes();
                }
                if run::is_done(&folder, &config)? {
                    done += 1;
                } else {
                    jobs.push_back(Job { arm: arm.clone(), seed, folder });
                }
            }
        }
        if !self.quiet {
            say!("{} runs to do, {done} done already", jobs.len());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = self.jobs.unwrap_or(cores.div_ceil(2).max(2.min(cores))).max(1);
        // Each process gets its share of the cores; results do not depend on it.
        let threads = (cores / at_once).max(1);
        self.work(jobs, at_once, threads)?;
        Ok(ExitCode::SUCCESS)
    }

    fn config(&self, arm: &Arm, seed: u64) -> Result<Config, Usage> {
        let mut sets = self.configured.sets(&[("seed", Some(Value::Count(seed)))]);
        sets.extend(arm.sets.iter().cloned());
        self.configured.resolve(&sets)
    }

    fn work(&self, mut waiting: VecDeque<Job>, at_once: usize, threads: usize) -> Result<()> {
        let _hold = Hold::new();
        let (total, started) = (waiting.len(), Instant::now());
        let mut running: Vec<(Job, Child)> = Vec::new();
        let (mut finished, mut failed) = (0, Vec::new());
        while !(waiting.is_empty() && running.is_empty()) {
            if let Err(stop) = interrupt::check() {
                // All are told at once, and each saves itself.
                running.iter_mut().for_each(|(_, child)| drop(child.stdin.take()));
                running.iter_mut().for_each(|(_, child)| drop(child.wait()));
                return Err(stop.into());
            }
            while running.len() < at_once
                && let Some(job) = waiting.pop_front()
            {
                let child = self.start(&job, threads)?;
                running.push((job, child));
            }
            let mut still = Vec::with_capacity(running.len());
            for (job, mut child) in running {
                match child.try_wait()? {
                    None => still.push((job, child)),
                    Some(status) => {
                        finished += 1;
                        if !status.success() {
                            failed.push(format!("{} (exit {})", job.folder.display(), status.code().unwrap_or(-1)));
                        }
                        if !self.quiet {
                            let seconds = started.elapsed().as_secs_f64();
                            let eta = seconds / f64::from(finished) * (total as f64 - f64::from(finished));
                            let line = run::summary_line(&job.folder);
                            say!("[{finished}/{total}] {} seed {}: {line}  (eta {eta:.0} s)", job.arm.label, job.seed);
                        }
                    }
                }
            }
            running = still;
            std::thread::sleep(Duration::from_millis(20));
        }
        if !failed.is_empty() {
            bail!(
                "{} of {total} runs failed: {}; the others are kept, and the same command does what is left",
                failed.len(),
                failed.join(", ")
            );
        }
        Ok(())
    }

    fn start(&self, job: &Job, threads: usize) -> Result<Child> {
        let config = self.config(&job.arm, job.seed)?;
        let file = prepared(&job.folder, &config)?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(["train", "--resume", "--quiet", "--config"]).arg(&file).arg("--out").arg(&job.folder);
        command.env("RAYON_NUM_THREADS", threads.to_string()).stdout(Stdio::null());
        // Closed when this process says so, or ends in whatever way: the run then saves itself and leaves.
        command.env(LEASH, "stdin").stdin(Stdio::piped());
        command.spawn().context("cannot start a run")
    }
}

/// Writes the run's config into its folder, where `train --resume` takes it up.
fn prepared(folder: &Path, config: &Config) -> Result<PathBuf> {
    create_folder(folder)?;
    let file = folder.join("config.toml");
    write_atomic(&file, config.to_toml().as_bytes())?;
    Ok(file)
}
