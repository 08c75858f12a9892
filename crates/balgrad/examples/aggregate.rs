//! Any set of losses, any aggregator: three quadratic losses that pull one point to three corners, and how each rule
//! answers. `cargo run -p balgrad --example aggregate`

use balgrad::aggregate::{Aggregation, Aggregator};
use balgrad::methods::{cagrad::CaGrad, mgda::Mgda, nash_mtl::NashMtl, pcgrad::PcGrad, upgrad::UpGrad};
use candle_core::{Device, Result, Tensor, Var};

/// How much each loss counts: the third would drown the others in a plain sum.
const STRENGTH: [f64; 3] = [1.0, 2.0, 20.0];
const CORNERS: [[f32; 2]; 3] = [[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]];

fn losses(point: &Tensor) -> Result<Vec<Tensor>> {
    let pull = |(corner, strength): (&[f32; 2], f64)| {
        let away = (point - Tensor::new(corner, point.device())?)?;
        away.sqr()?.sum_all()? * strength
    };
    CORNERS.iter().zip(STRENGTH).map(pull).collect()
}

fn main() -> Result<()> {
    let rules: [(&str, Box<dyn Aggregator>); 5] = [
        ("pcgrad", Box::new(PcGrad)),
        ("mgda", Box::new(Mgda)),
        ("cagrad", Box::new(CaGrad::default())),
        ("nash-mtl", Box::new(NashMtl::default())),
        ("upgrad", Box::new(UpGrad)),
    ];
    println!("{:10} {:>7} {:>7}   losses after 200 steps", "rule", "x", "y");
    for (name, rule) in rules {
        let point = Var::new(&[2f32, 2.0], &Device::Cpu)?;
        let mut aggregation = Aggregation::new(rule, vec![point.clone()], 0);
        for _ in 0..200 {
            let grads = aggregation.backward(&losses(&point)?, &[])?;
            if let Some(g) = grads.get(point.as_tensor()) {
                point.set(&(point.as_tensor() - (g * 0.01)?)?)?;
            }
        }
        let at = point.to_vec1::<f32>()?;
        let left = losses(&point)?.iter().map(Tensor::to_scalar::<f32>).collect::<Result<Vec<_>>>()?;
        println!("{name:10} {:7.3} {:7.3}   {left:.3?}", at[0], at[1]);
    }
    Ok(())
}
