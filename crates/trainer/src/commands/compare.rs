//! `balgrad compare`: a grid of runs, each in a process of its own.

mod script;

use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::arms::{self, Arm};
use crate::config::Config;
use crate::environment::cache_folder;
use crate::interrupt::{self, Hold, LEASH};
use crate::{Usage, run};
use anyhow::{Context, Result, bail};
use balgrad::Value;
use balgrad_data::atomic::remove_leftovers;
use clap::Args;

use super::Configured;
use super::shard::Shard;
use crate::program::BUSY;
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
    /// Do only part I of N of the grid (from 0), for several machines on one folder. `auto`: as the task of a Slurm array says;
    /// `auto/N`: as the task of an indexed Kubernetes job or of HyperQueue says, of N.
    #[arg(long, value_name = "I/N|auto|auto/N", value_parser = Shard::parse)]
    shard: Option<Shard>,
    /// Print how many runs that is, and do nothing.
    #[arg(long)]
    count: bool,
    /// Print a script for Slurm's sbatch that does the grid as an array of so many tasks [default: one a run], and do nothing.
    #[arg(long, value_name = "TASKS", num_args = 0..=1, require_equals = true, conflicts_with_all = ["shard", "count"])]
    sbatch: Option<Option<NonZeroUsize>>,
    /// Print a manifest for Kubernetes that does the grid as an indexed job of so many pods [default: one a run], and do nothing.
    #[arg(long, value_name = "PODS", num_args = 0..=1, require_equals = true, conflicts_with_all = ["shard", "count", "sbatch"])]
    kubernetes: Option<Option<NonZeroUsize>>,
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

/// One run of the grid.
struct Job {
    arm: Arm,
    seed: u64,
    folder: PathBuf,
    config: Config,
    /// When another process had its folder, and it is time to try again.
    again: Option<Instant>,
}

/// How long a run is left to another process before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl Compare {
    pub(super) fn run(self) -> Result<ExitCode> {
        let jobs = self.grid()?;
        let instead = match (self.count, self.sbatch, self.kubernetes) {
            (true, ..) => Some(format!("{}\n", jobs.len())),
            (_, Some(tasks), _) => Some(script::sbatch(jobs.len(), tasks)?),
            (.., Some(pods)) => Some(script::kubernetes(jobs.len(), pods)?),
            _ => None,
        };
        if let Some(text) = instead {
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(job) = jobs.front() {
            job.config.tell_notes();
        }
        remove_leftovers(&cache_folder());
        let all = jobs.len();
        let mut waiting = VecDeque::with_capacity(all);
        for job in jobs {
            if !run::is_done(&job.folder, &job.config)? {
                waiting.push_back(job);
            }
        }
        if !self.quiet {
            say!("{} runs to do, {} done already", waiting.len(), all - waiting.len());
        }
        let cores = balgrad_nn::cores();
        let at_once = self.jobs.unwrap_or(cores.div_ceil(2).max(2.min(cores))).min(waiting.len()).max(1);
        // Each process gets its share of the cores; results do not depend on it.
        let threads = (cores / at_once).max(1);
        self.work(waiting, at_once, threads)?;
        Ok(ExitCode::SUCCESS)
    }

    /// All runs of this part of the grid. Seeds are outermost: an interrupted grid holds whole rows of few seeds, not few rows of all.
    fn grid(&self) -> Result<VecDeque<Job>, Usage> {
        let arms = arms::parse(&self.methods)?;
        let (shard, seeds) = (self.shard.unwrap_or(Shard::WHOLE), self.seeds.clone().count());
        let mut jobs = VecDeque::new();
        for (s, seed) in self.seeds.clone().enumerate() {
            for (_, arm) in arms.iter().enumerate().filter(|(a, _)| shard.has(*a, s, seeds)) {
                let folder = self.out.join(arm.label.replace([':', '='], "_")).join(format!("seed-{seed}"));
                jobs.push_back(Job { arm: arm.clone(), seed, folder, config: self.config(arm, seed)?, again: None });
            }
        }
        Ok(jobs)
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
                && let Some(next) = waiting.iter().position(|job| job.again.is_none_or(|again| again <= Instant::now()))
                && let Some(job) = waiting.remove(next)
            {
                if job.again.is_some() && run::is_done(&job.folder, &job.config)? {
                    finished += 1;
                    if !self.quiet {
                        say!("[{finished}/{total}] {} seed {}: done by another process", job.arm.label, job.seed);
                    }
                    continue;
                }
                let child = start(&job, threads)?;
                running.push((job, child));
            }
            let mut still = Vec::with_capacity(running.len());
            for (mut job, mut child) in running {
                let Some(status) = child.try_wait()? else {
                    still.push((job, child));
                    continue;
                };
                // A signal to the whole group ends runs before this process hears of it.
                if !status.success() && interrupt::check().is_err() {
                    waiting.push_back(job);
                    continue;
                }
                if status.code() == Some(BUSY.into()) {
                    if job.again.is_none() && !self.quiet {
                        say!("{} is being written by {}: left to it", job.folder.display(), run::writer(&job.folder));
                    }
                    job.again = Some(Instant::now() + PAUSE);
                    waiting.push_back(job);
                    continue;
                }
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
}

fn start(job: &Job, threads: usize) -> Result<Child> {
    let file = prepared(&job.folder, &job.config)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(["train", "--resume", "--quiet", "--config"]).arg(&file).arg("--out").arg(&job.folder);
    command.env("RAYON_NUM_THREADS", threads.to_string()).stdout(Stdio::null());
    // Closed when this process says so, or ends in whatever way: the run then saves itself and leaves.
    command.env(LEASH, "stdin").stdin(Stdio::piped());
    command.spawn().context("cannot start a run")
}

/// Writes the run's config into its folder, where `train --resume` takes it up.
fn prepared(folder: &Path, config: &Config) -> Result<PathBuf> {
    create_folder(folder)?;
    let file = folder.join("config.toml");
    write_atomic(&file, config.to_toml().as_bytes())?;
    Ok(file)
}
