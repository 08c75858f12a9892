//! Ranks over MPI. Sums follow one binary tree over the ranks, whatever algorithms the library prefers.

use balgrad::Communicator;
use candle_core::{DType, Error, Result, Tensor};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::{Equivalence, Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives};

use crate::JoinError;

/// Numbers that are summed at a time, over all ranks: what bounds memory, and what MPI can count.
const BUCKET: usize = 8 << 20;

/// All ranks of `MPI_COMM_WORLD`.
pub(crate) struct Mpi {
    rank: usize,
    size: usize,
    /// Dropped last, as that ends MPI.
    _universe: Universe,
}

impl Mpi {
    pub(crate) fn start() -> std::result::Result<Self, JoinError> {
        let refused = |why: &str| JoinError::Refused(why.to_owned());
        let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple)
            .ok_or_else(|| refused("the library was started before"))?;
        if threading < Threading::Serialized {
            return Err(refused("the library serves one thread alone; one that serves several is needed"));
        }
        let world = universe.world();
        Ok(Self { rank: world.rank() as usize, size: world.size() as usize, _universe: universe })
    }

    fn world(&self) -> SimpleCommunicator {
        SimpleCommunicator::world()
    }

    /// Sums over ranks: each rank gets its part of every bucket from all, adds up along the tree, and gives the sum to all.
    fn sum_numbers<T>(&self, numbers: &mut [T])
    where
        T: Equivalence + Copy + Default + std::ops::Add<Output = T>,
    {
        for bucket in numbers.chunks_mut(BUCKET) {
            let bounds: Vec<usize> = (0..=self.size).map(|r| r * bucket.len() / self.size).collect();
            let counts: Vec<i32> = bounds.windows(2).map(|pair| (pair[1] - pair[0]) as i32).collect();
            let displacements: Vec<i32> = bounds[..self.size].iter().map(|&start| start as i32).collect();
            let mine = bounds[self.rank + 1] - bounds[self.rank];
            let mut all = vec![T::default(); mine * self.size];
            let (equal, starts): (Vec<i32>, Vec<i32>) =
                (0..self.size).map(|r| (mine as i32, (r * mine) as i32)).unzip();
            self.world().all_to_all_varcount_into(
                &Partition::new(&*bucket, &counts[..], &displacements[..]),
                &mut PartitionMut::new(&mut all[..], &equal[..], &starts[..]),
            );
            if mine > 0 {
                tree(&mut all, mine);
            }
            self.world().all_gather_varcount_into(
                &all[..mine],
                &mut PartitionMut::new(bucket, &counts[..], &displacements[..]),
            );
        }
    }

    /// The sum of tensors of one type, through `T`.
    fn sum_of<T>(&self, tensors: &mut [&mut Tensor], through: DType) -> Result<()>
    where
        T: Equivalence + Copy + Default + std::ops::Add<Output = T> + candle_core::WithDType,
    {
        let mut numbers = Vec::with_capacity(tensors.iter().map(|tensor| tensor.elem_count()).sum());
        for tensor in tensors.iter() {
            numbers.extend(tensor.to_dtype(through)?.flatten_all()?.to_vec1::<T>()?);
        }
        self.sum_numbers(&mut numbers);
        let mut rest = &numbers[..];
        for tensor in tensors.iter_mut() {
            let (own, others) = rest.split_at(tensor.elem_count());
            rest = others;
            **tensor = Tensor::from_slice(own, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())?;
        }
        Ok(())
    }
}

/// Adds up the equal parts that stand one after the other, into the first: `((0 + 1) + (2 + 3)) + …`.
fn tree<T: Copy + std::ops::Add<Output = T>>(parts: &mut [T], length: usize) {
    let count = parts.len() / length;
    if count < 2 {
        return;
    }
    let (left, right) = parts.split_at_mut(count.next_power_of_two() / 2 * length);
    tree(left, length);
    tree(right, length);
    left.iter_mut().zip(&right[..length]).for_each(|(a, b)| *a = *a + *b);
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        let (mut wide, mut others): (Vec<&mut Tensor>, Vec<&mut Tensor>) =
            tensors.iter_mut().map(|tensor| &mut **tensor).partition(|tensor| tensor.dtype() == DType::F64);
        self.sum_of::<f64>(&mut wide, DType::F64)?;
        self.sum_of::<f32>(&mut others, DType::F32)
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        let rows = rows.detach();
        let bytes = bytes_of(&rows)?;
        let mut lengths = vec![0i32; self.size];
        let length = i32::try_from(bytes.len());
        self.world().all_gather_into(&length.unwrap_or(-1), &mut lengths[..]);
        let starts: Vec<i64> = lengths
            .iter()
            .scan(0i64, |sum, length| {
                let start = *sum;
                *sum += i64::from(*length);
                Some(start)
            })
            .collect();
        let total = lengths.iter().map(|length| i64::from(*length)).sum::<i64>();
        if lengths.iter().any(|length| *length < 0) || total > i64::from(i32::MAX) {
            return Err(Error::Msg("ranks gather at most 2 GiB of rows at a time: take smaller batches".into()));
        }
        let starts: Vec<i32> = starts.into_iter().map(|start| start as i32).collect();
        let mut all = vec![0u8; total as usize];
        self.world()
            .all_gather_varcount_into(&bytes[..], &mut PartitionMut::new(&mut all[..], &lengths[..], &starts[..]));
        let mut shape = rows.dims().to_vec();
        let row = shape.iter().skip(1).product::<usize>() * rows.dtype().size_in_bytes();
        if row == 0 || shape.is_empty() || !all.len().is_multiple_of(row) {
            return Err(Error::Msg(format!("ranks gather rows of other shapes than {shape:?}")));
        }
        shape[0] = all.len() / row;
        Tensor::from_raw_buffer(&all, rows.dtype(), &shape, rows.device())
    }

    fn agree_max(&self, numbers: &mut [f64]) -> Result<()> {
        let mine = numbers.to_vec();
        self.world().all_reduce_into(&mine[..], numbers, SystemOperation::max());
        Ok(())
    }

    fn abort(&self, code: i32) {
        self.world().abort(code)
    }
}

/// A tensor's numbers as bytes in this machine's order.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    use candle_core::WithDType;
    fn bytes<T: WithDType, const N: usize>(tensor: &Tensor, one: impl Fn(T) -> [u8; N]) -> Result<Vec<u8>> {
        Ok(tensor.flatten_all()?.to_vec1::<T>()?.into_iter().flat_map(one).collect())
    }
    match tensor.dtype() {
        DType::F32 => bytes(tensor, f32::to_ne_bytes),
        DType::F64 => bytes(tensor, f64::to_ne_bytes),
        DType::U32 => bytes(tensor, u32::to_ne_bytes),
        DType::I64 => bytes(tensor, i64::to_ne_bytes),
        DType::U8 => tensor.flatten_all()?.to_vec1(),
        other => Err(Error::Msg(format!("ranks do not gather rows of {other:?}: convert them to f32"))),
    }
}
