//! Ranks train the weights of one process: as threads here, over MPI where `cargo xtask ci --only scale` runs these tests.

use std::sync::Arc;

use balgrad::{Alone, Communicator, METHODS, Threads};
use balgrad_data::{Split, Task};
use balgrad_encoders::FUSIONS;
use candle_core::{Device, Result, Tensor};

use super::{Outcome, Weight, World};
use crate::config::Config;
use crate::ranks::same;
use crate::readable::Readable;
use crate::session::Session;

/// What a test does on each rank.
type Test = fn(&Arc<dyn Communicator>);

/// Runs it on ranks that are threads.
fn on_threads(size: usize, test: Test) {
    let one = |ranks: Threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| test(&(Arc::new(ranks) as Arc<dyn Communicator>)));
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::new(size).into_iter().map(|ranks| scope.spawn(move || one(ranks))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn run(world: World, config: &Config, ranks: Arc<dyn Communicator>) -> Outcome {
    world.run_among(config, tempfile::tempdir().unwrap().path(), false, usize::MAX, ranks)
}

/// The largest difference of a tensor: its norm, over the tensor's.
fn difference(a: &Outcome, b: &Outcome) -> f64 {
    let value = |bits: &u32| f64::from(f32::from_bits(*bits));
    let apart = |((name, a), (other, b)): (&Weight, &Weight)| {
        assert_eq!(name, other);
        let squares: f64 = a.iter().zip(b).map(|(a, b)| (value(a) - value(b)).powi(2)).sum();
        (squares / a.iter().map(|a| value(a).powi(2)).sum::<f64>().max(1e-12)).sqrt()
    };
    a.0.iter().zip(&b.0).map(apart).fold(0.0, f64::max)
}

/// Every method, with an uneven last batch, of which a rank may have no row, with teachers, turns, stages and rehearsals.
fn every_method_has_the_weights_of_one_process(ranks: &Arc<dyn Communicator>) {
    let mut most = 0.0f64;
    for (i, entry) in METHODS.iter().enumerate() {
        let task = Task::ALL[i % 3];
        let world = World { task, modalities: 2, small: false, fusion: FUSIONS[i % 4].name, train: 30, val: 24 };
        // AdamW would divide rounding by rounding where a gradient is next to nothing.
        let sets = [("optimizer=sgd", 0.0), ("momentum", 0.0), ("epochs", 3.0), ("batch_size", 8.0), ("lr", 0.02)];
        let config = world.config(entry, &sets);
        let found = run(world, &config, Arc::clone(ranks));
        let bits = found.0.iter().flat_map(|(_, bits)| bits).fold(0u32, |sum, bits| sum.rotate_left(1) ^ bits);
        assert!(same(ranks.as_ref(), f64::from(bits)).unwrap(), "{}: ranks differ in bits", entry.name);
        if ranks.rank() == 0 {
            let apart = difference(&run(world, &config, Arc::new(Alone)), &found);
            most = most.max(apart);
            assert!(apart < 1e-6, "{} on {} ranks, {task:?}: {apart:e}", entry.name, ranks.size());
        }
    }
    if ranks.rank() == 0 {
        println!("{} methods on {} ranks: at most {most:.1e} from one process", METHODS.len(), ranks.size());
    }
}

/// Ranks that keep their sums to themselves.
struct Deaf(Arc<dyn Communicator>);

impl Communicator for Deaf {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn sum(&self, _: &mut [&mut Tensor]) -> Result<()> {
        Ok(())
    }
    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        self.0.gather(rows)
    }
    fn agree_max(&self, numbers: &mut [f64]) -> Result<()> {
        self.0.agree_max(numbers)
    }
}

/// A world for the controls, one whole batch of which is one step.
const CONTROL: World =
    World { task: Task::MultiClass, modalities: 2, small: false, fusion: "concat", train: 24, val: 24 };

const ONE_STEP: [(&str, f64); 5] =
    [("optimizer=sgd", 0.0), ("momentum", 0.0), ("epochs", 1.0), ("batch_size", 24.0), ("lr", 0.5)];

