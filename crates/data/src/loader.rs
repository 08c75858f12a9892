//! Batches made ahead of their use: worker threads make samples in a given order, a bounded number of batches ahead, and
//! hand them over in that order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::caught::words;

/// How far and by how many threads a loader works ahead. What it hands over does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Samples in a batch; the last one may be shorter.
    pub batch: usize,
    /// Threads; with 0 every sample is made when its batch is asked for.
    pub workers: usize,
    /// Batches that may wait, finished or in the making, beside the one that is asked for.
    pub batches: usize,
}

/// Why a batch could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// What the making of a sample answered.
    #[error(transparent)]
    Sample(#[from] E),
    /// The making of a sample panicked, with these words.
    #[error("a sample could not be made: {0}")]
    Panicked(String),
}

/// Makes a `T` of every item of `order` by `make`, and gives `consume` the batches: an iterator of each batch's items with
/// what was made of them. The first sample that fails, in order, ends it with that error. Workers end with `consume`,
/// whether it took all batches or not.
///
/// ```
/// use balgrad_data::{Ahead, load};
/// let words = ["one", "two", "three"];
/// let length = |word: &&str| Ok::<_, std::convert::Infallible>(word.len());
/// let sums = load(&words, Ahead { batch: 2, workers: 2, batches: 1 }, length, |batches| {
///     batches.map(|batch| batch.map(|(_, lengths)| lengths.iter().sum())).collect::<Result<Vec<usize>, _>>()
/// })?;
/// assert_eq!(sums, [6, 5]);
/// # Ok::<(), balgrad_data::LoadError<std::convert::Infallible>>(())
/// ```
pub fn load<I: Sync, T: Send, E: Send, R>(
    order: &[I],
    ahead: Ahead,
    make: impl Fn(&I) -> Result<T, E> + Sync,
    consume: impl FnOnce(&mut dyn Iterator<Item = Result<(&[I], Vec<T>), LoadError<E>>>) -> R,
) -> R {
    let batch = ahead.batch.max(1);
    let make = |item: &I| match catch_unwind(AssertUnwindSafe(|| make(item))) {
        Ok(made) => made.map_err(LoadError::Sample),
        Err(panic) => Err(LoadError::Panicked(words(&*panic))),
    };
    if ahead.workers == 0 {
        let mut failed = false;
        let all = |items: &[I]| items.iter().map(&make).collect::<Result<Vec<T>, _>>();
        return consume(&mut order.chunks(batch).map_while(|items| {
            let made = (!failed).then(|| all(items))?;
            failed = made.is_err();
            Some(made.map(|made| (items, made)))
        }));
    }
    let queue = Queue { state: Mutex::default(), room: Condvar::new(), made: Condvar::new() };
    let reach = batch.saturating_mul(ahead.batches + 1);
    std::thread::scope(|scope| {
        for _ in 0..ahead.workers.min(order.len()) {
            scope.spawn(|| queue.work(order, reach, &make));
        }
        // Closes the queue when `consume` is done with it, or panics.
        let open = Open(&queue);
        consume(&mut order.chunks(batch).map_while(|items| Some(open.0.take(items.len())?.map(|made| (items, made)))))
    })
}

struct Queue<T, E> {
    state: Mutex<State<T, E>>,
    /// Told when a sample may be begun.
    room: Condvar,
    /// Told when a sample is finished.
    made: Condvar,
}

struct State<T, E> {
    /// The place of the next sample to be begun.
    next: usize,
    /// The place of the first sample that was not handed over.
    first: usize,
    /// The samples from `first` to `next`; `None` while one is in the making.
    samples: VecDeque<Option<Result<T, LoadError<E>>>>,
    closed: bool,
}

impl<T, E> Default for State<T, E> {
    fn default() -> Self {
        Self { next: 0, first: 0, samples: VecDeque::new(), closed: false }
    }
}

struct Open<'a, T, E>(&'a Queue<T, E>);

impl<T, E> Drop for Open<'_, T, E> {
    fn drop(&mut self) {
        self.0.close(&mut self.0.lock());
    }
}

