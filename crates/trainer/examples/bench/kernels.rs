//! `gram` and `blend` beside a copy and plain tensor operations, and whole aggregations.

use anyhow::{Context, Result};
use balgrad::aggregate::Aggregator;
use balgrad::methods::{pcgrad::PcGrad, upgrad::UpGrad};
use balgrad::{BlockInfo, Clock, Evidence, Role, Signals};
use balgrad_kernels::Row;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Job;

/// Parameters of the model whose gradients are reduced.
const PARAMETERS: usize = 25_000_000;
const OBJECTIVES: usize = 3;
const COEFFICIENTS: [f64; OBJECTIVES] = [1.0, 0.5, -0.25];

/// Where a case runs: its last argument, or the CPU.
fn device(arguments: &[String]) -> Result<Device> {
    Ok(match arguments.last().map(String::as_str) {
        Some("cuda") => Device::new_cuda(0)?,
        Some("metal") => Device::new_metal(0)?,
        _ => Device::Cpu,
    })
}

/// Gradients of all objectives in so many tensors: numbers in [−1, 1).
fn gradients(tensors: usize, device: &Device) -> Result<Vec<Vec<Option<Tensor>>>> {
    let each = PARAMETERS / tensors;
    let number = |objective: usize, tensor: usize, i: usize| {
        let mixed = ((i + 97 * tensor) as u32).wrapping_mul(2_654_435_761);
        let bits = mixed.wrapping_add(objective as u32 * 40_503).wrapping_mul(2_246_822_519);
        bits as f32 / (1u64 << 31) as f32 - 1.0
    };
    let gradient = |objective: usize, tensor: usize| -> candle_core::Result<Option<Tensor>> {
        let values: Vec<f32> = (0..each).into_par_iter().map(|i| number(objective, tensor, i)).collect();
        Tensor::from_vec(values, each, device).map(Some)
    };
    let row = |objective: usize| (0..tensors).map(|tensor| gradient(objective, tensor)).collect();
    Ok((0..OBJECTIVES).map(row).collect::<candle_core::Result<_>>()?)
}

fn on_rows(arguments: &[String], f: impl Fn(&[Row<'_>]) -> candle_core::Result<()> + 'static) -> Result<Job> {
    let device = device(arguments)?;
    let gradients = gradients(1, &device)?;
    Ok(Job::on(OBJECTIVES * PARAMETERS, move || {
        f(&gradients.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        Ok(device.synchronize()?)
    }))
}

/// A copy of `PARAMETERS` numbers, one read and one write: between two warm buffers with as many threads, or as the device
/// copies.
pub(crate) fn copy(arguments: &[String]) -> Result<Job> {
    let device = device(arguments)?;
    if !device.is_cpu() {
        let from = Tensor::ones(PARAMETERS, DType::F32, &device)?;
        let to = Tensor::zeros(PARAMETERS, DType::F32, &device)?;
        return Ok(Job::on(2 * PARAMETERS, move || {
            to.slice_set(&from, 0, 0)?;
            Ok(device.synchronize()?)
        }));
    }
    let from = vec![1f32; PARAMETERS];
    let mut to = vec![0f32; PARAMETERS];
    let piece = PARAMETERS.div_ceil(rayon::current_num_threads());
    Ok(Job::on(2 * PARAMETERS, move || {
        to.par_chunks_mut(piece).zip(from.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&mut to);
        Ok(())
    }))
}

pub(crate) fn gram(arguments: &[String]) -> Result<Job> {
    on_rows(arguments, |rows| balgrad_kernels::gram(rows).map(|sums| drop(std::hint::black_box(sums))))
}

pub(crate) fn blend(arguments: &[String]) -> Result<Job> {
    on_rows(arguments, |rows| balgrad_kernels::blend(rows, &COEFFICIENTS).map(drop))
}

/// The Gram matrix in candle's operations, in f32.
pub(crate) fn plain_gram(arguments: &[String]) -> Result<Job> {
    on_rows(arguments, |rows| {
        let mut sum = 0.0;
        for i in 0..rows.len() {
            for j in i..rows.len() {
                for (a, b) in rows[i].iter().flatten().zip(rows[j].iter().flatten()) {
                    sum += (a * b)?.sum_all()?.to_scalar::<f32>()?;
                }
            }
        }
        std::hint::black_box(sum);
        Ok(())
    })
}

/// The blended gradient in candle's operations.
pub(crate) fn plain_blend(arguments: &[String]) -> Result<Job> {
    on_rows(arguments, |rows| {
        let terms = rows.iter().zip(COEFFICIENTS).flat_map(|(row, c)| row.iter().flatten().map(move |g| g * c));
        let mut sum: Option<Tensor> = None;
        for term in terms {
            sum = Some(match sum {
                None => term?,
                Some(sum) => (sum + term?)?,
            });
        }
        drop(std::hint::black_box(sum));
        Ok(())
    })
}

/// Gram matrix, the rule's weights, blended gradient.
pub(crate) fn aggregate(arguments: &[String]) -> Result<Job> {
    let mut rule: Box<dyn Aggregator> = match arguments.first().map(String::as_str) {
        Some("upgrad") => Box::new(UpGrad),
        Some("pcgrad") => Box::new(PcGrad),
        other => anyhow::bail!("aggregate: expected upgrad or pcgrad, found {other:?}"),
    };
    let gradients = gradients(100, &Device::Cpu)?;
    let mut step = 0;
    let iterate = move || {
        let rows: Vec<Row<'_>> = gradients.iter().map(Vec::as_slice).collect();
        let gram = [balgrad_kernels::gram(&rows)?];
        let blocks = [BlockInfo { name: "shared".into(), role: Role::Fused }];
        let (clock, signals, losses) = (Clock { step, ..Clock::default() }, Signals::new(), [1.0; OBJECTIVES]);
        let evidence =
            Evidence { clock, modalities: 2, losses: &losses, signals: &signals, blocks: &blocks, gram: &gram };
        let weights = rule.weights(&evidence)?;
        step += 1;
        balgrad_kernels::blend(&rows, &weights)?.pop().flatten().context("no gradient")?;
        Ok(())
    };
    Ok(Job::on(OBJECTIVES * PARAMETERS, iterate))
}
