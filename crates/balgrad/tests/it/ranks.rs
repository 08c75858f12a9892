//! Ranks that train as one give the gradient of one process.

use std::sync::Arc;

use balgrad::{Alone, Balancer, Communicator, Entry, Outputs, Threads};
use candle_core::{DType, Device, Tensor};

use crate::plain::model::{Model, blocks, matrix};
use crate::plain::table::{Given, cases, summary};
use crate::plain::{Matrix, Truth};

/// Rows of the batch for each of `ranks`, not of one size.
fn shares(model: &Model, ranks: usize) -> Vec<Model> {
    let rows = model.x[0].rows;
    let bounds: Vec<usize> = (0..=ranks).map(|r| r * rows / ranks).collect();
    let cut = |m: &Matrix, from: usize, to: usize| Matrix::from(to - from, m.cols, |i| m.data[from * m.cols + i]);
    let share = |bound: &[usize]| {
        let mut part = model.clone();
        part.x = model.x.each_ref().map(|x| cut(x, bound[0], bound[1]));
        part
    };
    bounds.windows(2).map(share).collect()
}

fn solo() -> Arc<dyn Communicator> {
    Arc::new(Alone)
}

/// The gradients of some steps over two epochs, for each step and variable.
fn run(
    entry: &Entry,
    given: &Given,
    whole: &Model,
    share: &Model,
    ranks: &Arc<dyn Communicator>,
) -> Vec<Option<Matrix>> {
    let vars = whole.vars(DType::F32);
    let method = entry.with(given).unwrap();
    let blocks = blocks(&vars, method.needs().granularity);
    let mut balancer = Balancer::new(method, blocks, 5).lasting(2, 2).among(Arc::clone(ranks));
    let mut all = Vec::new();
    for epoch in 1..=2 {
        for _ in 0..2 {
            let mut outputs: Outputs = share.outputs(&vars, false).unwrap();
            outputs.teacher = Some(outputs.embeddings.iter().map(|e| (e.detach() * 0.5).unwrap()).collect());
            let outputs = outputs.gathered(ranks.as_ref(), share.x[0].rows).unwrap();
            let store = balancer.backward(&outputs, &whole.labels(DType::F32)).unwrap();
            all.extend(vars.iter().map(|v| store.get(v.as_tensor()).map(matrix)));
        }
        balancer.epoch_ended(summary(epoch)).unwrap();
    }
    all
}

/// The largest difference from one process, over the largest gradient.
fn difference(one: &[Option<Matrix>], other: &[Option<Matrix>]) -> f64 {
    assert_eq!(
        one.iter().map(Option::is_some).collect::<Vec<_>>(),
        other.iter().map(Option::is_some).collect::<Vec<_>>()
    );
    let size = one.iter().flatten().flat_map(|m| &m.data).fold(1e-3f64, |a, v| a.max(v.abs()));
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs.map(|(a, b)| a.zip(b, |a, b| (a - b).abs()).data.into_iter().fold(0.0, f64::max)).fold(0.0, f64::max) / size
}

fn among(entry: &Entry, given: &Given, model: &Model, ranks: usize) -> Vec<Vec<Option<Matrix>>> {
    let (parts, communicators) = (shares(model, ranks), Threads::new(ranks));
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter()
            .zip(communicators)
            .map(|(part, communicator)| {
                scope.spawn(move || run(entry, given, model, part, &(Arc::new(communicator) as Arc<dyn Communicator>)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every method, every choice of its settings, one label or many, on two and four ranks.
#[test]
fn ranks_train_as_one_process() {
    for many in [false, true] {
        let model = Model::random(21, 3, many, true, false);
        for (entry, given) in cases() {
            let alone = run(entry, &given, &model, &model, &solo());
            for ranks in [2, 4] {
                let each = among(entry, &given, &model, ranks);
                let apart = difference(&alone, &each[0]);
                assert!(apart < 2e-5, "{} {given:?} on {ranks} ranks: {apart}", entry.name);
                assert!(each.iter().all(|rank| rank == &each[0]), "{}: ranks differ in bits", entry.name);
            }
        }
    }
}

/// What the test above must not pass: each rank balancing its own rows, gradients averaged afterwards.
#[test]
fn averaging_what_ranks_balanced_apart_is_something_else() {
    let entry = balgrad::find("balgrad").unwrap();
    let model = Model::random(21, 3, false, false, false);
    let alone = run(entry, &Given::new(), &model, &model, &solo());
    let parts = shares(&model, 2);
    let bounds = [0..2usize, 2..5];
    let apart: Vec<Vec<Option<Matrix>>> = parts
        .iter()
        .zip(bounds)
        .map(|(part, rows)| {
            let mut part = part.clone();
            if let Truth::Classes { ids, .. } = &mut part.truth {
                *ids = ids[rows].to_vec();
            }
            run(entry, &Given::new(), &part, &part, &solo())
        })
        .collect();
    let mean =
        |(a, b): (&Option<Matrix>, &Option<Matrix>)| Some(a.as_ref()?.zip(b.as_ref()?, |a, b| 0.4 * a + 0.6 * b));
    let averaged: Vec<Option<Matrix>> = apart[0].iter().zip(&apart[1]).map(mean).collect();
    assert!(difference(&alone, &averaged) > 1e-3);
}

#[test]
fn threads_sum_gather_and_agree() {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::new(3)
            .into_iter()
            .map(|ranks| {
                scope.spawn(move || {
                    let rank = ranks.rank();
                    let mut tensor = Tensor::new(&[rank as f32, 1.0], &Device::Cpu).unwrap();
                    ranks.sum(&mut [&mut tensor]).unwrap();
                    let rows = Tensor::full(rank as f32, rank + 1, &Device::Cpu).unwrap();
                    let mut most = [rank as f64, -1.0];
                    ranks.agree_max(&mut most).unwrap();
                    let gathered = ranks.gather(&rows).unwrap().to_vec1::<f32>().unwrap();
                    (tensor.to_vec1::<f32>().unwrap(), gathered, most)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for result in results {
        assert_eq!(result, (vec![3.0, 3.0], vec![0.0, 1.0, 1.0, 2.0, 2.0, 2.0], [2.0, -1.0]));
    }
}
