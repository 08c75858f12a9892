//! References and balancing methods beyond the paper's, against gradients written by hand.

use std::collections::BTreeMap;

use crate::plain::cross_entropy;
use crate::plain::gradients::{Expected, assert_close, combine, own, task};
use crate::plain::model::{Gradient, Model, blocks, matrix};
use balgrad::{Balancer, EpochSummary, Granularity, Role, Value, find};
use balgrad_nn::{AdamW, Parameter};
use candle_core::DType;

fn balancer(name: &str, given: &[(&str, &str)], vars: &[candle_core::Var]) -> Balancer {
    let given: BTreeMap<String, Value> = given.iter().map(|(k, v)| ((*k).to_owned(), Value::parse(v))).collect();
    Balancer::new(find(name).unwrap().with(&given).unwrap(), blocks(vars, Granularity::Role), 1)
}

fn problems(count: u64) -> impl Iterator<Item = Model> {
    (0..count).map(|s| Model::random(s, 2 + s as usize % 3, s % 2 == 1, s % 3 == 1, s % 4 > 1))
}

/// One step of a method against what should come out.
fn check(b: &mut Balancer, model: &Model, expected: &Expected, what: &str) {
    let vars = model.vars(DType::F32);
    let mut fresh = balancer_like(b, &vars);
    let store = fresh.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
    assert_close(model, &vars, &store, expected, what);
}

/// The balancer's state over other variables.
fn balancer_like(b: &mut Balancer, vars: &[candle_core::Var]) -> Balancer {
    let mut fresh = balancer("g-blending", &[("super_epoch", "2")], vars);
    fresh.restore(&b.state()).unwrap();
    fresh
}

#[test]
fn references_train_their_own_heads_alone() {
    for model in problems(24) {
        let (image, text) = (own(&model, 0), own(&model, 1));
        let both = [([1.0; 5], &image), ([1.0; 5], &text)];
        for (name, expected) in
            [("image-only", combine(&both[..1])), ("text-only", combine(&both[1..])), ("late-fusion", combine(&both))]
        {
            let vars = model.vars(DType::F32);
            let mut b = balancer(name, &[], &vars);
            let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            assert_close(&model, &vars, &store, &expected, name);
            assert_eq!(b.report().passes, 1);
        }
    }
}

/// MMPareto as its paper writes it: normal steps in Pareto directions, found here by trying 100,000 weights.
#[test]
fn mmpareto_is_the_shortest_vector_at_the_length_of_the_sum() {
    let mut conflicts = 0;
    for model in problems(200) {
        let (g_t, g_own) = (task(&model), [own(&model, 0), own(&model, 1)]);
        let mut terms = [([1.0; 5], &g_t), ([1.0; 5], &g_own[0]), ([1.0; 5], &g_own[1])];
        let mut lengths = [1.0; 2];
        for m in 0..2 {
            let tower = [2 * m, 2 * m + 1];
            let inner =
                |a: &Gradient, b: &Gradient| tower.iter().map(|i| a.parameters[*i].dot(&b.parameters[*i])).sum::<f64>();
            let (t, o, both) = (inner(&g_t, &g_t), inner(&g_own[m], &g_own[m]), inner(&g_t, &g_own[m]));
            let length = |a: f64| (a * a * t + (1.0 - a) * (1.0 - a) * o + 2.0 * a * (1.0 - a) * both).max(0.0).sqrt();
            let mut alpha = 0.5;
            if both < 0.0 {
                conflicts += 1;
                let grid = (0..=100_000).map(|i| f64::from(i) / 1e5);
                alpha = grid.min_by(|a, b| length(*a).total_cmp(&length(*b))).unwrap();
            }
            let stretch = ((t + o + 2.0 * both).max(0.0).sqrt() / (2.0 * length(alpha))).max(1.0);
            terms[0].0[m] = 2.0 * alpha;
            terms[1 + m].0[m] = 2.0 * (1.0 - alpha);
            lengths[m] = 1.5 * stretch;
        }
        for apply in ["gradient", "step"] {
            let mut terms = terms;
            if apply == "gradient" {
                terms.iter_mut().for_each(|(c, _)| (0..2).for_each(|m| c[m] *= lengths[m]));
            }
            let mut expected = combine(&terms);
            // The grid is as fine as 1e-5 of the weights.
            expected.size.iter_mut().for_each(|s| *s *= 4.0);
            let vars = model.vars(DType::F32);
            let mut b = balancer("mmpareto", &[("apply", apply)], &vars);
            let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            assert_close(&model, &vars, &store, &expected, "mmpareto");
            for (m, length) in lengths.iter().enumerate() {
                let scale = b.step_scale(Role::Tower(m));
                let expected = if apply == "step" { *length } else { 1.0 };
                assert!((scale - expected).abs() < 1e-3 * expected, "{scale} against {expected}");
            }
        }
    }
    assert!(conflicts > 30, "only {conflicts} conflicts");
}

