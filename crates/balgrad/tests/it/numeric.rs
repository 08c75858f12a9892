//! Methods that add losses of their own, against central differences of those losses written by hand in f64.

use std::collections::BTreeMap;

use crate::plain::differences::{
    apart, balancer, check, compare, ended, fuse, is_many, kl, mean, nothing, problems, targets, task, uni, views,
};
use crate::plain::model::{Model, matrix};
use crate::plain::{Matrix, cross_entropy, sigmoid, softmax, truth_probability};
use balgrad::{Balancer, EpochSummary, Value, find};
use candle_core::{DType, Var};

#[test]
fn pmr_draws_the_slower_modality_to_its_prototypes() {
    // One modality's clusters pulled far apart and the other's together: the lead is beyond the clip.
    let lopsided = |mut model: Model| {
        model.parameters[1] = model.parameters[1].scale(8.0);
        model.parameters[3] = model.parameters[3].scale(0.1);
        model.rounded()
    };
    let (mut slower, mut held_back, mut clipped) = ([0; 2], 0, 0);
    for model in problems().chain(problems().map(lopsided)) {
        let vars = model.vars(DType::F32);
        let given =
            [("alpha", "1.5"), ("entropy", "0.3"), ("entropy_epochs", "2"), ("epochs", "3"), ("momentum", "0.25")];
        let mut b = balancer("pmr", &given, &vars);
        check(&mut b, &model, &vars, [&task, &task, &task], "pmr before any prototype");
        ended(&mut b, 1);
        // One epoch of one batch: prototypes are its class means. A class without samples stays at the origin.
        let y = targets(&model);
        let prototypes = [0, 1].map(|m| {
            let sums = y.t().mul(&model.embedding(m));
            Matrix::from(sums.rows, sums.cols, |i| {
                let count: f64 = (0..y.rows).map(|r| y.at(r, i / sums.cols)).sum();
                if count > 0.0 { sums.data[i] / count } else { 0.0 }
            })
        });
        let near = |at: &Model, m: usize| {
            let (e, p) = (at.embedding(m), &prototypes[m]);
            let distance = |i: usize| {
                let (r, c) = (i / p.rows, i % p.rows);
                e.row(r).iter().zip(p.row(c)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
            };
            let d = Matrix::from(e.rows, p.rows, distance);
            Matrix::from(d.rows, d.cols, |i| if is_many(at) { mean(d.row(i / d.cols)) } else { 0.0 } - d.data[i])
        };
        let score = |m: usize| truth_probability(&near(&model, m), &model.truth).iter().sum::<f64>();
        let beta = [0, 1].map(|m| 1.5 * (score(1 - m) / score(m) - 1.0).clamp(0.0, 1.0));
        let entropy = |at: &Model, m: usize| {
            let z = near(at, m);
            mean(&compare(&z, &z, is_many(at), |p, _| -p.iter().map(|p| p * p.ln()).sum::<f64>()))
        };
        for epoch in 1..4 {
            let loss = |at: &Model| {
                let mut sum = task(at);
                for (m, beta) in beta.iter().enumerate().filter(|(_, b)| **b > 0.0 && epoch < 3) {
                    sum += beta * cross_entropy(&near(at, m), &at.truth).0;
                    sum -= if epoch < 2 { 0.3 * beta * entropy(at, 1 - m) } else { 0.0 };
                }
                sum
            };
            // A batch that says the same again leaves prototypes where they are, whatever the momentum.
            check(&mut b, &model, &vars, [&loss, &loss, &loss], &format!("pmr in epoch {epoch}"));
            ended(&mut b, epoch + 1);
        }
        slower[usize::from(beta[1] > 0.0)] += 1;
        held_back += usize::from(beta.iter().any(|b| *b > 1e-6));
        clipped += usize::from(score(0) > 2.0 * score(1) || score(1) > 2.0 * score(0));
    }
    assert!(slower.iter().all(|n| *n > 1) && held_back > 6 && clipped > 1, "{slower:?} {held_back} {clipped}");
}

#[test]
fn cggm_slows_whoever_improved() {
    for (first, second) in problems().zip(problems().skip(4)) {
        // Two batches, so that accuracies change; the second is the one that is checked.
        if first.parameters[4].cols != second.parameters[4].cols || is_many(&first) != is_many(&second) {
            continue;
        }
        let given = [("rho", "1.3"), ("lambda", "0.2")];
        let vars = first.vars(DType::F32);
        let mut b = balancer("cggm", &given, &vars);
        b.backward(&first.outputs(&vars, false).unwrap(), &first.labels(DType::F32)).unwrap();
        let accuracy = |m: &Model, n: usize| {
            let (z, y) = (&m.logits().own[n], targets(m));
            let right = |r: usize| {
                let (z, y) = (z.row(r), y.row(r));
                if is_many(m) {
                    let agree = z.iter().zip(y).filter(|(z, y)| (**z >= 0.0) == (**y > 0.5)).count();
                    return agree as f64 / y.len() as f64;
                }
                let best = (0..z.len()).max_by(|a, b| z[*a].total_cmp(&z[*b])).unwrap();
                y[best]
            };
            mean(&(0..z.rows).map(right).collect::<Vec<_>>())
        };
        let change = [0, 1].map(|n| accuracy(&second, n) - accuracy(&first, n));
        let sum: f64 = change.iter().sum();
        let k = change.map(|d| if sum.abs() < 1e-3 { 1.0 } else { (1.3 * (sum - d) / sum).clamp(0.0, 1.3) });
        let aligned = |at: &Model| {
            let (z, y) = (at.logits(), targets(at));
            let slope = |z: &Matrix| {
                let p = |i: usize| {
                    let (r, c) = (i / z.cols, i % z.cols);
                    if is_many(at) { sigmoid(z.data[i]) } else { softmax(z.row(r))[c] }
                };
                Matrix::from(z.rows, z.cols, |i| p(i) - y.data[i])
            };
            let g = slope(&z.fused);
            let cosine = |n: usize| slope(&z.own[n]).dot(&g) / (slope(&z.own[n]).norm() * g.norm());
            0.2 / 2.0 * (k[0] + k[1] - k[0] * cosine(0) - k[1] * cosine(1))
        };
        // The factor is a tower's own: one tower at a time.
        let vars = second.vars(DType::F32);
        for n in 0..2 {
            let mut c = balancer("cggm", &given, &vars);
            c.restore(&b.state()).unwrap();
            let tower = |at: &Model| {
                // Only tower n differs from the base where its parameters are moved.
                let moved = (0..4).find(|i| at.parameters[*i] != second.parameters[*i]).map_or(n, |i| i / 2);
                k[moved] * task(at) + aligned(at)
            };
            check(&mut c, &second, &vars, [&tower, &uni, &|at| task(at) + aligned(at)], "cggm");
        }
    }
}

#[test]
fn cggm_keeps_its_factors_where_nothing_changed() {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let mut b = balancer("cggm", &[], &vars);
    for _ in 0..3 {
        b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
    }
    let mix = b.report().mix.clone().unwrap();
    assert_eq!(mix.coefficients[0][0], 1.0);
}

#[test]
fn opm_silences_the_leader() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        // Treated for certain, silenced for certain: mean q = 1/2, and what is kept counts double.
        let mut b = balancer("opm", &[("p", "1"), ("q", "1"), ("alpha", "0")], &vars);
        let seen = views(&model);
        let score = |m: usize| truth_probability(&seen[m], &model.truth).iter().sum::<f64>();
        let leader = usize::from(score(1) > score(0));
        let loss = |at: &Model| {
            let e = [0, 1].map(|m| at.embedding(m).scale(if m == leader { 0.0 } else { 2.0 }));
            cross_entropy(&fuse(at, [&e[0], &e[1]]), &at.truth).0
        };
        check(&mut b, &model, &vars, [&loss, &nothing, &loss], "opm");
        let mut never = balancer("opm", &[("p", "0")], &vars);
        check(&mut never, &model, &vars, [&task, &nothing, &task], "opm, untreated");
    }
}

