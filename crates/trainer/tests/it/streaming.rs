//! Data that is read while it is used: the same bits whoever reads it, the same samples under every condition.

use std::path::Path;

use crate::world::{World, code, json, stderr};
use assert_cmd::Command;

const SMALL: [&str; 8] = [
    "--set",
    "encoders.image=small-cnn",
    "--set",
    "encoders.text=small-bert",
    "--set",
    "image_size=16",
    "--set",
    "epochs=2",
];

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

fn cached(world: &World) -> usize {
    std::fs::read_dir(world.path("cache/features")).unwrap().count()
}

#[test]
fn neither_workers_nor_threads_change_a_bit() {
    let world = World::new();
    for (out, workers, threads) in [("a", "1", "1"), ("b", "4", "1"), ("c", "2", "3")] {
        let workers = format!("workers={workers}");
        let mut command = Command::cargo_bin("balgrad").unwrap();
        command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).env("RAYON_NUM_THREADS", threads);
        let args =
            ["train", "--data", "data", "--out", out, "--quiet", "--set", "modality_dropout=0.2", "--set", &workers];
        command.args(args).args(SMALL).assert().success();
    }
    assert!(world.weights("a") == world.weights("b") && world.weights("b") == world.weights("c"));
}

/// Sample 12 is one of the test split.
#[test]
fn a_sample_that_cannot_be_read_is_left_out_under_every_condition_and_named_once() {
    let world = World::new();
    std::fs::write(world.data().join("images/12.png"), b"<html>not found</html>").unwrap();
    for (out, sets) in [("frozen", &[][..]), ("trained", &SMALL)] {
        let output = world.train(out, sets);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stderr(&output).matches("skipped sample `s12`").count(), 1, "{}", stderr(&output));
        for condition in ["full", "missing-image", "missing-text", "noisy-image", "noisy-text", "text-only"] {
            assert_eq!(lines(&world.path(out).join(format!("predictions/{condition}.jsonl"))), 11, "{out} {condition}");
        }
        let results = json(&world.path(out).join("results.json"));
        assert_eq!((&results["dataset"]["samples"]["test"], &results["dataset"]["skipped"]), (&11.into(), &1.into()));
    }
}

#[test]
fn a_run_that_is_tested_on_other_data_sees_that_data() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &["--set", "epochs=8"])), 0);
    // As many samples, with other images.
    std::fs::create_dir_all(world.path("other/images")).unwrap();
    std::fs::copy(world.data().join("manifest.jsonl"), world.path("other/manifest.jsonl")).unwrap();
    for i in 0..60 {
        image::RgbImage::from_pixel(16, 16, image::Rgb([200, 200, 200]))
            .save(world.path(&format!("other/images/{i}.png")))
            .unwrap();
    }
    let score = |data: &[&str]| {
        let output = world.run(&[&["evaluate", "run", "--conditions", "missing-text"], data].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["test"]["missing-text"]["accuracy"].as_f64().unwrap()
    };
    assert!(score(&[]) > 0.6 && score(&["--data", "other"]) < 0.4);
    // And is refused where its classes are others.
    std::fs::write(world.path("other/dataset.toml"), "classes = [\"red\", \"green\", \"blue\", \"grey\"]\n").unwrap();
    let output = world.run(&["evaluate", "run", "--data", "other"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("has the classes red, green, blue, grey, but the model"), "{}", stderr(&output));
}

#[test]
fn variants_are_computed_ahead_and_drawn_from() {
    let world = World::new();
    let output = world.run(&["features", "--data", "data", "--variants", "3", "--conditions", "full,missing-text"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("train: 36 samples, 3 variants") && said.contains("test, missing-text: 12 samples"),
        "{said}"
    );
    // Training for the image's statistics; three variants, validation and test. The images' features say which can be read.
    let before = cached(&world);
    assert_eq!(before, 1 + 2 * (3 + 1 + 1));
    let varied = ["--set", "feature_variants=3"];
    for out in ["varied", "again"] {
        assert_eq!(code(&world.train(out, &varied)), 0);
    }
    assert_eq!(code(&world.train("plain", &[])), 0);
    assert_eq!(world.weights("varied"), world.weights("again"));
    assert_ne!(world.weights("varied"), world.weights("plain"));
    // The noisy test split, twice, and for the plain run the texts to learn from.
    assert_eq!(cached(&world), before + 3);
    let output = world.run(&["features", "--data", "data", "--conditions", "foggy-image"]);
    assert_eq!((code(&output), stderr(&output).lines().count()), (2, 1), "{}", stderr(&output));
}
