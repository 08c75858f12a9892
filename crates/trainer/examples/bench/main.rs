//! The worker behind `cargo xtask bench`: `bench CASE [ARGUMENTS]` sets one case up, then times a block of it for each
//! line on stdin.
//!
//! Each answer is a line of JSON: `seconds` of one iteration, the mean over the block; `peak`, the most bytes that were
//! resident, less what was when the program started and less the case's weights; and `parameters`, how many weights. The peer in `xtask/peers/bench.py` speaks the same, so that the two take turns block by block.

mod features;
mod images;
mod kernels;
mod memory;
mod steps;

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result};

/// How long a block is to take, in seconds.
const BLOCK: f64 = 0.4;

/// One case, set up.
struct Job {
    /// Numbers in the model.
    parameters: usize,
    /// Numbers that the case works on: the model's, or gradients.
    held: usize,
    /// A block has a multiple of so many iterations.
    period: usize,
    /// Mean absolute difference of pixels from the peer's, in parts of their range.
    difference: f64,
    /// One iteration.
    iterate: Box<dyn FnMut() -> Result<()>>,
}

impl Job {
    /// A case without a model, on so many numbers.
    fn on(held: usize, iterate: impl FnMut() -> Result<()> + 'static) -> Self {
        Self { parameters: 0, held, period: 1, difference: 0.0, iterate: Box::new(iterate) }
    }
}

/// A case's name, and what sets it up from the arguments that follow.
type Case = (&'static str, fn(&[String]) -> Result<Job>);

const CASES: &[Case] = &[
    ("copy", kernels::copy),
    ("gram", kernels::gram),
    ("plain-gram", kernels::plain_gram),
    ("blend", kernels::blend),
    ("plain-blend", kernels::plain_blend),
    ("aggregate", kernels::aggregate),
    ("step", steps::step),
    ("features", features::features),
    ("images", images::images),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Plain candle runs as candle comes.
    if !arguments.first().is_some_and(|case| case.starts_with("plain")) {
        balgrad_nn::tune_process();
    }
    let known = || CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (name, rest) = arguments.split_first().with_context(|| format!("usage: bench CASE; cases: {}", known()))?;
    let case = CASES.iter().find(|(case, _)| case == name);
    let (_, build) = case.with_context(|| format!("there is no case `{name}`; there are {}", known()))?;
    let start = memory::resident();
    let mut job = build(rest)?;
    memory::resident();
    // The first iterations fault pages in and wake threads; the last of them says how many make a block.
    let mut seconds = 0.0;
    for _ in 0..3 {
        seconds = time(&mut job, 1)?;
    }
    let iterations = ((BLOCK / seconds.max(1e-9)).ceil().clamp(1.0, 1e6) as usize).next_multiple_of(job.period);
    let mut out = std::io::stdout().lock();
    for line in std::iter::once(Ok(String::new())).chain(std::io::stdin().lock().lines()) {
        line?;
        let seconds = time(&mut job, iterations)?;
        let peak = memory::peak().saturating_sub(start + 4 * job.held as u64);
        let Job { parameters, difference, .. } = job;
        let answer =
            serde_json::json!({"seconds": seconds, "peak": peak, "parameters": parameters, "difference": difference});
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Mean seconds of an iteration.
fn time(job: &mut Job, iterations: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..iterations {
        black_box((job.iterate)()?);
    }
    Ok(start.elapsed().as_secs_f64() / iterations as f64)
}
