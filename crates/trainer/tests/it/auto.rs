//! `--method auto`: a choice by cross-validation on the training split.

use serde_json::Value;

use crate::world::{World, code, json, stderr};

/// What was seen, its time aside.
fn seen(world: &World, run: &str) -> Value {
    let mut seen = json(&world.path(run).join("auto.json"));
    seen.as_object_mut().unwrap().remove("seconds").unwrap();
    seen
}

#[test]
fn the_best_on_held_out_training_samples_is_trained_and_what_was_seen_is_kept() {
    let world = World::new();
    let train = |out: &str| {
        let sets = ["--set", "epochs=3", "--set", "width=16", "--set", "batch_size=8", "--seed", "3"];
        let output = world.run(&[&["train", "--data", "data", "--method", "auto", "--out", out][..], &sets].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stderr(&output)
    };
    let said = train("run");
    let auto = seen(&world, "run");
    let candidates = auto["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates.iter().map(|c| c["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["joint", "late-fusion", "balgrad+dropout", "chorus+dropout"]);
    assert_eq!((&auto["folds"], &auto["runs"], &auto["seed"]), (&3.into(), &12.into(), &3.into()));
    let mean = |candidate: &Value| {
        let of = |key: &str| -> Vec<f64> {
            candidate[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let both: Vec<f64> = of("clean").iter().zip(of("one_missing")).map(|(a, b)| (a + b) / 2.0).collect();
        assert_eq!(both.len(), 3);
        both.iter().sum::<f64>() / 3.0
    };
    let mut best = &candidates[0];
    for candidate in candidates {
        if mean(candidate) > mean(best) + 1e-12 {
            best = candidate;
        }
    }
    assert_eq!(auto["chosen"], best["method"]);
    let results = json(&world.path("run/results.json"));
    let label = if results["label"] == "" { &results["method"] } else { &results["label"] };
    assert_eq!(label, &auto["chosen"]);
    assert_eq!(results["dataset"]["samples"], serde_json::json!({"train": 36, "val": 12, "test": 12}));
    assert!(!world.path("run/auto").exists());
    for words in ["the test split is not read", "is best by the mean of clean and one missing", "12 runs took"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // The test split has no say in it.
    world.write(|i, line| {
        if (i / 3) % 5 == 4 {
            line["text"] = "something else entirely".into();
        }
    });
    train("again");
    assert_eq!(seen(&world, "again"), auto);
    let taken = world.run(&["train", "--data", "data", "--method", "auto", "--out", "run"]);
    assert_eq!((code(&taken), stderr(&taken).contains("run exists")), (2, true), "{}", stderr(&taken));
    let done = world.run(&["train", "--resume", "again"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
}

#[test]
fn a_fold_takes_the_place_of_the_test_split() {
    let world = World::new();
    let output = world.train("fold", &["--set", "fold=1/3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let results = json(&world.path("fold/results.json"));
    assert_eq!(results["dataset"]["samples"], serde_json::json!({"train": 24, "val": 12, "test": 12}));
    let predictions = std::fs::read_to_string(world.path("fold/predictions/full.jsonl")).unwrap();
    for line in predictions.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let i: usize = line["id"].as_str().unwrap()[1..].parse().unwrap();
        assert!((i / 3) % 5 < 3, "{line} is no training sample");
    }
    let wrong = world.train("wrong", &["--set", "fold=3/3"]);
    assert_eq!((code(&wrong), stderr(&wrong).contains("such as 0/5")), (2, true), "{}", stderr(&wrong));
}

#[test]
fn too_little_data_is_no_basis_for_a_choice() {
    let world = World::new();
    world.write(|i, line| {
        if (i / 3) % 5 == 1 {
            line["split"] = "test".into();
        }
    });
    let output = world.run(&["train", "--data", "data", "--method", "auto", "--set", "epochs=1", "--out", "run"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("auto: joint, as 24 training samples"), "{}", stderr(&output));
    assert_eq!(json(&world.path("run/results.json"))["method"], "joint");
}
