//! Measures the training ops and the optimizer as ratios to candle's own operations, in one process. (`gram` and `blend` are
//! in `cargo xtask bench`.)
//!
//! `cargo run --release -p balgrad-nn --example nn_bench [-- THREADS [--default-allocator]]`
#![allow(clippy::disallowed_methods)] // A timing needs no seed.

use balgrad_nn as nn;
use candle_core::{D, DType, Device, Result, Tensor, Var};
use std::hint::black_box;
use std::time::Instant;

fn main() -> Result<()> {
    if std::env::args().nth(2).as_deref() != Some("--default-allocator") && !nn::tune_process().keeps_freed_memory {
        println!("the allocator gives freed memory back: large outputs pay for fresh pages");
    }
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
        candle_core::bail!("{error}");
    }
    println!("threads {}; best times", rayon::current_num_threads());
    ops()?;
    optimizer()
}

/// Best seconds of a call, as STREAM reports: the machine may have other work.
fn time<R>(mut f: impl FnMut() -> Result<R>) -> Result<f64> {
    let mut seconds = Vec::new();
    black_box(f()?);
    let begin = Instant::now();
    while seconds.len() < 5 || (begin.elapsed().as_secs_f64() < 1.0 && seconds.len() < 200) {
        let start = Instant::now();
        black_box(f()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[0])
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

/// Times forward and forward + backward of an op of ours against candle's.
fn compare(name: &str, ours: impl Fn() -> Result<Tensor>, candle: impl Fn() -> Result<Tensor>) -> Result<()> {
    let seed = random(ours()?.dims())?;
    let both = |f: &dyn Fn() -> Result<Tensor>| -> Result<(f64, f64)> {
        Ok((time(f)?, time(|| (f()? * &seed)?.sum_all()?.backward())?))
    };
    let (forward, backward) = both(&ours)?;
    let (candle_forward, candle_backward) = both(&candle)?;
    println!(
        "{name}: forward {:.2} ms, {:.1}x candle; forward + backward {:.2} ms, {:.1}x candle",
        forward * 1e3,
        candle_forward / forward,
        backward * 1e3,
        candle_backward / backward
    );
    Ok(())
}

fn ops() -> Result<()> {
    let var = |shape: &[usize]| Var::from_tensor(&random(shape)?);
    let x = var(&[64, 65, 256])?;
    let (weight, bias) = (var(&[256])?, var(&[256])?);
    compare(
        "layer_norm [64, 65, 256]",
        || nn::layer_norm(&x, &weight, &bias, 1e-5),
        || {
            let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
            centred.broadcast_div(&deviation)?.broadcast_mul(&weight)?.broadcast_add(&bias)
        },
    )?;
    compare("gelu [64, 65, 256]", || nn::gelu(&x), || x.gelu_erf())?;
    let plain_softmax = |x: &Tensor| {
        let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
    };
    compare("softmax [64, 65, 256]", || nn::softmax(&x), || plain_softmax(&x))?;
    compare(
        "log_softmax [64, 65, 256]",
        || nn::log_softmax(&x),
        || {
            let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?;
            x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
        },
    )?;
    let (w, b) = (var(&[256, 256])?, var(&[256])?);
    let frozen = x.as_detached_tensor();
    let plain_linear = |x: &Tensor| x.flatten_to(1)?.matmul(&w.t()?)?.broadcast_add(&b)?.reshape((64, 65, 256));
    compare("linear 256 -> 256", || nn::linear(&x, &w, Some(&b)), || plain_linear(&x))?;
    compare("linear, input untracked", || nn::linear(&frozen, &w, Some(&b)), || plain_linear(&frozen))?;
    let qkv = var(&[64, 65, 3, 4, 64])?;
    let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let mask = Tensor::zeros((64, 1, 1, 65), DType::F32, &Device::Cpu)?;
    compare(
        "attention [64, 65, 3, 4, 64]",
        || nn::attention(&qkv, Some(&mask), 0.125),
        || {
            let scores = (part(0)?.matmul(&part(1)?.t()?)? * 0.125)?.broadcast_add(&mask)?;
            plain_softmax(&scores)?.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()
        },
    )?;
    let table = var(&[8_000, 256])?;
    let ids: Vec<u32> = (0..64 * 65).map(|i| i * 7919 % 8_000).collect();
    let ids = Tensor::from_vec(ids, (64, 65), &Device::Cpu)?;
    compare(
        "embedding 8000 x 256",
        || nn::embedding(&ids, &table),
        || table.index_select(&ids.flatten_all()?, 0)?.reshape((64, 65, 256)),
    )
}

fn optimizer() -> Result<()> {
    let vars: Vec<Var> = (0..20).map(|_| Var::from_tensor(&random(&[500, 500])?)).collect::<Result<_>>()?;
    let parameter = |(i, var): (usize, &Var)| nn::Parameter {
        weight_decay: 0.01,
        ..nn::Parameter::new(i.to_string(), var.clone())
    };
    let mut optimizer = nn::AdamW::default().over(vars.iter().enumerate().map(parameter).collect())?;
    let mut grads = candle_core::backprop::GradStore::default();
    for var in &vars {
        grads.insert(var, random(&[500, 500])?);
    }
    let ours = time(|| optimizer.step(&grads, 1e-3, &|_| 1.0))?;
    let mut moments = vec![(vars[0].zeros_like()?, vars[0].zeros_like()?); vars.len()];
    let plain = time(|| {
        for (var, (m, v)) in vars.iter().zip(&mut moments) {
            let Some(g) = grads.get(var) else { continue };
            *m = ((&*m * 0.9)? + (g * 0.1)?)?;
            *v = ((&*v * 0.999)? + (g.sqr()? * 0.001)?)?;
            let next = ((var.as_tensor() * 0.99999)? - ((&*m * 1e-3)? / (v.sqrt()? + 1e-8)?)?)?;
            var.set(&next)?;
        }
        Ok(())
    })?;
    println!("AdamW, 5 M parameters: {:.2} ms, {:.1}x plain tensor operations", ours * 1e3, plain / ours);
    Ok(())
}
