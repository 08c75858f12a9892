//! Every method of the paper against gradients written by hand: `‖d − d_oracle‖ ≤ 1e-5 · Σ|C_i|‖g_i‖` per block.

use std::collections::BTreeMap;

use crate::plain::gradients::{Expected, PARTS, agree, assert_close, combine, norm, own, plus, task};
use crate::plain::model::{Cotangents, Gradient, Model, blocks, matrix};
use crate::plain::{Matrix, cross_entropy, truth_probability};
use balgrad::{Balancer, EpochSummary, Granularity, Value, find};
use candle_core::DType;

fn settings(given: &[(&str, &str)]) -> BTreeMap<String, Value> {
    given.iter().map(|(k, v)| ((*k).to_owned(), Value::parse(v))).collect()
}

fn balancer(name: &str, given: &[(&str, &str)], vars: &[candle_core::Var]) -> Balancer {
    let method = find(name).unwrap().with(&settings(given)).unwrap();
    let granularity = method.needs().granularity;
    Balancer::new(method, blocks(vars, granularity), 1)
}

/// Random problems: both label forms, with and without weights, additive and gated fusion.
fn problems() -> impl Iterator<Item = Model> {
    many_problems(48)
}

fn many_problems(count: u64) -> impl Iterator<Item = Model> {
    (0..count).map(|s| Model::random(s, 2 + s as usize % 3, s % 2 == 1, s % 3 == 1, s % 4 > 1))
}

#[test]
fn joint_is_the_task_gradient_and_leaves_own_heads_alone() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let outputs = model.outputs(&vars, false).unwrap();
        let store = balancer("joint", &[], &vars).backward(&outputs, &model.labels(DType::F32)).unwrap();
        assert_close(&model, &vars, &store, &combine(&[([1.0; 5], &task(&model))]), "joint");
        assert!(store.get(vars[4].as_tensor()).is_none() && store.get(vars[5].as_tensor()).is_none());
    }
}

#[test]
fn multi_loss_is_the_sum() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let outputs = model.outputs(&vars, false).unwrap();
        let mut balancer = balancer("multi-loss", &[("uni_weight", "0.7")], &vars);
        let store = balancer.backward(&outputs, &model.labels(DType::F32)).unwrap();
        let terms = [([1.0; 5], &task(&model)), ([0.7; 5], &own(&model, 0)), ([0.7; 5], &own(&model, 1))];
        assert_close(&model, &vars, &store, &combine(&terms), "multi-loss");
        assert_eq!(balancer.report().passes, 1);
    }
}

#[test]
fn mslr_scales_towers_by_their_relative_score() {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let scores: [[f64; 2]; 7] = [[0.2, 0.5], [0.3, 0.6], [0.5, 0.55], [0.4, 0.6], [0.6, 0.7], [0.7, 0.65], [0.8, 0.6]];
    for on_step in [false, true] {
        let apply = if on_step { "step" } else { "gradient" };
        let mut b = balancer("mslr", &[("apply", apply)], &vars);
        for epoch in 0..=scores.len() {
            let rate = |m: usize| {
                let base = [0.9, 1.1][m];
                let seen: Vec<f64> = scores[..epoch].iter().rev().take(5).map(|s| s[m]).collect();
                seen.first().map_or(base, |last| base * last / (seen.iter().sum::<f64>() / seen.len() as f64))
            };
            let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            let factors = if on_step { [1.0; 5] } else { [rate(0), rate(1), 1.0, 1.0, 1.0] };
            assert_close(&model, &vars, &store, &combine(&[(factors, &task(&model))]), "mslr");
            for m in 0..2 {
                let scale = b.step_scale(balgrad::Role::Tower(m));
                assert!((scale - if on_step { rate(m) } else { 1.0 }).abs() < 1e-12, "step scale {scale}");
            }
            if let Some(s) = scores.get(epoch) {
                let val_score = s.iter().map(|v| Some(*v)).collect();
                b.epoch_ended(EpochSummary { epoch: epoch + 1, val_score, ..EpochSummary::default() }).unwrap();
            }
        }
    }
}

