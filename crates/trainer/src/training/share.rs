//! Ranks that train one model: which rows of a batch each computes, and what they agree on.

use std::borrow::Cow;
use std::sync::Arc;

use balgrad::Communicator;

use crate::interrupt::Interrupted;
use crate::split_data::Pick;

/// This rank's share of every batch.
pub(super) struct Share {
    /// The ranks.
    pub communicator: Arc<dyn Communicator>,
    /// Rows of a whole batch.
    batch: usize,
    /// Rows that each rank computes of it.
    pub rows: usize,
}

impl Share {
    pub(super) fn new(communicator: &Arc<dyn Communicator>, batch: usize) -> Self {
        Self { communicator: Arc::clone(communicator), batch, rows: batch.div_ceil(communicator.size()) }
    }

    /// What this rank reads: the same number of samples of every batch. Where it has fewer, the batch's first fills its share up,
    /// and does not count.
    pub(super) fn of<'p>(&self, picks: &'p [Pick]) -> Cow<'p, [Pick]> {
        if self.communicator.size() == 1 {
            return picks.into();
        }
        let first = self.communicator.rank() * self.rows;
        let share = |batch: &'p [Pick]| {
            let pick = move |row| batch.get(row).copied().unwrap_or(batch[0]);
            (first..first + self.rows).map(pick)
        };
        picks.chunks(self.batch).flat_map(share).collect()
    }

    /// How many rows of a batch of this length are this rank's own.
    pub(super) fn own(&self, batch: usize) -> usize {
        batch.saturating_sub(self.communicator.rank() * self.rows).min(self.rows)
    }

    /// Whether any rank has run out of time, must save, or was told to stop: all of them then do.
    pub(super) fn agree(
        &self,
        late: bool,
        due: bool,
        stop: Result<(), Interrupted>,
    ) -> candle_core::Result<(bool, bool, Result<(), Interrupted>)> {
        let signal = stop.map_or_else(|Interrupted(signal)| signal, |()| 0);
        let mut all = [f64::from(u8::from(late)), f64::from(u8::from(due)), signal as f64];
        self.communicator.agree_max(&mut all)?;
        let [late, due, signal] = all;
        Ok((late > 0.0, due > 0.0, if signal > 0.0 { Err(Interrupted(signal as usize)) } else { Ok(()) }))
    }
}
