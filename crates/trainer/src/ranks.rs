//! Processes that train one model together: how they meet, and how they end, all or none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use balgrad::{Alone, Communicator};
use balgrad_distributed::JoinError;
use candle_core::{Device, Tensor};

use crate::Usage;
use crate::interrupt::{self, Interrupted, LEASH};
use crate::program::exit_code;

/// How long a rank that fails leaves the first one to say the same and to end all.
const COURTESY: Duration = Duration::from_millis(500);

/// Runs `work` among the ranks that this process was started with. An error or a panic on one rank ends all.
///
/// # Errors
/// What `work` returns in a process alone, and a build without MPI that was started as one of several ranks.
pub(crate) fn among(work: impl FnOnce(&Arc<dyn Communicator>) -> Result<ExitCode>) -> Result<ExitCode> {
    // A run of a grid is a process alone, whatever started the grid.
    let joined =
        if std::env::var_os(LEASH).is_some() { None } else { balgrad_distributed::join().map_err(unjoined)? };
    let Some(ranks) = joined else { return work(&(Arc::new(Alone) as Arc<dyn Communicator>)) };
    share_cores(ranks.as_ref())?;
    let outcome = guarded(ranks.as_ref(), || work(&ranks));
    // Only now: the last to let go of the ranks takes leave of the others.
    drop(ranks);
    outcome
}

fn unjoined(error: JoinError) -> anyhow::Error {
    match error {
        JoinError::NoMpi { .. } => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

/// Runs `work`; where it fails, says why and ends all ranks. Every rank that fails alike would say the same: the first goes first.
pub(crate) fn guarded<T>(ranks: &dyn Communicator, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let first = ranks.rank() == 0;
    let code = match &outcome {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            if !first {
                std::thread::sleep(COURTESY);
            }
            let rank = ranks.rank();
            let text = crate::program::text(error);
            say!("balgrad: {}{text}", if first { String::new() } else { format!("rank {rank}: ") });
            Some(exit_code(error))
        }
        // The panic has said what it is.
        Err(_) => Some(101),
    };
    if let Some(code) = code {
        ranks.abort(i32::from(code));
    }
    match outcome {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// An error on every rank if a signal has come on any.
///
/// # Errors
/// [`Interrupted`], with the signal's number; or a rank that is gone.
pub(crate) fn check_signals(ranks: &dyn Communicator) -> Result<()> {
    let mut signal = [interrupt::check().map_or_else(|Interrupted(signal)| signal as f64, |()| 0.0)];
    ranks.agree_max(&mut signal)?;
    if signal[0] > 0.0 { Err(Interrupted(signal[0] as usize).into()) } else { Ok(()) }
}

/// Whether any rank says so.
///
/// # Errors
/// When a rank is gone.
pub(crate) fn any(ranks: &dyn Communicator, mine: bool) -> Result<bool> {
    let mut all = [f64::from(u8::from(mine))];
    ranks.agree_max(&mut all)?;
    Ok(all[0] > 0.0)
}

/// Whether all ranks bring the same number.
///
/// # Errors
/// When a rank is gone.
pub(crate) fn same(ranks: &dyn Communicator, mine: f64) -> Result<bool> {
    let mut all = [mine, -mine];
    ranks.agree_max(&mut all)?;
    Ok(all[0] == -all[1])
}

/// Ranks that may run on the same cores of the same host share them, unless `RAYON_NUM_THREADS` says how many threads each has.
fn share_cores(ranks: &dyn Communicator) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cores = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap_or_default();
    let mine = balgrad_data::stable_hash(&[balgrad_data::atomic::host().as_bytes(), cores.as_bytes()]) as u32;
    let all = ranks.gather(&Tensor::new(&[mine], &Device::Cpu)?)?.to_vec1::<u32>()?;
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let sharing = all.iter().filter(|other| **other == mine).count().max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // One that was built already stays.
        let _ = rayon::ThreadPoolBuilder::new().num_threads((cores / sharing).max(1)).build_global();
    }
    Ok(())
}