impl<T, E> Queue<T, E> {
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, state: &mut State<T, E>) {
        state.closed = true;
        self.room.notify_all();
    }

    /// Makes samples until there are no more, never more than `reach` beyond what was handed over.
    fn work<I>(&self, order: &[I], reach: usize, make: &(impl Fn(&I) -> Result<T, LoadError<E>> + Sync)) {
        let full =
            |state: &mut State<T, E>| !state.closed && state.next < order.len() && state.next >= state.first + reach;
        loop {
            let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
            let place = state.next;
            let Some(item) = order.get(place).filter(|_| !state.closed) else { return };
            state.next += 1;
            state.samples.push_back(None);
            drop(state);
            let made = make(item);
            let mut state = self.lock();
            let at = place - state.first;
            state.samples[at] = Some(made);
            self.made.notify_one();
        }
    }

    /// The next `count` samples; `None` after a sample that failed.
    fn take(&self, count: usize) -> Option<Result<Vec<T>, LoadError<E>>> {
        let mut batch = Vec::with_capacity(count);
        let mut state = self.lock();
        while batch.len() < count {
            if state.closed {
                return None;
            }
            let waits = |state: &mut State<T, E>| !matches!(state.samples.front(), Some(Some(_)));
            state = self.made.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
            // All that is finished, in order, in one go.
            while batch.len() < count
                && let Some(Some(_)) = state.samples.front()
                && let Some(Some(made)) = state.samples.pop_front()
            {
                state.first += 1;
                match made {
                    Ok(made) => batch.push(made),
                    Err(error) => {
                        self.close(&mut state);
                        return Some(Err(error));
                    }
                }
            }
            self.room.notify_all();
        }
        Some(Ok(batch))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn ahead(batch: usize, workers: usize, batches: usize) -> Ahead {
        Ahead { batch, workers, batches }
    }

    /// Later samples are made faster: only order by place gives them back in order.
    fn slow(i: &usize) -> Result<usize, String> {
        std::thread::sleep(Duration::from_micros(((7 * i) % 5) as u64 * 100));
        Ok(i * i)
    }

    #[test]
    fn every_sample_comes_once_and_in_order_whatever_the_workers() {
        let order: Vec<usize> = (0..41).rev().collect();
        for (batch, workers, batches) in [(1, 0, 0), (4, 0, 3), (1, 1, 0), (7, 3, 0), (4, 2, 2), (50, 4, 1), (3, 64, 9)]
        {
            let seen = load(&order, ahead(batch, workers, batches), slow, |all| {
                let all: Vec<_> = all.map(Result::unwrap).collect();
                assert!(all.iter().rev().skip(1).all(|(items, made)| items.len() == batch && made.len() == batch));
                all.into_iter().flat_map(|(items, made)| items.iter().copied().zip(made)).collect::<Vec<_>>()
            });
            let expected: Vec<_> = order.iter().map(|i| (*i, i * i)).collect();
            assert_eq!(seen, expected, "{batch} {workers} {batches}");
        }
        let none: &[usize] = &[];
        assert_eq!(load(none, ahead(3, 2, 1), slow, |all| all.count()), 0);
    }

    #[test]
    fn no_more_is_made_than_was_asked_for() {
        let order: Vec<usize> = (0..100).collect();
        let begun = AtomicUsize::new(0);
        let make = |i: &usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(*i)
        };
        load(&order, ahead(5, 3, 2), make, |batches| {
            for taken in 0..10 {
                std::thread::sleep(Duration::from_millis(3));
                let begun = begun.load(Ordering::SeqCst);
                assert!(begun <= 5 * (taken + 3), "{begun} samples begun after {taken} batches");
                batches.next().unwrap().unwrap();
            }
        });
        assert!(begun.load(Ordering::SeqCst) <= 65, "workers end with their consumer");
    }

    #[test]
    fn the_first_failure_in_order_ends_it() {
        let order: Vec<usize> = (0..30).collect();
        let make = |i: &usize| match i {
            17 => Err("17 is bad".to_owned()),
            // Made long before 17 by another worker.
            18 => panic!("18 is worse"),
            i => slow(i),
        };
        for workers in [0, 1, 4] {
            let ends = load(&order, ahead(6, workers, 3), make, |all| {
                all.map(|batch| batch.map_or_else(|error| error.to_string(), |(items, _)| items.len().to_string()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(ends, ["6", "6", "17 is bad"], "{workers}");
        }
    }

    #[test]
    fn a_panic_is_an_error_and_not_a_hang() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let make = |i: &usize| if *i == 3 { panic!("no {i}") } else { Ok::<_, String>(*i) };
        let order: Vec<usize> = (0..10).collect();
        let errors: Vec<_> = [0, 2]
            .map(|workers| load(&order, ahead(2, workers, 1), make, |all| all.filter_map(Result::err).next()))
            .into();
        std::panic::set_hook(hook);
        for error in errors {
            assert_eq!(error.unwrap().to_string(), "a sample could not be made: no 3");
        }
    }
}
