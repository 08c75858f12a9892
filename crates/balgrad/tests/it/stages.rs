//! Methods that go by stages and turns, against central differences of each stage's loss written by hand in f64.

use crate::plain::differences::{
    balancer, check, check_with, compare, ended, is_many, mean, nothing, problems, targets, task, uni,
};
use crate::plain::model::{Model, matrix};
use crate::plain::{Matrix, Truth, cross_entropy, log_sigmoid, log_softmax, sigmoid, softmax};
use balgrad::{Balancer, Outputs, Request};
use candle_core::{DType, Device, Tensor};

#[test]
fn umt_distils_teachers_after_training_them() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("umt", &[("teacher_epochs", "2"), ("lambda", "3")], &vars);
        assert_eq!(b.needs().prelude, 2);
        for epoch in 1..=2 {
            check(&mut b, &model, &vars, [&uni, &uni, &nothing], "umt, teachers");
            let asked = ended(&mut b, epoch);
            assert_eq!(asked, if epoch == 2 { vec![Request::Teach, Request::Restart] } else { vec![] });
        }
        let lacking = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32));
        assert!(lacking.unwrap_err().to_string().contains("Outputs::teacher"));
        let teacher = [0, 1].map(|m| model.embedding(m).map(|v| (0.7 * v - 0.1) as f32 as f64));
        let loss = |at: &Model| {
            let far = |m: usize| mean(&at.embedding(m).zip(&teacher[m], |a, b| (a - b).powi(2)).data);
            task(at) + 3.0 * (far(0) + far(1))
        };
        let arrange = |outputs: &mut Outputs| {
            let tensor = |m: &Matrix| {
                let data: Vec<f32> = m.data.iter().map(|v| *v as f32).collect();
                Tensor::from_vec(data, (m.rows, m.cols), &Device::Cpu).unwrap()
            };
            outputs.teacher = Some(teacher.iter().map(tensor).collect());
        };
        check_with(&mut b, &model, &vars, arrange, [&loss, &nothing, &loss], "umt, distilling");
    }
}

#[test]
fn mla_takes_turns_and_projects_the_heads_gradient() {
    for model in problems().filter(|m| !m.gated) {
        let vars = model.vars(DType::F32);
        let mut b = balancer("mla", &[], &vars).lasting(4, 1);
        assert!(b.needs().turns);
        let mut p = Matrix::from(3, 3, |i| f64::from(u8::from(i % 4 == 0)));
        for turn in 0..4 {
            let m = turn % 2;
            if turn > 0 {
                let e = model.embedding(m);
                let r = e.column_sums().scale(1.0 / e.rows as f64).t();
                let k = p.mul(&r);
                let alpha = 0.1f64.powf(1.0 + turn as f64 / 4.0);
                p = p.add(&k.mul(&k.t()).scale(-1.0 / (alpha + r.t().mul(&k).data[0])));
                p = p.scale(1.0 / p.norm());
            }
            let alone = |at: &Model| cross_entropy(&at.logits().alone[m], &at.truth).0;
            // g_W Pᵀ, from the plain gradient of the head; the bias is not projected.
            let dz = cross_entropy(&model.logits().alone[m], &model.truth).1;
            let projected = p.mul(&model.embedding(m).t().mul(&dz));
            let head = |at: &Model| {
                let moved = at.parameters[6 + m].add(&model.parameters[6 + m].scale(-1.0));
                let bias = at.parameters[8].add(&model.parameters[8].scale(-1.0));
                moved.dot(&projected) + bias.dot(&dz.column_sums())
            };
            check(&mut b, &model, &vars, [&alone, &nothing, &head], &format!("mla, turn {turn}"));
        }
    }
}

/// The projection acts: without it the second turn's gradient would be another (public code's never fires).
#[test]
fn mlas_projection_is_not_idle() {
    let model = Model::random(4, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let mut b = balancer("mla", &[], &vars);
    let step = |b: &mut Balancer| {
        let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
        matrix(store.get(vars[7].as_tensor()).unwrap_or(&vars[7].as_tensor().zeros_like().unwrap()))
    };
    step(&mut b);
    let found = step(&mut b);
    let dz = cross_entropy(&model.logits().alone[1], &model.truth).1;
    let plain = model.embedding(1).t().mul(&dz);
    assert!(found.zip(&plain, |a, b| a - b).norm() > 0.1 * plain.norm());
}

#[test]
fn recon_boost_takes_stages() {
    for model in problems() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("recon-boost", &[], &vars);
        let (base, many) = (model.logits(), is_many(&model));
        for (epoch, active) in [(0, Some(0)), (1, None), (2, Some(1)), (3, None), (4, Some(0))] {
            let loss = |at: &Model| {
                let own = at.logits().own;
                let Some(m) = active else { return cross_entropy(&own[0].add(&own[1]), &at.truth).0 };
                let others = &base.own[1 - m];
                let y = targets(at);
                let mut fit = 0.0;
                let total: f64 = match &at.truth {
                    Truth::Classes { ids, weights } => {
                        ids.iter().map(|c| weights.as_ref().map_or(1.0, |w| w[*c])).sum()
                    }
                    Truth::Many { .. } => y.data.len() as f64,
                };
                for i in 0..y.data.len() {
                    let (r, c, yes) = (i / y.cols, i % y.cols, y.data[i] > 0.5);
                    let (log_p, q, weight) = match &at.truth {
                        Truth::Classes { weights, .. } if yes => {
                            let weight = weights.as_ref().map_or(1.0, |w| w[c]);
                            (log_softmax(own[m].row(r))[c], softmax(others.row(r))[c], weight)
                        }
                        Truth::Classes { .. } => continue,
                        Truth::Many { positive, .. } => {
                            let sign = if yes { 1.0 } else { -1.0 };
                            let weight = if yes { positive.as_ref().map_or(1.0, |w| w[c]) } else { 1.0 };
                            (log_sigmoid(sign * own[m].data[i]), sigmoid(sign * others.data[i]), weight)
                        }
                    };
                    fit -= weight / total * (5.0 - q) * log_p;
                }
                let apart = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| (p - q).powi(2)).sum();
                fit + if epoch == 0 { 0.0 } else { 0.5 * mean(&compare(&own[m], others, many, apart)) }
            };
            check(&mut b, &model, &vars, [&loss, &loss, &nothing], &format!("recon-boost, epoch {epoch}"));
            ended(&mut b, epoch + 1);
        }
    }
}

/// Both sides of the agreement term detached, it would have no gradient (a public port).
#[test]
fn recon_boosts_agreement_has_a_gradient() {
    let model = Model::random(6, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let gradient = |weight: &str| {
        let mut b = balancer("recon-boost", &[("agreement", weight)], &vars);
        // The second modality's stage.
        (1..=2).for_each(|epoch| drop(ended(&mut b, epoch)));
        let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
        matrix(store.get(vars[2].as_tensor()).unwrap())
    };
    assert!(gradient("0").zip(&gradient("10"), |a, b| a - b).norm() > 1e-3);
}
