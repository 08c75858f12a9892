//! A seam for ranks: several processes or threads that train as one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Error, Result, Tensor};

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

/// What the calls of [`Threads`] fail with once another of them was dropped.
pub const RANK_ENDED: &str = "another rank has ended";

/// Ranks as threads: of one process, or of several, each with as many. For shards of a batch, and for tests. Sums follow one
/// binary tree over the ranks.
pub struct Threads {
    thread: usize,
    shared: Arc<Shared>,
}

struct Shared {
    size: usize,
    /// The processes.
    outer: Arc<dyn Communicator>,
    meeting: Mutex<Meeting>,
    met: Condvar,
    /// What each thread brings to a call.
    brought: Mutex<Vec<Vec<Tensor>>>,
    numbers: Mutex<Vec<Vec<f64>>>,
    /// What the first thread has made of it.
    result: Mutex<Made>,
}

/// The outcome of a call.
#[derive(Clone)]
enum Made {
    Tensors(Vec<Tensor>),
    Numbers(Vec<f64>),
    Failed(String),
}

/// Where threads wait for each other.
#[derive(Default)]
struct Meeting {
    /// How many have come to this meeting.
    here: usize,
    /// How many meetings there have been.
    before: usize,
    /// Whether a thread has ended, so that none will be complete again.
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
        Self::among(size, Arc::new(Alone))
    }

    /// The same for one process of several, each with `size` threads: ranks are numbered process by process. Where both numbers
    /// are powers of two, sums follow the tree of as many threads of one process, and have the same bits.
    pub fn among(size: usize, processes: Arc<dyn Communicator>) -> Vec<Self> {
        let shared = Arc::new(Shared {
            size,
            outer: processes,
            meeting: Mutex::default(),
            met: Condvar::new(),
            brought: Mutex::new(vec![Vec::new(); size]),
            numbers: Mutex::new(vec![Vec::new(); size]),
            result: Mutex::new(Made::Numbers(Vec::new())),
        });
        (0..size).map(|thread| Self { thread, shared: Arc::clone(&shared) }).collect()
    }

    /// Puts this thread's values beside the others'; the first thread makes one of all, which all get.
    fn exchange<T>(&self, table: &Mutex<Vec<T>>, mine: T, make: impl FnOnce(&[T]) -> Result<Made>) -> Result<Made> {
        lock(table)[self.thread] = mine;
        self.meet()?;
        if self.thread == 0 {
            let made = make(&lock(table)).unwrap_or_else(|error| Made::Failed(error.to_string()));
            *lock(&self.shared.result) = made;
        }
        // The result stands until all have come to the next call.
        self.meet()?;
        match lock(&self.shared.result).clone() {
            Made::Failed(why) => Err(Error::Msg(why)),
            made => Ok(made),
        }
    }

    fn exchange_tensors(
        &self,
        mine: Vec<Tensor>,
        make: impl FnOnce(&[Vec<Tensor>]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        match self.exchange(&self.shared.brought, mine, |all| Ok(Made::Tensors(make(all)?)))? {
            Made::Tensors(tensors) => Ok(tensors),
            _ => Err(Error::Msg("ranks make different calls".into())),
        }
    }

    /// Waits for all threads.
    fn meet(&self) -> Result<()> {
        let mut meeting = lock(&self.shared.meeting);
        meeting.here += 1;
        let this = meeting.before;
        if meeting.here == self.shared.size {
            (meeting.here, meeting.before) = (0, this + 1);
            self.shared.met.notify_all();
        }
        while meeting.before == this && !meeting.over {
            meeting = self.shared.met.wait(meeting).unwrap_or_else(PoisonError::into_inner);
        }
        if meeting.before == this { Err(Error::Msg(RANK_ENDED.into())) } else { Ok(()) }
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
        self.shared.outer.rank() * self.shared.size + self.thread
    }

    fn size(&self) -> usize {
        self.shared.outer.size() * self.shared.size
    }

    fn sum(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        let mine = tensors.iter().map(|tensor| brought(tensor)).collect::<Result<_>>()?;
        let sums = self.exchange_tensors(mine, |all| {
            if all.iter().any(|brought| brought.len() != all[0].len()) {
                return Err(Error::Msg("ranks bring different numbers of tensors to a sum".into()));
            }
            let column = |i: usize| tree(&all.iter().map(|brought| &brought[i]).collect::<Vec<_>>());
            let mut sums = (0..all[0].len()).map(column).collect::<Result<Vec<_>>>()?;
            self.shared.outer.sum(&mut sums.iter_mut().collect::<Vec<_>>())?;
            Ok(sums)
        })?;
        for (tensor, sum) in tensors.iter_mut().zip(sums) {
            **tensor = sum.to_device(tensor.device())?;
        }
        Ok(())
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        let all = self.exchange_tensors(vec![brought(rows)?], |all| {
            let some: Vec<&Tensor> = all.iter().flatten().filter(|rows| rows.elem_count() > 0).collect();
            let rows = if some.is_empty() { brought(rows)? } else { Tensor::cat(&some, 0)? };
            Ok(vec![self.shared.outer.gather(&rows)?])
        })?;
        match all.as_slice() {
            [all] => all.to_device(rows.device()),
            _ => Err(Error::Msg("ranks make different calls".into())),
        }
    }

    fn agree_max(&self, numbers: &mut [f64]) -> Result<()> {
        let made = self.exchange(&self.shared.numbers, numbers.to_vec(), |all: &[Vec<f64>]| {
            let largest = |i: usize| all.iter().filter_map(|n| n.get(i)).copied().fold(f64::NEG_INFINITY, f64::max);
            let mut most: Vec<f64> = (0..numbers.len()).map(largest).collect();
            self.shared.outer.agree_max(&mut most)?;
            Ok(Made::Numbers(most))
        })?;
        match made {
            Made::Numbers(most) if most.len() == numbers.len() => {
                numbers.copy_from_slice(&most);
                Ok(())
            }
            _ => Err(Error::Msg("ranks make different calls".into())),
        }
    }

    fn abort(&self, code: i32) {
        self.shared.outer.abort(code);
    }
}

/// What a thread gives to others, each of which may hold a device of its own.
fn brought(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().to_device(&Device::Cpu)
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