/// The chance is `q (1 + α tanh(ρ − 1))`: over many steps as many rows are silent as it says.
#[test]
fn opm_keeps_its_chances() {
    let model = Model::random(5, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let seen = views(&model);
    let score = |m: usize| truth_probability(&seen[m], &model.truth).iter().sum::<f64>();
    let (leader, ratio) = if score(1) > score(0) { (1, score(1) / score(0)) } else { (0, score(0) / score(1)) };
    let expected = 0.4 * (1.0 + 0.5 * (ratio - 1.0).tanh());
    let mut b = balancer("opm", &[("p", "1")], &vars);
    let (mut silent, mut rows) = (0.0, 0.0);
    for _ in 0..800 {
        // The gradient with respect to the embedding is zero exactly where it was silenced.
        let mut outputs = model.outputs(&vars, false).unwrap();
        let leaf = Var::from_tensor(&outputs.embeddings[leader].detach()).unwrap();
        outputs.embeddings[leader] = leaf.as_tensor().clone();
        let blocks = vec![balgrad::Block { name: "leaf".into(), role: balgrad::Role::Fused, vars: vec![leaf.clone()] }];
        let mut one = Balancer::new(
            find("opm").unwrap().with(&BTreeMap::from([("p".into(), Value::Number(1.0))])).unwrap(),
            blocks,
            1,
        );
        one.restore(&b.state()).unwrap();
        let g = matrix(one.backward(&outputs, &model.labels(DType::F32)).unwrap().get(leaf.as_tensor()).unwrap());
        silent += (0..g.rows).filter(|r| g.row(*r).iter().all(|v| *v == 0.0)).count() as f64;
        rows += g.rows as f64;
        b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
    }
    let (rate, error) = (silent / rows, (expected * (1.0 - expected) / rows).sqrt());
    assert!((rate - expected).abs() < 4.0 * error, "silenced {rate}, expected {expected} ± {error}");
}

#[test]
fn amco_takes_out_the_channels_of_a_dependent_modality() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("amco", &[("sigma", "0.5"), ("ramp", "0.3")], &vars).lasting(2, 1);
        let both = |at: &Model| views(at).iter().map(|z| cross_entropy(z, &at.truth).0).sum::<f64>();
        let early = |at: &Model| task(at) + both(at);
        check(&mut b, &model, &vars, [&early, &nothing, &early], "amco before the ramp");
        // Half way: all channels of the modality that holds most of the joint softmax.
        let seen = views(&model);
        let share = |m: usize| {
            let one = |r: usize| {
                let row: Vec<f64> = seen.iter().flat_map(|z| z.row(r).to_vec()).collect();
                let classes = row.len() / 2;
                softmax(&row)[m * classes..(m + 1) * classes].iter().sum::<f64>()
            };
            mean(&(0..seen[0].rows).map(one).collect::<Vec<_>>())
        };
        let dependent = usize::from(share(1) > 0.5);
        let late = |at: &Model| {
            let rest = at.logits().fused.add(&views(at)[dependent].scale(-1.0));
            cross_entropy(&rest, &at.truth).0 + both(at)
        };
        check(&mut b, &model, &vars, [&late, &nothing, &late], "amco beyond the ramp");
    }
}