/// The weights after one step by one process on some samples of the training split.
fn step_on(config: &Config, rows: impl Fn(usize) -> bool) -> Outcome {
    let mut dataset = CONTROL.dataset();
    let mut place = 0;
    dataset.samples.retain(|sample| {
        place += 1;
        sample.split != Split::Train || rows(place - 1)
    });
    let session = Session::on(config, Readable::new(dataset, true)).unwrap();
    CONTROL.train_on(&session, config, tempfile::tempdir().unwrap().path(), false, usize::MAX, Arc::new(Alone))
}

/// Ranks that do not sum, and ranks that each choose coefficients for their own rows and average what comes of it, are told from
/// ranks that train as one; a plain sum of losses is not, as it has no coefficients to get wrong.
fn what_is_not_exact_is_found(ranks: &Arc<dyn Communicator>) {
    let methods = ["joint", "balgrad", "ogm-ge"];
    for (name, exact) in methods.into_iter().zip([true, false, false]) {
        let config = CONTROL.config(balgrad::find(name).unwrap(), &ONE_STEP);
        let one = step_on(&config, |_| true);
        let deaf = run(CONTROL, &config, Arc::new(Deaf(Arc::clone(ranks))));
        assert!(difference(&one, &deaf) > 1e-4, "{name}: nothing was summed, and nothing was missing");
        let (rank, size) = (ranks.rank(), ranks.size());
        let (mut mean, _) = step_on(&config, |place| place % size == rank);
        for (_, bits) in &mut mean {
            let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits) / size as f32).collect();
            let mut tensor = Tensor::new(values, &Device::Cpu).unwrap();
            ranks.sum(&mut [&mut tensor]).unwrap();
            *bits = tensor.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        }
        let apart = difference(&one, &(mean, one.1.clone()));
        assert_eq!(apart < 1e-6, exact, "{name}, each rank its own coefficients: {apart:e}");
    }
}

#[test]
fn ranks_train_as_one_process() {
    [2, 4].into_iter().for_each(|size| on_threads(size, every_method_has_the_weights_of_one_process));
}

#[test]
fn ranks_that_are_not_exact_are_found() {
    [2, 4].into_iter().for_each(|size| on_threads(size, what_is_not_exact_is_found));
}

/// Sums over four ranks follow one tree, whether they are four threads of one process or two of each of two.
#[test]
fn shards_have_the_same_bits_on_any_number_of_processes() {
    for (i, entry) in METHODS.iter().enumerate() {
        let task = Task::ALL[i % 3];
        let world = World { task, modalities: 2, small: false, fusion: FUSIONS[i % 4].name, train: 30, val: 24 };
        let config = world.config(entry, &[("epochs", 2.0), ("batch_size", 8.0), ("lr", 0.02)]);
        let train = |ranks: Threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| run(world, &config, Arc::new(ranks)).0)
        };
        let (flat, nested) = std::thread::scope(|scope| {
            let train = &train;
            let one: Vec<_> = Threads::new(4).into_iter().map(|ranks| scope.spawn(move || train(ranks))).collect();
            let of_two = |process| Threads::among(2, Arc::new(process));
            let two = Threads::new(2).into_iter().flat_map(of_two);
            let two: Vec<_> = two.map(|ranks| scope.spawn(move || train(ranks))).collect();
            let join = |threads: Vec<std::thread::ScopedJoinHandle<'_, _>>| {
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            };
            (join(one), join(two))
        });
        assert!(flat.iter().chain(&nested).all(|weights| *weights == flat[0]), "{}", entry.name);
        // Control: one process without shards rounds otherwise, if only in the last bits.
        assert!(entry.name != "balgrad" || run(world, &config, Arc::new(Alone)).0 != flat[0]);
    }
}

/// One test, as MPI starts once in a process.
#[cfg(feature = "mpi")]
#[test]
#[ignore = "needs mpirun: `cargo xtask ci --only scale` runs it"]
fn ranks_over_mpi_train_as_one_process() {
    let ranks = balgrad_distributed::join().unwrap().expect("start it by mpirun, with two ranks or more");
    crate::ranks::guarded(ranks.as_ref(), || {
        every_method_has_the_weights_of_one_process(&ranks);
        what_is_not_exact_is_found(&ranks);
        Ok(())
    })
    .unwrap();
}
