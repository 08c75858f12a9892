//! Runs with pretrained encoders, on tiny models of the reference implementations.

use std::collections::HashMap;
use std::path::Path;

use crate::world::{World, code, json, stderr};
use candle_core::{Device, Tensor};
use serde_json::Value;

const WORDS: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] apple grass sea thing number 1 2 3 4 5 6 7 8 9 0";

const PRETRAINED: [&str; 8] = [
    "--set",
    "encoders.image=vit",
    "--set",
    "weights.image=vit",
    "--set",
    "encoders.text=bert",
    "--set",
    "weights.text=bert",
];

/// Copies a fixture of the encoders' tests beside the data.
fn copy(world: &World, fixture: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoders/tests/fixtures").join(fixture);
    std::fs::create_dir_all(world.path(fixture)).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), world.path(fixture).join(file)).unwrap();
    }
}

/// A world with a vision transformer and a BERT.
fn models() -> World {
    let world = World::new();
    copy(&world, "vit");
    copy(&world, "bert");
    std::fs::write(world.path("bert/vocab.txt"), WORDS.replace(' ', "\n")).unwrap();
    world
}

fn train(world: &World, out: &str, sets: &[&str]) {
    let sets: Vec<&str> = PRETRAINED.into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])).collect();
    let output = world.train(out, &sets);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// Names of the tensors of an encoder that differ from those that its run started from.
fn moved(world: &World, run: &str, tower: &str, model: &str) -> Vec<String> {
    let (before, after) =
        (tensors(&world.path(model).join("model.safetensors")), tensors(&world.path(run).join("model.safetensors")));
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut names: Vec<String> = before
        .into_iter()
        .filter_map(|(name, old)| {
            let new = after.get(&format!("{tower}.encoder.{name}"))?;
            (values(new) != values(&old)).then_some(name)
        })
        .collect();
    names.sort();
    names
}