#[test]
fn cml_lets_no_confidence_rise() {
    let mut removed = [0; 2];
    for model in problems() {
        let vars = model.vars(DType::F32);
        let confidence =
            |z: &Matrix, many: bool| compare(z, z, many, |p, _| p.iter().copied().fold(f64::MIN, f64::max));
        let loss = |at: &Model, kept: usize| {
            let (z, less, many) = (at.logits().fused, &at.logits().alone[kept], is_many(at));
            let rise: Vec<f64> =
                confidence(less, many).iter().zip(confidence(&z, many)).map(|(a, b)| (a - b).max(0.0)).collect();
            (cross_entropy(&z, &at.truth).0 + cross_entropy(less, &at.truth).0) / 2.0 + 0.7 * mean(&rise)
        };
        // Which modality goes is drawn: both losses are tried, one must fit.
        let fits = |kept: usize| {
            let mut b = balancer("cml", &[("lambda", "0.7")], &vars);
            // A few steps on, so that draws differ between problems.
            for _ in 0..model.x[0].data[0].to_bits() >> 30 & 7 {
                b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            }
            let l = |at: &Model| loss(at, kept);
            apart(&mut b, &model, &vars, |_| (), [&l, &nothing, &l]).0 <= 3e-4
        };
        let fitting: Vec<usize> = (0..2).filter(|kept| fits(*kept)).collect();
        assert_eq!(fitting.len(), 1);
        removed[1 - fitting[0]] += 1;
    }
    assert!(removed.iter().all(|n| *n > 0), "{removed:?}");
}

