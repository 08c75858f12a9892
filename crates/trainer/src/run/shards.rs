//! Shards of a batch: ranks as threads, so that a sum has the same terms in the same order on any number of processes.

use std::panic::resume_unwind;
use std::sync::Arc;

use anyhow::{Context, Error, Result};
use balgrad::{RANK_ENDED, Threads};
use balgrad_data::Dataset;

use super::{Options, train_rank};
use crate::Usage;
use crate::config::Config;
use crate::ranks::guarded;
use crate::record::RunRecord;
use crate::training::Watcher;

/// Threads of each of `ranks`, for so many shards.
///
/// # Errors
/// Shards that the ranks cannot share evenly, or whose sums would depend on their number.
pub(super) fn threads(shards: usize, ranks: usize) -> Result<usize, Usage> {
    if shards == 0 {
        return Ok(1);
    }
    if !shards.is_power_of_two() {
        let next = shards.next_power_of_two();
        return Err(Usage(format!("`shards` is {shards}, which is no power of two: take {next}")));
    }
    if !ranks.is_power_of_two() || ranks > shards {
        return Err(Usage(format!(
            "{shards} shards cannot be shared by {ranks} ranks: start 1, 2, 4 … ranks, at most {shards}, or raise `shards`"
        )));
    }
    Ok(shards / ranks)
}

/// Trains with so many threads, each with a replica of the model.
///
/// # Errors
/// Whatever a rank fails with.
pub(super) fn train(
    threads: usize,
    config: &Config,
    options: &Options,
    watcher: &mut dyn Watcher,
) -> Result<RunRecord> {
    let cores = (rayon::current_num_threads() / threads).max(1);
    let alone = options.communicator.size() == 1;
    let mut watchers: Vec<Option<&mut dyn Watcher>> = (0..threads).map(|_| None).collect();
    watchers[0] = Some(watcher);
    let one = |(ranks, watcher): (Threads, Option<&mut dyn Watcher>)| -> Result<RunRecord> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build()?;
        let options = Options { communicator: Arc::new(ranks), ..options.clone() };
        let mut silent = Silent;
        let watcher = watcher.unwrap_or(&mut silent);
        let mut train = || pool.install(|| train_rank(config, &options, watcher));
        // One of many processes ends all there and then; in one process the other threads learn of it.
        if alone { train() } else { guarded(options.communicator.as_ref(), train) }
    };
    let ranks = Threads::among(threads, Arc::clone(&options.communicator));
    let outcomes: Vec<Result<RunRecord>> = std::thread::scope(|scope| {
        let one = &one;
        let started: Vec<_> = ranks.into_iter().zip(watchers).map(|rank| scope.spawn(move || one(rank))).collect();
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    first_of(outcomes)
}

/// The first rank's record; of several errors, one that is not about another rank's end.
fn first_of(outcomes: Vec<Result<RunRecord>>) -> Result<RunRecord> {
    let (records, mut errors): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let follows = |error: &Error| error.chain().any(|cause| cause.to_string() == RANK_ENDED);
    errors.sort_by_key(|outcome| outcome.as_ref().is_err_and(follows));
    errors.into_iter().chain(records).next().context("there is no rank")?
}

/// Shows nothing.
struct Silent;

impl Watcher for Silent {
    fn data(&mut self, _: &Dataset) {}
    fn step(&mut self, _: usize, _: usize, _: f64) {}
    fn epoch(&mut self, _: usize, _: usize, _: f64, _: Option<f64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_shared_evenly_or_not_at_all() {
        assert_eq!(
            [(0, 1), (0, 3), (1, 1), (4, 1), (4, 2), (4, 4)].map(|(s, r)| threads(s, r)),
            [1, 1, 1, 4, 2, 1].map(Ok)
        );
        for (shards, ranks, fix) in [(6, 1, "take 8"), (4, 3, "at most 4"), (1, 2, "raise `shards`")] {
            assert!(threads(shards, ranks).is_err_and(|error| error.0.contains(fix)), "{shards} on {ranks}");
        }
    }
}