fn evaluated(world: &World, run: &str) -> Value {
    let output = world.run(&["evaluate", run, "--conditions", "full,noisy-text"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn predicted(world: &World, run: &str) -> Value {
    let output = world.run(&["predict", run, "--image", "data/images/0.png", "--text", "apple thing number 0"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn frozen_encoders_are_left_out_of_the_run_and_checked_when_it_is_used() {
    let world = models();
    train(&world, "run", &["epochs=20", "lr=0.01"]);
    assert!(tensors(&world.path("run/model.safetensors")).keys().all(|name| !name.contains(".encoder.")));
    let results = json(&world.path("run/results.json"));
    assert!(results["test"]["full"]["accuracy"].as_f64().unwrap() > 0.5, "{results:#}");
    let again = evaluated(&world, "run");
    assert_eq!(again["test"]["full"], results["test"]["full"]);
    assert_eq!(again["test"]["noisy-text"], results["test"]["noisy-text"]);
    predicted(&world, "run");
    // Other weights would answer with other features.
    let other = tensors(&world.path("vit/model.safetensors"));
    let other = other.into_iter().map(|(name, t)| (name, (t * 1.5).unwrap())).collect();
    candle_core::safetensors::save(&other, world.path("vit/model.safetensors")).unwrap();
    let output = world.run(&["predict", "run", "--image", "data/images/0.png"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("vit: other weights of `vit` than those that were trained with"),
        "{}",
        stderr(&output)
    );
    std::fs::remove_dir_all(world.path("vit")).unwrap();
    let output = world.run(&["predict", "run", "--image", "data/images/0.png"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("vit: neither a folder nor a repository"), "{}", stderr(&output));
}

#[test]
fn trained_encoders_are_in_the_run_as_far_as_they_are_asked_to_learn() {
    let world = models();
    for (run, sets) in
        [("all", &["freeze=none"][..]), ("half", &["freeze=1"]), ("decayed", &["freeze=none", "lr_decay=0"])]
    {
        train(&world, run, sets);
        let moved = [moved(&world, run, "image", "vit"), moved(&world, run, "text", "bert")].concat();
        let has = |part: &str| moved.iter().any(|name| name.contains(part));
        let parts = ["embeddings.", "layer.0.", "layer.1.", "layernorm.weight"].map(has);
        let expected = match run {
            "all" => [true; 4],
            "half" => [false, false, true, true],
            _ => [false, false, false, true],
        };
        assert_eq!(parts, expected, "{run}: {moved:?}");
    }
    let before: Vec<Value> =
        ["all", "half"].iter().flat_map(|run| [evaluated(&world, run), predicted(&world, run)]).collect();
    assert_eq!(before[0]["test"]["full"], json(&world.path("all/results.json"))["test"]["full"]);
    // The run is all that is needed from here on.
    std::fs::remove_dir_all(world.path("vit")).unwrap();
    std::fs::remove_dir_all(world.path("bert")).unwrap();
    let after: Vec<Value> =
        ["all", "half"].iter().flat_map(|run| [evaluated(&world, run), predicted(&world, run)]).collect();
    assert_eq!(before, after);
}

#[test]
fn a_fine_tuning_that_was_stopped_goes_on_bit_for_bit() {
    let world = models();
    let args = [&PRETRAINED[..], &["--set", "freeze=1", "--set", "lr_decay=0.7"]].concat();
    assert_eq!(code(&world.train("whole", &args)), 0);
    world.train_until("part", &args, "\"epoch\":2,\"losses\"");
    let output = world.train("part", &[&args[..], &["--resume"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(world.weights("whole"), world.weights("part"));
}

/// Spoils one thing, and says what the program must answer.
struct Mistake {
    name: &'static str,
    spoil: fn(&World),
    sets: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

fn edit(world: &World, model: &str, change: impl Fn(&mut HashMap<String, Tensor>)) {
    let path = world.path(model).join("model.safetensors");
    let mut all = tensors(&path);
    change(&mut all);
    candle_core::safetensors::save(&all, path).unwrap();
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "no such folder",
        spoil: |_| {},
        sets: &["weights.image=nowhere"],
        code: 2,
        says: &["nowhere: neither a folder nor a repository `owner/name` of the hub"],
    },
    Mistake {
        name: "no such path",
        spoil: |_| {},
        sets: &["weights.image=/no/where"],
        code: 2,
        says: &["/no/where: neither a folder nor a repository"],
    },
    Mistake {
        name: "no usual model",
        spoil: |_| {},
        sets: &["encoders.image=efficientnet-lite", "weights.image="],
        code: 2,
        says: &["--set weights.image=DIR"],
    },
    Mistake {
        name: "an encoder of the other modality",
        spoil: |_| {},
        sets: &["encoders.image=bert"],
        code: 2,
        says: &["`bert` reads texts"],
    },
    Mistake {
        name: "a folder without a config",
        spoil: |world| std::fs::remove_file(world.path("vit/config.json")).unwrap(),
        sets: &[],
        code: 1,
        says: &["`vit` from vit", "no config.json"],
    },
    Mistake {
        name: "a folder without weights",
        spoil: |world| std::fs::remove_file(world.path("vit/model.safetensors")).unwrap(),
        sets: &["freeze=none"],
        code: 1,
        says: &["`vit` from vit", "no model.safetensors"],
    },
    Mistake {
        name: "a folder without a tokenizer",
        spoil: |world| std::fs::remove_file(world.path("bert/vocab.txt")).unwrap(),
        sets: &[],
        code: 1,
        says: &["bert: no tokenizer.json and no vocab.txt"],
    },
    Mistake {
        name: "the same when it is trained",
        spoil: |world| std::fs::remove_file(world.path("bert/vocab.txt")).unwrap(),
        sets: &["freeze=none"],
        code: 1,
        says: &["bert: no tokenizer.json and no vocab.txt"],
    },
    Mistake {
        name: "a tensor of another shape",
        spoil: |world| {
            edit(world, "vit", |all| {
                all.insert("layernorm.weight".into(), Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap());
            });
        },
        sets: &["freeze=2"],
        code: 1,
        says: &["`vit` from vit", "`layernorm.weight` has shape [3], expected [8]"],
    },
    Mistake {
        name: "a tensor under another name",
        spoil: |world| {
            edit(world, "vit", |all| {
                let tensor = all.remove("layernorm.weight").unwrap();
                all.insert("norm.weight".into(), tensor);
            });
        },
        sets: &[],
        code: 1,
        says: &["`vit` from vit", "missing, first `layernorm.weight`"],
    },
    Mistake {
        name: "weights of another encoder",
        spoil: |_| {},
        sets: &["encoders.text=distilbert"],
        code: 1,
        says: &["`distilbert` from bert", "bert/model.safetensors"],
    },
    Mistake {
        name: "a file that holds no weights",
        spoil: |world| std::fs::write(world.path("vit/model.safetensors"), b"<html>").unwrap(),
        sets: &[],
        code: 1,
        says: &["vit/model.safetensors: not readable as weights"],
    },
    Mistake {
        name: "a part that cannot be frozen",
        spoil: |_| {},
        sets: &["freeze=some"],
        code: 2,
        says: &["`freeze = some`: expected all, none, or a number of blocks"],
    },
];

#[test]
fn mistakes_get_one_line_and_leave_nothing_behind() {
    for Mistake { name, spoil, sets, code: expected, says } in MISTAKES {
        let world = models();
        spoil(&world);
        let args: Vec<&str> = PRETRAINED.into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])).collect();
        let output = world.train("run", &args);
        let said = stderr(&output);
        assert_eq!(code(&output), *expected, "{name}: {said}");
        assert!(says.iter().all(|words| said.contains(words)), "{name}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{name}: {said}");
        assert!(!world.path("run").exists(), "{name}");
    }
}

/// An export brings frozen encoders along: the folders that they came from may be gone, and other weights are refused.
#[test]
fn an_export_of_frozen_encoders_stands_alone() {
    let world = models();
    train(&world, "run", &[]);
    let expected = predicted(&world, "run");
    let output = world.run(&["export", "run", "--to", "model"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    ["run", "cache", "vit", "bert"].iter().for_each(|name| std::fs::remove_dir_all(world.path(name)).unwrap());
    assert_eq!(predicted(&world, "model"), expected);
    for file in ["encoders/image/config.json", "encoders/text/tokenizer.json"] {
        assert!(world.path("model").join(file).exists(), "{file}");
    }
    let weights = world.path("model/encoders/text/model.safetensors");
    let other = tensors(&weights).into_iter().map(|(name, t)| (name, (t * 1.5).unwrap())).collect();
    candle_core::safetensors::save(&other, weights).unwrap();
    let output = world.run(&["predict", "model", "--text", "apple"]);
    assert!(code(&output) == 1 && stderr(&output).contains("encoders/text"), "{}", stderr(&output));
    std::fs::remove_dir_all(world.path("model/encoders/image")).unwrap();
    let output = world.run(&["predict", "model", "--text", "apple"]);
    assert!(code(&output) == 1 && stderr(&output).contains("copy the whole folder"), "{}", stderr(&output));
}