#[test]
fn mbsd_lets_the_surer_modality_teach() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let (base, many) = (model.logits(), is_many(&model));
        let sure = [0, 1].map(|m: usize| truth_probability(&base.own[m], &model.truth));
        let y = targets(&model);
        let right = |m: usize, r: usize| {
            if many {
                return sure[m][r] > 0.5;
            }
            let z = base.own[m].row(r);
            y.row(r)[(0..z.len()).max_by(|a, b| z[*a].total_cmp(&z[*b])).unwrap()] == 1.0
        };
        let loss = |at: &Model| {
            let own = at.logits().own;
            let taught = |r: usize| {
                let weight = if right(0, r) || right(1, r) { (sure[0][r] - sure[1][r]).abs() } else { 0.0 };
                let apart =
                    mean(&own[0].row(r).iter().zip(own[1].row(r)).map(|(a, b)| (a - b).powi(2)).collect::<Vec<_>>());
                let teacher = usize::from(sure[0][r] < sure[1][r]);
                weight * (apart + compare(&base.own[teacher], &own[1 - teacher], many, kl)[r])
            };
            task(at) + uni(at) + mean(&(0..y.rows).map(taught).collect::<Vec<_>>())
        };
        check(&mut balancer("mbsd", &[], &vars), &model, &vars, [&loss, &loss, &loss], "mbsd");
    }
}

#[test]
fn lfm_closes_the_gap_first() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("lfm", &[], &vars).lasting(2, 1);
        let gap = |at: &Model| {
            let z = views(at);
            let js = |p: &[f64], q: &[f64]| {
                let middle: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p + q) / 2.0).collect();
                (kl(p, &middle) + kl(q, &middle)) / 2.0
            };
            mean(&compare(&z[0], &z[1], is_many(at), js))
        };
        for weight in [0.95, 0.5] {
            let loss = |at: &Model| 2.0 * ((1.0 - weight) * task(at) + weight * gap(at));
            check(&mut b, &model, &vars, [&loss, &nothing, &loss], &format!("lfm at {weight}"));
        }
    }
}

#[test]
fn chorus_teaches_as_much_as_it_is_trusted() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let (base, many) = (model.logits(), is_many(&model));
        let own = [0, 1].map(|m| cross_entropy(&base.own[m], &model.truth).0);
        let taught = |at: &Model, trust: [f64; 2]| {
            let from = |n: usize| trust[n] * mean(&compare(&base.own[n], &at.logits().own[1 - n], many, kl));
            task(at) + uni(at) + 2.0 * (from(0) + from(1))
        };
        let fused = |at: &Model| task(at);
        let mut wholly = balancer("chorus", &[("kl_weight", "2")], &vars);
        let all = |at: &Model| taught(at, [1.0; 2]);
        check(&mut wholly, &model, &vars, [&all, &all, &fused], "chorus");
        assert_eq!(wholly.report().passes, 1);

        // The first step is the first loss; a second model stands for what was learnt.
        let mut b = balancer("chorus", &[("kl_weight", "2"), ("trust", "validation")], &vars);
        let nobody = |at: &Model| taught(at, [0.0; 2]);
        check(&mut b, &model, &vars, [&nobody, &nobody, &fused], "chorus before a measurement");
        let mut learnt = model.clone();
        let better = [0, 1].map(|m| cross_entropy(&base.own[m].scale(0.5), &model.truth).0);
        (4..6).for_each(|i| learnt.parameters[i] = learnt.parameters[i].scale(0.5));
        let other = learnt.vars(DType::F32);
        let mut c = balancer("chorus", &[("trust", "validation")], &other);
        c.restore(&b.state()).unwrap();
        c.backward(&learnt.outputs(&other, false).unwrap(), &learnt.labels(DType::F32)).unwrap();
        let val_loss = vec![Some(own[0] - 0.1), Some(own[1] + 0.1)];
        c.epoch_ended(EpochSummary { epoch: 1, val_loss, ..EpochSummary::default() }).unwrap();
        // A mean over the epoch's two steps.
        let gain = own[0] - (own[0] + better[0]) / 2.0;
        let trust = if gain > 0.0 { (0.1 / gain).clamp(0.0, 1.0) } else { 0.0 };
        b.restore(&c.state()).unwrap();
        // What got worse on validation teaches nobody.
        let measured = |at: &Model| taught(at, [trust, 0.0]);
        check(&mut b, &model, &vars, [&measured, &measured, &fused], "chorus, measured");
    }
}
