//! More than two modalities.

use std::collections::BTreeSet;

use crate::plain::model::matrix;
use crate::plain::table::{cases, summary};
use balgrad::{Balancer, Block, FusedHead, Outputs, Prediction, Role};
use candle_core::{DType, Device, Tensor, Var};

/// Three modalities over `e_m = x_m T_m`, `z_m = e_m H_m`, `z = Σ e_m F_m + b`.
struct Trio {
    x: Vec<Tensor>,
    named: Vec<(String, Var)>,
}

impl Trio {
    fn new() -> Self {
        let tensor = |seed: u64, rows: usize, cols: usize| {
            let m = crate::plain::random(&mut crate::plain::rng(seed), rows, cols, 1.0);
            crate::plain::model::tensor(&m, DType::F32)
        };
        let x = (0..3).map(|m| tensor(m, 6, 4)).collect();
        let mut named = vec![("f.b".to_owned(), Var::zeros((1, 3), DType::F32, &Device::Cpu).unwrap())];
        for m in 0..3u64 {
            for (part, rows) in [("t", 4), ("h", 3), ("f", 3)] {
                let seed = 10 + 3 * m + rows as u64 + part.len() as u64 * 7 + u64::from(part == "f") * 50;
                named.push((format!("{part}.{m}"), Var::from_tensor(&tensor(seed, rows, 3)).unwrap()));
            }
        }
        Self { x, named }
    }

    fn var(&self, name: &str) -> Tensor {
        self.named.iter().find(|(n, _)| n == name).unwrap().1.as_tensor().clone()
    }

    fn outputs(&self, cut: bool, additive: bool) -> Outputs {
        let embeddings: Vec<Tensor> = (0..3).map(|m| self.x[m].matmul(&self.var(&format!("t.{m}"))).unwrap()).collect();
        let leaves: Vec<Var> = embeddings.iter().map(|e| Var::from_tensor(&e.detach()).unwrap()).collect();
        let read: Vec<Tensor> =
            if cut { leaves.iter().map(|l| l.as_tensor().clone()).collect() } else { embeddings.clone() };
        let (weights, bias): (Vec<Tensor>, Tensor) =
            ((0..3).map(|m| self.var(&format!("f.{m}"))).collect(), self.var("f.b"));
        let third = (&bias / 3.0).unwrap();
        let slice = |m: usize| read[m].matmul(&weights[m]).unwrap().broadcast_add(&third).unwrap();
        let slices = additive.then(|| (0..3).map(slice).collect());
        let own = (0..3).map(|m| read[m].matmul(&self.var(&format!("h.{m}"))).unwrap()).collect();
        let head = FusedHead::new(move |e| {
            let mut sum = bias.broadcast_as((e[0].dim(0)?, 3))?;
            for (e, w) in e.iter().zip(&weights) {
                sum = (sum + e.matmul(w)?)?;
            }
            Ok(sum)
        });
        let mut outputs = Outputs::new(head.logits(&read).unwrap(), own);
        outputs.slices = slices;
        outputs.fused_head = Some(head);
        outputs.teacher = Some(embeddings.iter().map(|e| (e.detach() * 0.5).unwrap()).collect());
        outputs.leaves = cut.then_some(leaves);
        outputs.embeddings = embeddings;
        outputs
    }
}

/// Three modalities work as two do: finite gradients, and every tower learns.
#[test]
fn three_modalities_are_balanced_too() {
    let trio = Trio::new();
    let labels = balgrad::Target::class(Tensor::new(&[0u32, 1, 2, 0, 1, 2], &Device::Cpu).unwrap(), None);
    let role = |name: &str| match name.split_once('.') {
        Some(("t", m)) => Role::Tower(m.parse().unwrap()),
        Some(("h", m)) => Role::Head(m.parse().unwrap()),
        _ => Role::Fused,
    };
    for (entry, given) in cases() {
        for additive in [true, false] {
            let method = entry.with(&given).unwrap();
            let needs = method.needs();
            let blocks = Block::group(trio.named.iter().cloned(), role, needs.granularity);
            let mut balancer = Balancer::new(method, blocks, 3).lasting(2, 8);
            let mut learnt = BTreeSet::new();
            for epoch in 1..=6 {
                for _ in 0..3 {
                    let outputs = trio.outputs(needs.leaves, additive);
                    let store = balancer.backward(&outputs, &labels);
                    let store = store.unwrap_or_else(|error| panic!("{} {given:?}: {error}", entry.name));
                    for (name, var) in &trio.named {
                        let Some(g) = store.get(var.as_tensor()).map(matrix) else { continue };
                        assert!(g.norm().is_finite(), "{} {given:?}: {name}", entry.name);
                        if g.norm() > 1e-6 {
                            learnt.insert(name.as_str());
                        }
                    }
                }
                let each = |v: f64| (0..3).map(|m| Some(v + 0.1 * f64::from(m))).collect::<Vec<_>>();
                let summary = balgrad::EpochSummary {
                    train_loss: each(0.9),
                    val_loss: each(1.0 / epoch as f64),
                    val_score: each(0.5),
                    ..summary(epoch)
                };
                balancer.epoch_ended(summary.clone()).unwrap();
            }
            let towers = match entry.prediction {
                Prediction::Own(m) => vec![["t.0", "t.1"][m]],
                _ => vec!["t.0", "t.1", "t.2"],
            };
            assert!(towers.iter().all(|t| learnt.contains(t)), "{} {given:?}: only {learnt:?} learn", entry.name);
        }
    }
}