#[test]
fn ogm_slows_the_leader_as_the_fused_head_sees_it() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let logits = model.logits();
        let views = if model.gated { &logits.alone } else { &logits.slices };
        let s = [0, 1].map(|m: usize| truth_probability(&views[m], &model.truth).iter().sum::<f64>());
        let k = [0, 1].map(|m: usize| {
            let rho = s[m] / s[1 - m];
            if rho > 1.0 { 1.0 - (0.3 * rho).tanh() } else { 1.0 }
        });
        let mut b = balancer("ogm", &[("alpha", "0.3"), ("epochs", "2")], &vars);
        for epoch in 1..4 {
            let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            let factors = if epoch <= 2 { [k[0], k[1], 1.0, 1.0, 1.0] } else { [1.0; 5] };
            assert_close(&model, &vars, &store, &combine(&[(factors, &task(&model))]), "ogm");
            b.epoch_ended(EpochSummary { epoch, ..EpochSummary::default() }).unwrap();
        }
    }
}

/// OGM-GE is OGM plus noise of the unmodulated gradient's size on every tower tensor, and on nothing else.
#[test]
fn ogm_ge_adds_noise_of_the_gradients_size() {
    let model = Model::random(5, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let (outputs, labels) = (model.outputs(&vars, false).unwrap(), model.labels(DType::F32));
    let plain = balancer("ogm", &[], &vars).backward(&outputs, &labels).unwrap();
    let draws = 400;
    let mut differences = vec![Vec::new(); 10];
    for seed in 0..draws {
        let method = find("ogm-ge").unwrap().with(&BTreeMap::new()).unwrap();
        let mut b = Balancer::new(method, blocks(&vars, Granularity::Role), seed);
        let store = b.backward(&outputs, &labels).unwrap();
        for (i, difference) in differences.iter_mut().enumerate() {
            if let (Some(a), Some(b)) = (store.get(vars[i].as_tensor()), plain.get(vars[i].as_tensor())) {
                difference.extend(matrix(a).zip(&matrix(b), |a, b| a - b).data);
            }
        }
    }
    for (i, difference) in differences.iter().enumerate() {
        if i >= 4 {
            assert!(difference.iter().all(|d| *d == 0.0), "noise on parameter {i}");
            continue;
        }
        let g = &task(&model).parameters[i].data;
        let n = g.len() as f64;
        let mean = g.iter().sum::<f64>() / n;
        let deviation = (g.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let count = difference.len() as f64;
        let drift = difference.iter().sum::<f64>() / count;
        let spread = (difference.iter().map(|d| d * d).sum::<f64>() / count).sqrt();
        assert!(drift.abs() < 4.0 * deviation / count.sqrt(), "noise of parameter {i} has mean {drift}");
        assert!((spread / deviation - 1.0).abs() < 0.04, "noise of parameter {i}: {spread} against {deviation}");
    }
}

/// AGM over a sequence of batches, from its definition: every path into `z̃_m` carries the factor `k_m`.
#[test]
fn agm_scales_what_flows_into_each_shapley_logit() {
    let mut moved = 0;
    for model in problems() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("agm", &[("alpha", "0.8")], &vars);
        let mut history: Vec<[f64; 2]> = Vec::new();
        for batch in 0..4 {
            let mut now = Model::random(100 + batch, 3, false, false, false);
            now = Model { parameters: model.parameters.clone(), gated: model.gated, truth: model.truth.clone(), ..now };
            let z = now.logits();
            let shapley = [0, 1].map(|m: usize| {
                let alone = |m: usize| if now.gated { &z.alone[m] } else { &z.slices[m] };
                if now.gated {
                    z.fused.add(alone(m)).add(&alone(1 - m).scale(-1.0)).scale(0.5)
                } else {
                    alone(m).clone()
                }
            });
            let c = [0, 1].map(|m: usize| cross_entropy(&shapley[m], &now.truth).0);
            let mean = |m: usize| history.iter().map(|c| c[m]).sum::<f64>() / history.len() as f64;
            let k = [0, 1].map(|m: usize| {
                let r = (c[1 - m] - c[m]).exp();
                let tau = if history.is_empty() { r } else { (mean(1 - m) - mean(m)).exp() };
                (0.8 * (tau - r).min(10.0)).exp()
            });
            history.push(c);
            moved += usize::from((k[0] - 1.0).abs() > 0.01);
            let store = b.backward(&now.outputs(&vars, false).unwrap(), &now.labels(DType::F32)).unwrap();
            let whole = task(&now);
            let expected = if now.gated {
                // z̃_m = ½(z + z(m alone) − z(other alone)); the fused head's own weights are left as they are.
                let dz = cross_entropy(&z.fused, &now.truth).1;
                let alone = |m: usize| {
                    let mut into = Cotangents::default();
                    into.alone[m] = Some(dz.clone());
                    now.backprop(&into)
                };
                let half = [0.5 * (k[0] + k[1]), 0.5 * (k[0] - k[1])];
                let terms = [
                    ([half[0], half[0], 1.0, 1.0, 1.0], &whole),
                    ([half[1], 0.0, 0.0, 0.0, 0.0], &alone(0)),
                    ([0.0, -half[1], 0.0, 0.0, 0.0], &alone(1)),
                ];
                combine(&terms)
            } else {
                combine(&[([k[0], k[1], 1.0, 1.0, 1.0], &whole)])
            };
            assert_close(&now, &vars, &store, &expected, "agm");
        }
    }
    assert!(moved > 50, "the factors hardly ever differ from 1");
}

/// BalGrad's settings in one of its arms.
#[derive(Clone, Debug)]
struct Arm {
    reweight: bool,
    project: bool,
    share: &'static str,
    scope: &'static str,
    symmetric: bool,
    uni: f64,
    kl: f64,
    t: f64,
}

const VALIDATION: [f64; 2] = [0.4, 1.3];

impl Arm {
    fn given(&self) -> Vec<(&'static str, String)> {
        vec![
            ("reweight", self.reweight.to_string()),
            ("project", self.project.to_string()),
            ("share", self.share.to_owned()),
            ("scope", self.scope.to_owned()),
            ("kl", if self.symmetric { "symmetric" } else { "mutual" }.to_owned()),
            ("uni_weight", self.uni.to_string()),
            ("kl_weight", self.kl.to_string()),
            ("temperature", self.t.to_string()),
        ]
    }

    fn balancer(&self, vars: &[candle_core::Var]) -> Balancer {
        let given = self.given();
        let given: Vec<(&str, &str)> = given.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut b = balancer("balgrad", &given, vars);
        let val_loss = VALIDATION.iter().map(|v| Some(*v)).collect();
        b.epoch_ended(EpochSummary { epoch: 1, val_loss, ..EpochSummary::default() }).unwrap();
        b
    }

    /// `w_m`, mean 1.
    fn shares(&self, model: &Model, uni: &Gradient) -> [f64; 2] {
        let z = model.logits().own;
        let measure = match self.share {
            _ if !self.reweight => [1.0; 2],
            "norm" if self.scope == "representation" => [0, 1].map(|m: usize| uni.embeddings[m].norm()),
            "norm" => [0, 1].map(|m| norm(&uni.parameters, PARTS[m])),
            "loss" => [0, 1].map(|m: usize| cross_entropy(&z[m], &model.truth).0),
            "confidence" => [0, 1].map(|m: usize| 1.0 / truth_probability(&z[m], &model.truth).iter().sum::<f64>()),
            "validation" => VALIDATION,
            _ => [1.0; 2],
        };
        let sum = measure[0] + measure[1];
        if sum > 0.0 { measure.map(|v| 2.0 * v / sum) } else { [1.0; 2] }
    }

    /// The paper's two equations on explicit vectors.
    fn expected(&self, model: &Model) -> Expected {
        let g_t = task(model);
        let uni = plus(&own(model, 0), &own(model, 1));
        let g_kl = plus(&agree(model, 0, self.t, self.symmetric), &agree(model, 1, self.t, self.symmetric));
        let w = self.shares(model, &uni);
        if self.scope == "representation" {
            return self.at_the_embeddings(model, &g_t, &uni, &g_kl, w);
        }
        let kl: Vec<Matrix> = (0..4).map(|i| g_kl.parameters[i].scale(self.kl * w[i / 2])).collect();
        let units: &[&[usize]] = match self.scope {
            "global" => &[&[0, 1, 2, 3]],
            "layer" => &[&[0], &[1], &[2], &[3]],
            _ => &[&[0, 1], &[2, 3]],
        };
        let mut projected = g_t.parameters.clone();
        let mut size = [0.0; 5];
        for unit in units.iter().filter(|_| self.project) {
            let inner: f64 = unit.iter().map(|i| g_t.parameters[*i].dot(&kl[*i])).sum();
            let squared: f64 = unit.iter().map(|i| kl[*i].dot(&kl[*i])).sum();
            if inner < 0.0 && squared > 1e-30 {
                for i in *unit {
                    projected[*i] = projected[*i].add(&kl[*i].scale(-inner / squared));
                    size[i / 2] += -inner / squared * kl[*i].norm();
                }
            }
        }
        let mut d = g_t.parameters.clone();
        for i in 0..4 {
            d[i] = projected[i].add(&uni.parameters[i].scale(self.uni)).add(&kl[i]);
        }
        for i in [4, 5] {
            d[i] = uni.parameters[i].scale(self.uni).add(&g_kl.parameters[i].scale(self.kl * w[i - 4]));
        }
        for (part, of) in PARTS.iter().enumerate() {
            let kl_size = if part < 4 { self.kl * w[part % 2] * norm(&g_kl.parameters, of) } else { 0.0 };
            size[part] += norm(&g_t.parameters, of) + self.uni * norm(&uni.parameters, of) + kl_size;
        }
        Expected { gradient: d, size }
    }

    fn at_the_embeddings(
        &self,
        model: &Model,
        g_t: &Gradient,
        uni: &Gradient,
        g_kl: &Gradient,
        w: [f64; 2],
    ) -> Expected {
        let mut expected = combine(&[
            ([0.0, 0.0, 0.0, 0.0, 1.0], g_t),
            ([0.0, 0.0, self.uni, self.uni, 0.0], uni),
            ([0.0, 0.0, self.kl * w[0], self.kl * w[1], 0.0], g_kl),
        ]);
        for m in 0..2 {
            let (t, kl) = (&g_t.embeddings[m], g_kl.embeddings[m].scale(self.kl * w[m]));
            let (inner, squared) = (t.dot(&kl), kl.dot(&kl));
            let p = if self.project && inner < 0.0 && squared > 1e-30 { -inner / squared } else { 0.0 };
            let de = t.add(&kl.scale(1.0 + p)).add(&uni.embeddings[m].scale(self.uni));
            model.through_tower(m, &de, &mut expected.gradient);
            let through = |de: &Matrix| {
                let mut g = model.parameters.clone();
                model.through_tower(m, de, &mut g);
                norm(&g, PARTS[m])
            };
            expected.size[m] = through(t) + through(&kl) * (1.0 + p) + self.uni * through(&uni.embeddings[m]);
        }
        expected
    }
}

fn arms() -> Vec<Arm> {
    let plain = Arm {
        reweight: true,
        project: true,
        share: "norm",
        scope: "block",
        symmetric: false,
        uni: 1.0,
        kl: 1.0,
        t: 1.0,
    };
    let mut arms = vec![
        plain.clone(),
        Arm { reweight: false, ..plain.clone() },
        Arm { project: false, ..plain.clone() },
        Arm { reweight: false, project: false, ..plain.clone() },
        Arm { symmetric: true, t: 2.0, ..plain.clone() },
        Arm { uni: 0.3, kl: 2.5, t: 3.0, ..plain.clone() },
        Arm { uni: 0.0, kl: 0.0, ..plain.clone() },
        Arm { kl: 2.0, scope: "global", symmetric: true, ..plain.clone() },
    ];
    for share in ["norm", "loss", "confidence", "validation", "uniform"] {
        arms.extend(["block", "global", "layer", "representation"].map(|scope| Arm {
            share,
            scope,
            t: 1.5,
            ..plain.clone()
        }));
    }
    arms
}

#[test]
fn balgrad_is_the_papers_two_equations() {
    let mut conflicts = 0;
    for arm in arms() {
        for model in problems() {
            let vars = model.vars(DType::F32);
            let outputs = model.outputs(&vars, arm.scope == "representation").unwrap();
            let mut b = arm.balancer(&vars);
            let store = b.backward(&outputs, &model.labels(DType::F32)).unwrap();
            assert_close(&model, &vars, &store, &arm.expected(&model), &format!("{arm:?}"));
            assert_eq!(b.report().passes, 3);
            let mix = b.report().mix.clone().unwrap();
            for c in mix.conflict.unwrap() {
                let (before, after) = (c.before.unwrap(), c.after.unwrap());
                conflicts += usize::from(before < -0.01);
                if arm.project && arm.kl > 0.0 && arm.scope != "global" {
                    assert!(after >= -1e-6, "{arm:?}: still in conflict: {after}");
                }
                if before >= 0.0 && arm.scope == "block" {
                    assert_eq!(before, after, "projected without a conflict");
                }
            }
        }
    }
    assert!(conflicts > 300, "only {conflicts} conflicts: the problems test nothing");
}

/// What is left of the task gradient has no negative inner product with the KL gradient it was projected off:
/// `⟨g_T^⊥, g_kl⟩ ≥ −1e-6 ‖g_T‖‖g_kl‖`, measured on the gradient that comes out, in f64: where the predictions nearly agree,
/// the f32 gradient of the KL itself is off by more than that.
#[test]
fn projection_leaves_no_conflict() {
    let mut before = 0;
    for (scope, units) in [("block", &[&[0usize, 1][..], &[2, 3]][..]), ("global", &[&[0, 1, 2, 3]])] {
        for model in many_problems(200) {
            let vars = model.vars(DType::F64);
            let outputs = model.outputs(&vars, false).unwrap();
            // A small KL weight leaves little but g_T^⊥ itself, so that rounding stays that of g_T.
            let given = [("uni_weight", "0"), ("kl_weight", "0.001"), ("share", "uniform"), ("scope", scope)];
            let store = balancer("balgrad", &given, &vars).backward(&outputs, &model.labels(DType::F64)).unwrap();
            let g_kl = plus(&agree(&model, 0, 1.0, false), &agree(&model, 1, 1.0, false)).parameters;
            let g_t = task(&model).parameters;
            for unit in units {
                let left = |i: usize| matrix(store.get(vars[i].as_tensor()).unwrap()).add(&g_kl[i].scale(-0.001));
                let inner: f64 = unit.iter().map(|i| left(*i).dot(&g_kl[*i])).sum();
                let bound = 1e-6 * norm(&g_t, unit) * norm(&g_kl, unit);
                before += usize::from(unit.iter().map(|i| g_t[*i].dot(&g_kl[*i])).sum::<f64>() < -bound);
                assert!(inner >= -bound, "{scope}: {inner} below {bound}");
            }
        }
    }
    assert!(before > 30, "only {before} conflicts");
}

/// Aggregators as methods: towers together get the weights of one Gram matrix, heads the plain sum.
#[test]
fn aggregators_weigh_task_own_and_mutual_losses() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let kl = plus(&agree(&model, 0, 1.0, false), &agree(&model, 1, 1.0, false));
        let gradients = [task(&model), own(&model, 0), own(&model, 1), kl];
        let inner = |a: &Gradient, b: &Gradient| (0..4).map(|i| a.parameters[i].dot(&b.parameters[i])).sum::<f64>();
        let gram: Vec<f64> = gradients.iter().flat_map(|a| gradients.iter().map(|b| inner(a, b))).collect();
        let plain = [1.0; 4];
        let rules = [
            ("upgrad", balgrad::methods::upgrad::weights(&gram, 4), plain),
            ("imtl-g", balgrad::methods::imtl_g::weights(&gram, 4), plain),
            ("gradnorm", plain.to_vec(), plain),
            ("uncertainty", plain.to_vec(), plain),
        ];
        for (name, towers, heads) in rules {
            let terms: Vec<([f64; 5], &Gradient)> =
                (0..4).map(|i| ([towers[i], towers[i], heads[i], heads[i], heads[i]], &gradients[i])).collect();
            let mut b = balancer(name, &[], &vars);
            let outputs = model.outputs(&vars, false).unwrap();
            let store = b.backward(&outputs, &model.labels(DType::F32)).unwrap();
            // Weights of nearly dependent gradients magnify the rounding of the Gram matrix.
            let mut expected = combine(&terms);
            expected.size.iter_mut().for_each(|s| *s *= 1.0 + towers.iter().map(|w| w * w).sum::<f64>());
            assert_close(&model, &vars, &store, &expected, name);
            assert_eq!(b.report().passes, if name == "uncertainty" { 1 } else { 4 });
        }
    }
}
