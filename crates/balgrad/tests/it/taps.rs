//! Layers as taps: the same mix and the same gradient as from whole gradients.

use std::collections::BTreeMap;

use balgrad::{Balancer, Block, Outputs, Role, StepReport, Tap, Target, Value, find};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 7;
const INPUTS: [usize; 2] = [13, 5];
const WIDTH: usize = 6;
const CLASSES: usize = 4;

struct Model {
    x: Vec<Tensor>,
    named: Vec<(String, Var)>,
    labels: Target,
}

impl Model {
    fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensor = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let x = INPUTS.iter().map(|n| tensor(BATCH, *n)).collect();
        let mut named = Vec::new();
        for (m, inputs) in INPUTS.into_iter().enumerate() {
            let bias = tensor(1, WIDTH).squeeze(0).unwrap();
            named.push((format!("{m}.first.weight"), tensor(WIDTH, inputs)));
            named.push((format!("{m}.first.bias"), bias));
            named.push((format!("{m}.second.weight"), tensor(WIDTH, WIDTH)));
            named.push((format!("{m}.own.weight"), tensor(CLASSES, WIDTH)));
        }
        named.push(("fused.weight".into(), tensor(CLASSES, 2 * WIDTH)));
        let named = named.into_iter().map(|(name, t)| (name, Var::from_tensor(&t).unwrap())).collect();
        let ids: Vec<u32> = (0..BATCH as u32).map(|i| (i * 3 + seed as u32) % CLASSES as u32).collect();
        Self { x, named, labels: Target::class(Tensor::new(ids, &Device::Cpu).unwrap(), None) }
    }

    fn var(&self, name: &str) -> &Tensor {
        self.named.iter().find(|(n, _)| n == name).unwrap().1.as_tensor()
    }

    fn outputs(&self, tapped: [bool; 2]) -> Result<Outputs> {
        let (mut taps, mut embeddings, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (m, tap) in tapped.into_iter().enumerate() {
            let (weight, bias) = (self.var(&format!("{m}.first.weight")), self.var(&format!("{m}.first.bias")));
            let mut hidden = self.x[m].matmul(&weight.t()?)?.broadcast_add(bias)?;
            if tap {
                let leaf = Var::from_tensor(&hidden.detach())?;
                hidden = leaf.as_tensor().clone();
                let (weight, bias) = (weight.clone(), Some(bias.clone()));
                taps.push(Tap { input: self.x[m].clone(), leaf, weight, bias });
            }
            let (hidden, second) = (hidden.tanh()?, self.var(&format!("{m}.second.weight")));
            // Where something before the layer learns, the leaf is added to what it gives.
            let embedding = if tap {
                let product = hidden.matmul(&second.detach().t()?)?;
                let leaf = Var::zeros(product.shape(), product.dtype(), &Device::Cpu)?;
                let sum = (product + leaf.as_tensor())?;
                taps.push(Tap { input: hidden.detach(), leaf, weight: second.clone(), bias: None });
                sum
            } else {
                hidden.matmul(&second.t()?)?
            };
            own.push(embedding.matmul(&self.var(&format!("{m}.own.weight")).t()?)?);
            embeddings.push(embedding);
        }
        let fused = Tensor::cat(&embeddings, 1)?.matmul(&self.var("fused.weight").t()?)?;
        let mut outputs = Outputs::new(fused, own);
        (outputs.embeddings, outputs.taps) = (embeddings, taps);
        Ok(outputs)
    }

    /// Two steps, so that a kept mix is used too.
    fn steps(&self, method: &str, settings: &[(&str, &str)], tapped: [bool; 2]) -> (GradStore, StepReport, GradStore) {
        let settings: BTreeMap<String, Value> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), Value::parse(v))).collect();
        let method = find(method).unwrap().with(&settings).unwrap();
        let role = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
            [m, "own", _] => Role::Head(m.parse().unwrap()),
            [m, _, _] => Role::Tower(m.parse().unwrap()),
            _ => Role::Fused,
        };
        let blocks = Block::group(self.named.iter().cloned(), role, method.needs().granularity);
        let mut balancer = Balancer::new(method, blocks, 0);
        let first = balancer.backward(&self.outputs(tapped).unwrap(), &self.labels).unwrap();
        let report = balancer.report().clone();
        let second = balancer.backward(&self.outputs(tapped).unwrap(), &self.labels).unwrap();
        (first, report, second)
    }
}

fn distance(a: Option<&Tensor>, b: Option<&Tensor>, name: &str) -> (f64, f64) {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    match (a, b) {
        (None, None) => (0.0, 0.0),
        (Some(a), Some(b)) => {
            assert_eq!(a.dims(), b.dims(), "{name}");
            let square = |values: Vec<f32>| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            (square(flat(&(a - b).unwrap())), square(flat(a)))
        }
        _ => panic!("{name}: one has a gradient, the other has none"),
    }
}

#[test]
fn taps_change_nothing_but_rounding() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("balgrad", &[]),
        ("balgrad", &[("scope", "layer")]),
        ("balgrad", &[("scope", "global")]),
        ("balgrad", &[("refresh", "4")]),
        ("upgrad", &[]),
        ("pcgrad", &[]),
    ];
    for seed in 0..24 {
        let model = Model::random(seed);
        for (method, settings) in cases {
            let (whole, report, kept) = model.steps(method, settings, [false, false]);
            for tapped in [[true, false], [true, true]] {
                let (first, tap_report, second) = model.steps(method, settings, tapped);
                let (a, b) = (report.mix.as_ref().unwrap(), tap_report.mix.as_ref().unwrap());
                for (a, b) in a.coefficients.iter().flatten().zip(b.coefficients.iter().flatten()) {
                    assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{method} {settings:?}: {a} {b}");
                }
                for (name, var) in &model.named {
                    for (whole, tapped) in [(&whole, &first), (&kept, &second)] {
                        let pair = (whole.get(var.as_tensor()), tapped.get(var.as_tensor()));
                        let (error, size) = distance(pair.0, pair.1, name);
                        assert!(error <= 1e-4 * size.max(0.1), "{method} {settings:?} {name}: {error} of {size}");
                    }
                }
            }
        }
    }
}
