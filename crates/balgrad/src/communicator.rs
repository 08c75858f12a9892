//! A seam for ranks: several processes or threads that train as one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::{Error, Result, Tensor};

/// Ranks that train as one. Every rank makes the same calls in the same order.
pub trait Communicator: Send + Sync {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize {
        0
    }

    /// How many ranks there are.
    fn size(&self) -> usize {
        1
    }

    /// Replaces each tensor by its sum over all ranks, in a fixed order: the same bits on every rank. A rank's tensors are those of
    /// the others in number, shape and type.
    ///
    /// # Errors
    /// When a rank is gone, or tensors do not fit.
    fn sum(&self, tensors: &mut [&mut Tensor]) -> Result<()>;

    /// The rows of all ranks, in order of rank, as constants, `[sum of rows, …]`. The numbers of rows may differ.
    ///
    /// # Errors
    /// When a rank is gone, or rows do not fit.
    fn gather(&self, rows: &Tensor) -> Result<Tensor>;

    /// Replaces each number by the largest of all ranks: for what ranks must agree on, such as whether to stop.
    ///
    /// # Errors
    /// When a rank is gone.
    fn agree_max(&self, numbers: &mut [f64]) -> Result<()>;

    /// Ends all ranks, after an error on this one.
    fn abort(&self, _code: i32) {}
}

/// One rank: nothing to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Communicator for Alone {
    fn sum(&self, _tensors: &mut [&mut Tensor]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.detach())
    }

    fn agree_max(&self, _numbers: &mut [f64]) -> Result<()> {
        Ok(())
    }
}

/// Ranks as threads of one process: for tests, and for shards of a batch. Sums follow one binary tree over the ranks.
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    meeting: Mutex<Meeting>,
    met: Condvar,
    /// What each rank brings to a call.
    brought: Mutex<Vec<Vec<Tensor>>>,
    numbers: Mutex<Vec<Vec<f64>>>,
}

/// Where ranks wait for each other.
#[derive(Default)]
struct Meeting {
    /// How many have come to this meeting.
    here: usize,
    /// How many meetings there have been.
    before: usize,
    /// Whether a rank has ended, so that none will be complete again.
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    /// A communicator for each of `size` threads. Once one of them is dropped, the others' calls fail.
    ///
    /// Each rank that computes on rayon needs a pool of its own: a rank that waits holds its thread.
    pub fn new(size: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            meeting: Mutex::default(),
            met: Condvar::new(),
            brought: Mutex::new(vec![Vec::new(); size]),
            numbers: Mutex::new(vec![Vec::new(); size]),
        });
        (0..size).map(|rank| Self { rank, shared: Arc::clone(&shared) }).collect()
    }

    /// Puts this rank's values beside the others', and reads all of them.
    fn exchange<T: Clone, R>(&self, table: &Mutex<Vec<T>>, mine: T, read: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
        lock(table)[self.rank] = mine;
        self.meet()?;
        let all = lock(table).clone();
        // No rank may bring its next values before all have read these.
        self.meet()?;
        read(&all)
    }

    /// Waits for all ranks.
    fn meet(&self) -> Result<()> {
        let mut meeting = lock(&self.shared.meeting);
        meeting.here += 1;
        let this = meeting.before;
        if meeting.here == self.size() {
            (meeting.here, meeting.before) = (0, this + 1);
            self.shared.met.notify_all();
        }
        while meeting.before == this && !meeting.over {
            meeting = self.shared.met.wait(meeting).unwrap_or_else(PoisonError::into_inner);
        }
        if meeting.before == this { Err(Error::Msg("another rank has ended".into())) } else { Ok(()) }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.shared.meeting).over = true;
        self.shared.met.notify_all();
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        lock(&self.shared.brought).len()
    }

    fn sum(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        let mine = tensors.iter().map(|tensor| tensor.detach()).collect();
        let sums = self.exchange(&self.shared.brought, mine, |all: &[Vec<Tensor>]| {
            if all.iter().any(|brought| brought.len() != tensors.len()) {
                return Err(Error::Msg("ranks bring different numbers of tensors to a sum".into()));
            }
            let column = |i: usize| tree(&all.iter().map(|brought| &brought[i]).collect::<Vec<_>>());
            (0..tensors.len()).map(column).collect::<Result<Vec<_>>>()
        })?;
        tensors.iter_mut().zip(sums).for_each(|(tensor, sum)| **tensor = sum);
        Ok(())
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        self.exchange(&self.shared.brought, vec![rows.detach()], |all| {
            let some: Vec<&Tensor> = all.iter().flatten().filter(|rows| rows.elem_count() > 0).collect();
            if some.is_empty() { Ok(rows.detach()) } else { Tensor::cat(&some, 0) }
        })
    }

    fn agree_max(&self, numbers: &mut [f64]) -> Result<()> {
        let most = self.exchange(&self.shared.numbers, numbers.to_vec(), |all: &[Vec<f64>]| {
            let largest = |i: usize| all.iter().filter_map(|n| n.get(i)).copied().fold(f64::NEG_INFINITY, f64::max);
            Ok((0..numbers.len()).map(largest).collect::<Vec<_>>())
        })?;
        numbers.copy_from_slice(&most);
        Ok(())
    }
}

/// The sum along one binary tree: `((0 + 1) + (2 + 3)) + …`.
fn tree(tensors: &[&Tensor]) -> Result<Tensor> {
    match tensors {
        [] => Err(Error::Msg("there is nothing to sum".into())),
        [one] => Ok((*one).clone()),
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            tree(left)? + tree(right)?
        }
    }
}
