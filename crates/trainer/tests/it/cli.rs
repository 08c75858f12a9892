//! The program as a user runs it, on a small folder made here.

use std::collections::HashMap;

use crate::world::{CLASSES, World, code, json, stderr};
use assert_cmd::Command;
use serde_json::Value;

#[test]
fn a_run_leaves_what_it_promises_and_its_predictions_give_its_scores() {
    let world = World::new();
    let output = world.train("run", &["--method", "balgrad", "--set", "epochs=8"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = world.path("run");
    let results = json(&run.join("results.json"));
    assert_eq!(results["schema"], 2);
    assert_eq!(results["dataset"]["samples"], serde_json::json!({"train": 36, "val": 12, "test": 12}));
    for file in ["config.toml", "metrics.jsonl", "model.safetensors", "model.json", "events.out.tfevents.0.balgrad"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    // Accuracy recomputed from the predictions alone.
    let classes: Vec<&str> =
        results["dataset"]["classes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    for condition in ["full", "missing-image", "missing-text", "noisy-image", "noisy-text", "image-only", "text-only"] {
        let text = std::fs::read_to_string(run.join(format!("predictions/{condition}.jsonl"))).unwrap();
        let (mut right, mut all) = (0.0, 0.0);
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let probs: Vec<f64> = line["probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert!((probs.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            let best = (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best });
            right += f64::from(u8::from(line["label"][0] == classes[best]));
            all += 1.0;
        }
        let claimed = results["test"][condition]["accuracy"].as_f64().unwrap();
        assert!((claimed - right / all).abs() < 1e-9, "{condition}: {claimed} against {right}/{all}");
    }
    assert!(results["conflict"]["image"]["fraction"].is_number());
    // The colours and the words tell the classes apart: a model that learnt nothing would stay near a third.
    assert!(results["test"]["full"]["accuracy"].as_f64().unwrap() > 0.6, "{results:#}");
    let again = world.run(&["train", "--config", "run/config.toml", "--out", "again", "--quiet"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(world.weights("run"), world.weights("again"), "the same config gives the same bits");
    let evaluated = world.run(&["evaluate", "run", "--conditions", "full,noisy-image:blur:5"]);
    let evaluated: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    assert_eq!(evaluated["test"]["full"], results["test"]["full"]);
    let predicted = world.run(&["predict", "run", "--image", "data/images/0.png"]);
    let predicted: Value = serde_json::from_slice(&predicted.stdout).unwrap();
    assert_eq!(predicted["got"], serde_json::json!(["image"]));
}

#[test]
fn the_test_split_is_not_read_before_the_end() {
    let world = World::new();
    world.train("before", &[]);
    let is_test = |i: usize| (i / 3) % 5 == 4;
    world.write(|i, line| {
        if is_test(i) {
            line["text"] = "something else entirely".into();
        }
    });
    for i in (0..60).filter(|&i| is_test(i)) {
        image::RgbImage::from_pixel(16, 16, image::Rgb([9, 9, 9]))
            .save(world.data().join(format!("images/{i}.png")))
            .unwrap();
    }
    world.train("after", &[]);
    let read = |run: &str, file: &str| std::fs::read(world.path(run).join(file)).unwrap();
    assert_eq!(read("before", "model.safetensors"), read("after", "model.safetensors"));
    assert_ne!(read("before", "predictions/full.jsonl"), read("after", "predictions/full.jsonl"));
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::new();
    for threads in ["1", "2", "3"] {
        let mut command = Command::cargo_bin("balgrad").unwrap();
        command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).env("RAYON_NUM_THREADS", threads);
        let args = ["train", "--data", "data", "--out", threads, "--quiet", "--set", "epochs=2", "--set", "width=32"];
        command.args(args).assert().success();
    }
    let [one, two, three] = ["1", "2", "3"].map(|t| world.weights(t));
    assert!(one == two && two == three);
}

#[test]
fn shards_of_one_process_do_not_depend_on_its_threads() {
    let world = World::new();
    for threads in ["1", "3"] {
        let mut command = Command::cargo_bin("balgrad").unwrap();
        command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).env("RAYON_NUM_THREADS", threads);
        let args = ["train", "--data", "data", "--out", threads, "--quiet", "--set", "epochs=2", "--set", "shards=2"];
        command.args(args).assert().success();
    }
    assert!(world.weights("1") == world.weights("3"));
    let odd = world.train("odd", &["--set", "shards=3"]);
    assert_eq!(code(&odd), 2);
    assert!(stderr(&odd).contains("no power of two: take 4"), "{}", stderr(&odd));
}

/// Two processes that know nothing of each other would write one folder.
#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_ranks_is_refused_by_a_build_without_mpi() {
    let world = World::new();
    let mut command = Command::cargo_bin("balgrad").unwrap();
    command.env("OMPI_COMM_WORLD_RANK", "0").env("OMPI_COMM_WORLD_SIZE", "2").current_dir(world.0.path());
    let output = command.args(["train", "--data", "data", "--out", "run"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("one of 2 ranks") && stderr(&output).contains("--features mpi"));
    assert!(!world.path("run").exists());
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    let world = World::new();
    // Killed for real; `tests/methods.rs` stops every method in every place.
    let methods = [("balgrad", "method.refresh=2", 0), ("resampling", "method.warm_up=1", 1)];
    for (method, set, epochs) in methods {
        let whole = format!("whole-{method}");
        assert_eq!(code(&world.train(&whole, &["--method", method, "--set", set])), 0);
        let part = format!("part-{method}");
        // One step into the next epoch, so that the last checkpoint lies beyond the epoch's end.
        let line = format!("\"epoch\":{},\"losses\"", epochs + 1);
        world.train_until(&part, &["--method", method, "--set", set], &line);
        let output = world.train(&part, &["--method", method, "--set", set, "--resume"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(world.weights(&whole), world.weights(&part), "{method}");
    }
}

/// Every method, with fusions, forms of task and kinds of encoder taking turns.
#[test]
fn every_method_trains_whatever_the_model_and_the_task() {
    let world = World::new();
    let tasks: [fn(usize, &mut Value); 3] = [
        |_, _| {},
        |i, line| line["label"] = serde_json::json!(["no", "yes"][usize::from(i % 3 == 0)]),
        |i, line| {
            let also = ["dark", "light"][i % 2];
            line["label"] = serde_json::json!([CLASSES[i % 3], also]);
        },
    ];
    let small = ["encoders.image=small-cnn", "encoders.text=small-bert", "image_size=16", "epochs=2"];
    let frozen = ["encoders.image=descriptor", "encoders.text=ngrams", "lr=0.004", "epochs=15"];
    for (t, task) in tasks.into_iter().enumerate() {
        world.write(task);
        for (i, entry) in balgrad::METHODS.iter().enumerate().filter(|(i, _)| i % 3 == t) {
            let out = format!("run-{}", entry.name);
            let fusion = format!("fusion={}", balgrad_encoders::FUSIONS[i / 3 % 4].name);
            let encoders = if i % 2 == 0 { frozen } else { small };
            let mut args = vec!["--method", entry.name, "--set", &fusion];
            args.extend(encoders.iter().flat_map(|set| ["--set", set]));
            if entry.name == "umt" {
                args.extend(["--set", "method.teacher_epochs=2"]);
            }
            let output = world.train(&out, &args);
            assert_eq!(code(&output), 0, "{} {fusion} {encoders:?}: {}", entry.name, stderr(&output));
            let results = json(&world.path(&out).join("results.json"));
            let score = results["test"]["full"][["accuracy", "accuracy", "f1_micro"][t]].as_f64().unwrap();
            // Colours and words are easy to tell apart; small encoders have seen too little after two epochs.
            let chance = [1.0 / 3.0, 2.0 / 3.0, 0.5][t];
            assert!(i % 2 == 1 || score > chance || entry.name.ends_with("-only"), "{} {fusion}: {score}", entry.name);
            for measure in ["score", "loss"] {
                let values = &results["contribution"][measure];
                assert!(["image", "text", "nothing"].iter().all(|k| values[k].is_f64()), "{}: {values}", entry.name);
            }
        }
    }
}

#[test]
fn mistakes_get_one_line_with_the_mend() {
    let world = World::new();
    let cases: HashMap<&str, (Vec<&str>, i32, &str)> = HashMap::from([
        ("method", (vec!["--method", "balgrat"], 2, "did you mean `balgrad`")),
        ("key", (vec!["--set", "epoch=3"], 2, "did you mean `epochs`")),
        ("setting", (vec!["--set", "method.shar=loss"], 2, "did you mean `method.share`")),
        ("value", (vec!["--set", "method.share=lots"], 2, "one of norm, loss")),
        ("fusion", (vec!["--set", "fusion=conc"], 2, "concat")),
        ("encoder", (vec!["--set", "encoders.image=vitt"], 2, "descriptor")),
        ("data", (vec!["--data", "nowhere"], 2, "no data called `nowhere`")),
    ]);
    for (name, (args, expected, word)) in cases {
        let output = world.train(&format!("out-{name}"), &args);
        let said = stderr(&output);
        if name == "data" {
            // clap refuses a flag given twice; the message of the data layer is tested on its own below.
            continue;
        }
        assert_eq!(code(&output), expected, "{name}: {said}");
        assert!(said.contains(word), "{name}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{name}: {said}");
        assert!(!world.path(&format!("out-{name}")).exists(), "{name}: nothing is made by a mistake");
    }
    let nowhere = world.run(&["check", "--data", "nowhere"]);
    assert_eq!(code(&nowhere), 2);
    assert!(stderr(&nowhere).contains("no data called `nowhere`"), "{}", stderr(&nowhere));
    assert_eq!(code(&world.train("twice", &[])), 0);
    let twice = world.train("twice", &[]);
    assert_eq!((code(&twice), stderr(&twice).contains("--resume")), (2, true), "{}", stderr(&twice));
}

#[test]
fn dirty_data_is_counted_and_named() {
    let world = World::new();
    world.write(|i, line| match i {
        0 => line["image"] = "images/nowhere.png".into(),
        1 => line["label"] = "violet".into(),
        2 => line["image"] = "../../etc/passwd".into(),
        6 => line["image"] = Value::Null,
        7 => line["text"] = Value::Null,
        _ => {}
    });
    std::fs::write(world.data().join("images/8.png"), b"<html>not found</html>").unwrap();
    std::fs::write(world.data().join("dataset.toml"), "classes = [\"red\", \"green\", \"blue\"]\n").unwrap();
    let check = world.run(&["check", "--data", "data"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    for word in ["does not exist", "unknown label `violet`", "leads out of the data folder", "web page", "4 problems"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let output = world.train("skip", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let results = json(&world.path("skip/results.json"));
    assert_eq!(results["dataset"]["skipped"], 4);
    let fail = world.train("fail", &["--on-bad-sample", "fail"]);
    assert_eq!(code(&fail), 1);
    assert!(stderr(&fail).contains("--on-bad-sample skip"), "{}", stderr(&fail));
    std::fs::write(world.data().join("manifest.jsonl"), "").unwrap();
    let empty = world.run(&["check", "--data", "data"]);
    assert_eq!(code(&empty), 1);
    assert!(stderr(&empty).contains("no sample could be read"), "{}", stderr(&empty));
}

#[test]
fn a_grid_is_taken_up_where_it_stopped_and_reported() {
    let world = World::new();
    let args = [
        "compare",
        "--data",
        "data",
        "--methods",
        "joint,balgrad,joint+dropout",
        "--seeds",
        "2",
        "--out",
        "grid",
        "--set",
        "epochs=2",
        "--set",
        "width=16",
    ];
    let first = world.run(&args);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let second = world.run(&args);
    assert!(stderr(&second).contains("0 runs to do, 6 done already"), "{}", stderr(&second));
    let report = world.run(&["report", "grid", "--out", "report.html", "--summary", "summary.json"]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
    let summary = json(&world.path("summary.json"));
    assert_eq!(summary["runs"].as_array().unwrap().len(), 6);
    assert!(std::fs::read_to_string(world.path("report.html")).unwrap().contains("<svg"));
}

#[test]
fn every_list_names_itself_and_its_source() {
    let world = World::new();
    for list in ["methods", "layouts", "encoders", "fusions"] {
        let output = world.run(&[list, "--json"]);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            for key in ["name", "about", "paper"] {
                assert!(row[key].as_str().is_some_and(|v| !v.is_empty()), "{list}: {row}");
            }
        }
    }
}

/// `/dev/full` takes no byte: what a full disk does to the event file.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one_line_and_loses_nothing() {
    let world = World::new();
    let run = world.path("run");
    std::fs::create_dir_all(&run).unwrap();
    let events = run.join("events.out.tfevents.0.balgrad");
    std::os::unix::fs::symlink("/dev/full", &events).unwrap();
    let output = world.train("run", &["--resume"]);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("No space left on device") && !said.contains("panicked"), "{said}");
    assert!(run.join("config.toml").is_file() && !run.join("results.json").exists());
    std::fs::remove_file(events).unwrap();
    let output = world.train("run", &["--resume"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(run.join("results.json").is_file());
}

#[test]
fn data_without_a_test_split_is_learnt_from_and_not_scored() {
    let world = World::new();
    world.write(|_, line| {
        if line["split"] == "test" {
            line["split"] = "train".into();
        }
    });
    let output = world.train("run", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "nothing was scored: the data has no labelled test sample");
    assert_eq!(json(&world.path("run/results.json"))["dataset"]["samples"]["test"], 0);
    let answer = world.run(&["predict", "run", "--text", "apple thing"]);
    assert_eq!(code(&answer), 0, "{}", stderr(&answer));
    let report = world.run(&["report", "run", "--out", "report.html"]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
}

#[test]
fn a_page_shows_samples_where_the_data_allows_it_and_is_still_the_same() {
    let world = World::new();
    let page = || {
        let report = world.run(&["report", "run", "--out", "report.html"]);
        assert_eq!(code(&report), 0, "{}", stderr(&report));
        std::fs::read_to_string(world.path("report.html")).unwrap()
    };
    std::fs::write(world.data().join("dataset.toml"), "show_samples = true\n").unwrap();
    assert_eq!(code(&world.train("run", &[])), 0);
    let shown = page();
    assert!(shown.contains("On real samples") && shown.contains("src=\"data:image/png;base64,"));
    assert!(shown.contains("thing number"));
    world.write(|i, line| {
        if i == 0 {
            line["text"] = "another".into();
        }
    });
    let hidden = page();
    assert!(!hidden.contains("On real samples") && !hidden.contains("data:image/png"));
    assert!(hidden.contains("balgrad predict"));
}
