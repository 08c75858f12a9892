//! Batches that ranks have dealt among them, put together again in order.

use anyhow::{Context, Result};
use balgrad::Communicator;
use candle_core::{Device, Tensor};

use super::Rows;

/// What is predicted for one batch.
pub(super) struct Part {
    /// Loss of the fused head.
    pub(super) loss: f64,
    /// The prediction.
    pub(super) rows: Rows,
    /// Loss and rows of each modality's view, where there are views.
    pub(super) views: Vec<Option<(f64, Rows)>>,
}

/// The parts of all ranks in order of the batches, of which rank `r` of `n` had each `n`-th from the `r`-th on.
pub(super) fn exchange(ranks: &dyn Communicator, mine: Vec<Part>) -> Result<Vec<Part>> {
    let size = ranks.size();
    if size == 1 {
        return Ok(mine);
    }
    let mut numbers = Vec::new();
    for part in &mine {
        part.write(&mut numbers);
    }
    let length = Tensor::new(&[numbers.len() as u32], &Device::Cpu)?;
    let lengths = ranks.gather(&length)?.to_vec1::<u32>()?;
    let count = numbers.len();
    let all = ranks.gather(&Tensor::from_vec(numbers, count, &Device::Cpu)?)?.to_vec1::<f64>()?;
    let mut rest = &all[..];
    let mut of_rank = Vec::with_capacity(size);
    for length in lengths {
        let (own, others) = rest.split_at_checked(length as usize).context("a rank sent less than it said")?;
        rest = others;
        let (mut own, mut parts) = (own, Vec::new());
        while !own.is_empty() {
            parts.push(Part::read(&mut own).context("a rank sent half a batch")?);
        }
        of_rank.push(parts.into_iter());
    }
    let most = of_rank.first().map_or(0, ExactSizeIterator::len);
    Ok((0..most * size).filter_map(|i| of_rank[i % size].next()).collect())
}

impl Part {
    /// As numbers, which hold single precision without loss.
    fn write(&self, numbers: &mut Vec<f64>) {
        numbers.extend([self.loss, self.views.len() as f64]);
        write_rows(&self.rows, numbers);
        for view in &self.views {
            numbers.push(f64::from(u8::from(view.is_some())));
            if let Some((loss, rows)) = view {
                numbers.push(*loss);
                write_rows(rows, numbers);
            }
        }
    }

    fn read(numbers: &mut &[f64]) -> Option<Self> {
        let (loss, count) = (next(numbers)?, next(numbers)? as usize);
        let rows = read_rows(numbers)?;
        let view = |_| match next(numbers)? {
            0.0 => Some(None),
            _ => Some(Some((next(numbers)?, read_rows(numbers)?))),
        };
        Some(Self { loss, rows, views: (0..count).map(view).collect::<Option<_>>()? })
    }
}

fn write_rows(rows: &Rows, numbers: &mut Vec<f64>) {
    numbers.extend([rows.len() as f64, rows.first().map_or(0, Vec::len) as f64]);
    numbers.extend(rows.iter().flatten().map(|v| f64::from(*v)));
}

fn read_rows(numbers: &mut &[f64]) -> Option<Rows> {
    let (count, width) = (next(numbers)? as usize, next(numbers)? as usize);
    let (own, rest) = numbers.split_at_checked(count * width)?;
    *numbers = rest;
    Some(own.chunks(width.max(1)).map(|row| row.iter().map(|v| *v as f32).collect()).collect())
}

fn next(numbers: &mut &[f64]) -> Option<f64> {
    let (first, rest) = numbers.split_first()?;
    *numbers = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use balgrad::Threads;

    use super::*;

    /// Five batches over two ranks and over three, one of which has a batch less; and over eight, most of which have none.
    #[test]
    fn dealt_batches_come_back_in_order() {
        let part = |i: usize| Part {
            loss: 0.1 * i as f64,
            rows: vec![vec![i as f32 + 0.3, 1.0]; i + 1],
            views: vec![Some((i as f64, vec![vec![0.7]])), None],
        };
        for ranks in [2, 3, 8] {
            std::thread::scope(|scope| {
                let threads: Vec<_> = Threads::new(ranks)
                    .into_iter()
                    .map(|own| {
                        let mine = (0..5).skip(own.rank()).step_by(ranks).map(part).collect();
                        scope.spawn(move || exchange(&own, mine).unwrap())
                    })
                    .collect();
                for all in threads.into_iter().map(|thread| thread.join().unwrap()) {
                    assert_eq!(all.len(), 5);
                    for (i, (found, made)) in all.iter().zip((0..5).map(part)).enumerate() {
                        assert_eq!((found.loss, &found.rows), (made.loss, &made.rows), "batch {i} of {ranks} ranks");
                        assert_eq!(found.views, made.views);
                    }
                }
            });
        }
    }
}