/// A conflict between gradients of one length and opposite direction leaves nothing to stretch, and no NaN (a public
/// port divides 0 by 0).
#[test]
fn mmpareto_survives_conflict() {
    let model = Model::random(5, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let mut outputs = model.outputs(&vars, false).unwrap();
    outputs.own = vec![outputs.fused.neg().unwrap(), outputs.fused.neg().unwrap()];
    let store = balancer("mmpareto", &[], &vars).backward(&outputs, &model.labels(DType::F32)).unwrap();
    for var in &vars[..4] {
        let g = store.get(var.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(g.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn g_blending_weighs_gain_against_overfitting() {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let train = {
        let z = model.logits();
        [&z.fused, &z.own[0], &z.own[1]].map(|z| cross_entropy(z, &model.truth).0)
    };
    let gradients = [task(&model), own(&model, 0), own(&model, 1)];
    let expected =
        |w: [f64; 3]| combine(&[([w[0]; 5], &gradients[0]), ([w[1]; 5], &gradients[1]), ([w[2]; 5], &gradients[2])]);
    let mut b = balancer("g-blending", &[("super_epoch", "2")], &vars);
    let step = |b: &mut Balancer| {
        b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
        assert_eq!(b.report().passes, 1);
    };
    // Validation losses of the fused head and the own heads, epoch by epoch; training losses stay as they are.
    let val = [[2.0, 2.0, 2.0], [1.0, 9.0, 9.0], [1.4, 1.9, 2.5]];
    check(&mut b, &model, &expected([1.0 / 3.0; 3]), "before any measurement");
    for (epoch, v) in val.iter().enumerate() {
        step(&mut b);
        let val_loss = vec![Some(v[1]), Some(v[2])];
        let summary =
            EpochSummary { epoch: epoch + 1, val_loss, fused_val_loss: Some(v[0]), ..EpochSummary::default() };
        b.epoch_ended(summary.clone()).unwrap();
        if epoch == 0 {
            check(&mut b, &model, &expected([1.0 / 3.0; 3]), "after the first epoch");
        }
        if epoch == 1 {
            // Only the fused head gained.
            check(&mut b, &model, &expected([1.0, 0.0, 0.0]), "one head gained");
        }
    }
    step(&mut b);
    let last = [0.4, 1.0, 1.0];
    let val_loss = vec![Some(last[1]), Some(last[2])];
    let summary = EpochSummary { epoch: 4, val_loss, fused_val_loss: Some(last[0]), ..EpochSummary::default() };
    b.epoch_ended(summary.clone()).unwrap();
    // Gains 0.6, 8 and 8 since epoch 2; the gap shrank by as much, so overfitting counts as 1e-3.
    let ratios = [0.6, 8.0, 8.0].map(|gain| gain / 1e-6);
    let sum: f64 = ratios.iter().sum();
    check(&mut b, &model, &expected(ratios.map(|r| r / sum)), "all gained");
    assert!(train.iter().all(|l| *l > 0.0));
}

/// A head that got worse gets no weight, whatever public code does with the absolute value.
#[test]
fn g_blending_does_not_reward_a_head_that_got_worse() {
    let model = Model::random(4, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let mut b = balancer("g-blending", &[("super_epoch", "1")], &vars);
    for (epoch, val) in [[1.0, 1.0, 1.0], [0.9, 5.0, 0.9]].into_iter().enumerate() {
        b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
        let val_loss = vec![Some(val[1]), Some(val[2])];
        let summary =
            EpochSummary { epoch: epoch + 1, val_loss, fused_val_loss: Some(val[0]), ..EpochSummary::default() };
        b.epoch_ended(summary.clone()).unwrap();
    }
    b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
    let mix = b.report().mix.clone().unwrap();
    for row in &mix.coefficients {
        assert!(row[1] == 0.0 && (row[0] - 0.5).abs() < 1e-9 && (row[2] - 0.5).abs() < 1e-9, "{row:?}");
    }
}

/// Losses are means over an epoch's steps, whatever their number (a public port sums them).
#[test]
fn g_blending_measures_overfitting_by_means() {
    let before = Model::random(3, 3, false, false, false);
    let mut after = before.clone();
    (4..9).for_each(|i| after.parameters[i] = after.parameters[i].scale(0.2));
    let losses = |model: &Model| {
        let z = model.logits();
        [&z.fused, &z.own[0], &z.own[1]].map(|z| cross_entropy(z, &model.truth).0)
    };
    let val = [[2.0, 2.1, 2.2], [1.7, 2.0, 1.9]];
    let mut state = None;
    // Five steps in the first epoch, two in the second.
    for (epoch, (model, steps)) in [(&before, 5), (&after, 2)].into_iter().enumerate() {
        let vars = model.vars(DType::F32);
        let mut b = balancer("g-blending", &[("super_epoch", "1")], &vars);
        state.iter().for_each(|state| b.restore(state).unwrap());
        for _ in 0..steps {
            b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
        }
        let val_loss = vec![Some(val[epoch][1]), Some(val[epoch][2])];
        let fused_val_loss = Some(val[epoch][0]);
        b.epoch_ended(EpochSummary { epoch: epoch + 1, val_loss, fused_val_loss, ..EpochSummary::default() }).unwrap();
        state = Some(b.state());
    }
    let (t0, t1) = (losses(&before), losses(&after));
    let ratios = [0, 1, 2].map(|k: usize| {
        let overfitting: f64 = (val[1][k] - t1[k]) - (val[0][k] - t0[k]);
        (val[0][k] - val[1][k]) / overfitting.max(1e-3).powi(2)
    });
    assert!((0..3).any(|k| (val[1][k] - t1[k]) - (val[0][k] - t0[k]) > 0.05), "nobody overfits here");
    let sum: f64 = ratios.iter().sum();
    let vars = before.vars(DType::F32);
    let mut b = balancer("g-blending", &[("super_epoch", "1")], &vars);
    b.restore(&state.unwrap()).unwrap();
    b.backward(&before.outputs(&vars, false).unwrap(), &before.labels(DType::F32)).unwrap();
    for row in &b.report().mix.as_ref().unwrap().coefficients {
        let near = row.iter().zip(ratios).all(|(w, r)| (w - r / sum).abs() < 1e-5);
        assert!(near, "{row:?} against {:?}", ratios.map(|r| r / sum));
    }
}

/// Adam divides a constant factor on a gradient out again; on the step it acts (MSLR's fork multiplies the gradient).
#[test]
fn adam_cancels_a_factor_on_the_gradient_but_not_on_the_step() {
    let moved = |method: &str, given: &[(&str, &str)]| {
        let model = Model::random(8, 3, false, false, false);
        let vars = model.vars(DType::F32);
        let parameter = |(i, var): (usize, &candle_core::Var)| Parameter {
            name: i.to_string(),
            var: var.clone(),
            lr_scale: 1.0,
            weight_decay: 0.0,
        };
        let mut optimizer = AdamW::default().over(vars.iter().enumerate().map(parameter).collect()).unwrap();
        let mut b = balancer(method, given, &vars);
        for _ in 0..3 {
            let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
            let tower = |name: &str| if name == "0" || name == "1" { b.step_scale(Role::Tower(0)) } else { 1.0 };
            optimizer.step(&store, 1e-4, &tower).unwrap();
        }
        matrix(vars[0].as_tensor()).zip(&model.parameters[0], |a, b| a - b).norm()
    };
    let half = [("rule", "constant"), ("r0_image", "0.5"), ("r0_text", "1")];
    let plain = moved("joint", &[]);
    let on_gradient = moved("mslr", &[half.as_slice(), &[("apply", "gradient")]].concat());
    let on_step = moved("mslr", &[half.as_slice(), &[("apply", "step")]].concat());
    assert!((on_gradient / plain - 1.0).abs() < 0.01, "{on_gradient} against {plain}");
    assert!((on_step / plain - 0.5).abs() < 0.01, "{on_step} against {plain}");
}

/// Weights that two blocks list: the first has the gradient.
#[test]
fn a_variable_of_two_blocks_is_not_lost() {
    let model = Model::random(9, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let mut listed = blocks(&vars, Granularity::Role);
    let shared = listed[0].vars[0].clone();
    listed[1].vars.push(shared.clone());
    let method = find("balgrad").unwrap().with(&BTreeMap::new()).unwrap();
    let mut b = Balancer::new(method, listed, 1);
    let store = b.backward(&model.outputs(&vars, false).unwrap(), &model.labels(DType::F32)).unwrap();
    assert!(store.get(shared.as_tensor()).is_some());
}
