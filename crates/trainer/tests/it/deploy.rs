//! A trained model at work: calibrated answers, alone and in batches, from tables and folders, and as a folder of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use balgrad_data::Source;
use balgrad_trainer::{Model, Parts};
use serde_json::Value;

use crate::world::{World, code, json, stderr};

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `p^(1/T)`, normalised.
fn scaled(probs: &[f64], temperature: f64) -> Vec<f64> {
    let powers: Vec<f64> = probs.iter().map(|p| p.powf(1.0 / temperature)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// The calibration error by its definition: fifteen bins of confidence, each `(lo, hi]`.
fn ece(rows: &[(Vec<f64>, usize)]) -> f64 {
    let top = |row: &[f64]| row.iter().copied().fold(0.0, f64::max);
    let bin = |bin: usize| {
        let inside = |p: f64| p > bin as f64 / 15.0 && p <= (bin + 1) as f64 / 15.0;
        let some = rows.iter().filter(|(row, _)| inside(top(row)));
        some.map(|(row, truth)| top(row) - f64::from(u8::from(row[*truth] == top(row)))).sum::<f64>().abs()
    };
    (0..15).map(bin).sum::<f64>() / rows.len() as f64
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-5, "{a} {b}");
}

#[test]
fn the_record_says_how_well_each_condition_is_calibrated_before_and_after() {
    let world = World::new();
    // A text that is missing on the disk: of the test split, and of validation.
    world.write(|i, line| {
        if [12, 9].contains(&i) {
            line["text"] = Value::Null;
        }
    });
    assert_eq!(code(&world.train("run", &[])), 0);
    let (record, model) = (json(&world.path("run/results.json")), json(&world.path("run/model.json")));
    let (sets, views) = (&model["calibration"]["sets"], &model["calibration"]["views"]);
    let temperature = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no temperature in {model}"));
    for condition in ["full", "missing-image", "missing-text", "noisy-image", "noisy-text", "image-only", "text-only"] {
        let of = |i: &str| match (condition, i) {
            ("image-only", _) => &views["image"],
            ("text-only", _) => &views["text"],
            ("missing-image", "s12") => &sets["none"],
            ("missing-image", _) => &sets["text"],
            ("missing-text", _) | (_, "s12") => &sets["image"],
            _ => &sets["image+text"],
        };
        let found = &record["calibration"][condition];
        close(found["ece_before"].as_f64().unwrap(), record["test"][condition]["ece"].as_f64().unwrap());
        close(found["temperature"].as_f64().unwrap(), temperature(of("another")));
        let rows = lines(&world.path(&format!("run/predictions/{condition}.jsonl")));
        let after = rows.iter().map(|line| {
            let classes = record["dataset"]["classes"].as_array().unwrap();
            let truth = classes.iter().position(|class| line["label"][0] == *class).unwrap();
            (scaled(&floats(&line["probs"]), temperature(of(line["id"].as_str().unwrap()))), truth)
        });
        close(found["ece_after"].as_f64().unwrap(), ece(&after.collect::<Vec<_>>()));
    }
    // Few squares, all right: what was too timid becomes surer, and the record is read again.
    assert!(temperature(&sets["image+text"]) < 1.0, "{model}");
    assert_eq!(code(&world.run(&["report", "run", "--out", "page.html"])), 0);
}

#[test]
fn a_model_answers_a_batch_of_any_modalities_as_it_answers_one_by_one() {
    let world = World::new();
    for (out, sets) in [
        ("frozen", &["--set", "epochs=8"][..]),
        (
            "trained",
            &["--set", "encoders.image=small-cnn", "--set", "encoders.text=small-bert", "--set", "image_size=16"],
        ),
    ] {
        let output = world.train(out, sets);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let model = Model::load(world.path(out)).unwrap();
        let calibration = json(&world.path(out).join("model.json"))["calibration"].clone();
        let image = |i: usize| ("image".to_owned(), Source::File(world.data().join(format!("images/{i}.png"))));
        let text = |text: &str| ("text".to_owned(), Source::Text(text.to_owned()));
        let mut samples: Vec<Parts> = vec![
            [image(12), text("apple thing")].into(),
            [image(13)].into(),
            [text("a long text about the sea, which is blue")].into(),
            Parts::new(),
            [text("sea"), ("image".to_owned(), Source::Bytes(b"no image".as_slice().into()))].into(),
            [("sound".to_owned(), Source::Text("moo".into()))].into(),
            [image(14), text("  ")].into(),
        ];
        samples.extend((0..130).map(|i| [image(i % 60), text("thing")].into()));
        let answers = model.predict_all(&samples).unwrap();
        assert_eq!(answers.len(), samples.len());
        for (i, (sample, answer)) in samples.iter().zip(&answers).enumerate() {
            let Ok(answer) = answer else {
                let error = format!("{:#}", answer.as_ref().unwrap_err());
                let expected =
                    [(4, "its content is of no known format"), (5, "the model reads no sound; it reads image, text")];
                assert!(expected.iter().any(|(at, says)| *at == i && error.contains(says)), "{i}: {error}");
                continue;
            };
            assert!(![4, 5].contains(&i));
            let alone = model.predict_parts(sample.clone()).unwrap();
            assert_eq!((&answer.labels, &answer.got), (&alone.labels, &alone.got));
            answer.probs.iter().zip(&alone.probs).for_each(|(a, b)| close(f64::from(*a), f64::from(*b)));
            let set = if answer.got.is_empty() { "none".to_owned() } else { answer.got.join("+") };
            let temperature = calibration["sets"][&set].as_f64().unwrap();
            let probs: Vec<f64> = answer.probs.iter().map(|p| f64::from(*p)).collect();
            let expected = scaled(&probs, temperature);
            answer.calibrated.iter().zip(&expected).for_each(|(a, b)| close(f64::from(*a), *b));
            close(f64::from(answer.confidence), expected.iter().copied().fold(0.0, f64::max));
            for name in ["image", "text"] {
                assert_eq!(answer.views[name].is_some(), answer.got.contains(&name), "{i}: {answer:?}");
            }
        }
        // The batch is what the test split saw.
        let seen = lines(&world.path(out).join("predictions/missing-text.jsonl"));
        let seen = seen.iter().find(|line| line["id"] == "s13").unwrap();
        let found = &answers[1].as_ref().unwrap().probs;
        found.iter().zip(floats(&seen["probs"])).for_each(|(a, b)| close(f64::from(*a), b));
    }
}

/// Answers by what they are called: labels or the error.
fn said(output: &std::process::Output) -> Vec<(Value, String)> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let what = |line: &Value| match line["error"].as_str() {
        Some(error) => error.to_owned(),
        None => format!("{} {}", line["labels"], line["got"]),
    };
    lines.map(|line| (line["id"].clone(), what(&line))).collect()
}

#[test]
fn predict_answers_every_sample_of_a_table_a_folder_and_lines_in_order() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &["--set", "epochs=8"])), 0);
    // No label, another delimiter, an image that is not there, and a row that lacks a column.
    let table = "sku;photo;title\n7;data/images/0.png;apple thing\n8;;sea thing\n9;data/images/none.png;apple\n10;x\n";
    std::fs::write(world.path("new.csv"), table).unwrap();
    let output = world.run(&["predict", "run", "--from", "new.csv"]);
    assert_eq!(code(&output), 1);
    let all = said(&output);
    assert_eq!(all[0], ("7".into(), r#"["red"] ["image","text"]"#.to_owned()));
    assert_eq!(all[1], ("8".into(), r#"["blue"] ["text"]"#.to_owned()));
    assert!(all[2].1.starts_with("new.csv:4: cannot read ./data/images/none.png: "), "{all:?}");
    assert_eq!(all[2].1.matches("os error").count(), 1, "{all:?}");
    assert_eq!(all[3], (Value::Null, "new.csv:5: 2 columns; the header has 3".to_owned()));
    assert!(stderr(&output).contains("image `photo`, text `title`"), "{}", stderr(&output));
    assert!(stderr(&output).ends_with("2 of 4 samples have no answer; their lines say why\n"));

    let output = world.run(&["predict", "run", "--from", "data/images", "--format", "csv"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 61);
    assert_eq!(rows[0][..6], ["id", "labels", "confidence", "abstained", "got", "error"]);
    let mut names: Vec<String> = (0..60).map(|i| format!("{i}.png")).collect();
    names.sort();
    assert_eq!(rows[1..].iter().map(|row| row[0]).collect::<Vec<_>>(), names);
    let model = Model::load(world.path("run")).unwrap();
    for row in &rows[1..] {
        let bytes = std::fs::read(world.data().join("images").join(row[0])).unwrap();
        let alone = model.predict(Some(&bytes), None).unwrap();
        assert_eq!((row[1], row[4]), (alone.labels[0].as_str(), "image"));
        let top = row[6..].iter().map(|p| p.parse::<f64>().unwrap()).fold(0.0, f64::max);
        close(top, row[2].parse().unwrap());
    }

    let lines = concat!(
        "\u{feff}{\"id\": [1], \"img\": \"data/images/1.png\", \"price\": 3, \"brand\": null}\n\n",
        "{\"text\": \"sea\", \n",
        "[\"sea\"]\n",
        "{\"image\": {\"path\": \"data/images/1.png\"}}\n",
        "{\"id\": \"last\", \"text\": \"sea thing\", \"image\": null}",
    );
    std::fs::write(world.path("new.jsonl"), lines).unwrap();
    let output = world.run(&["predict", "run", "--jsonl", "new.jsonl"]);
    let all = said(&output);
    assert_eq!(code(&output), 1);
    assert_eq!(all[0], (serde_json::json!([1]), r#"["green"] ["image"]"#.to_owned()));
    for (at, says) in [(1, "new.jsonl:3: not JSON"), (2, "new.jsonl:4: not an object"), (3, "`image` is an object")] {
        assert!(all[at].1.contains(says), "{all:?}");
    }
    assert_eq!(all[4], ("last".into(), r#"["blue"] ["text"]"#.to_owned()));
    assert!(stderr(&output).contains("not read: price"), "{}", stderr(&output));

    for (arguments, says) in [
        (&["--from", "none.csv"][..], "none.csv does not exist"),
        (&["--from", "new.csv", "--text", "a"], "cannot be used with"),
        (&[], "nothing to predict"),
    ] {
        let output = world.run(&[&["predict", "run"], arguments].concat());
        assert!(code(&output) == 2 && stderr(&output).contains(says), "{}", stderr(&output));
    }
}

/// A program that asks line by line, and one that goes away.
#[test]
fn predict_answers_a_pipe_as_lines_come_and_ends_quietly_when_nobody_reads() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &[])), 0);
    let start = || {
        let mut program = Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
        program.current_dir(world.0.path()).args(["predict", "run", "--from", "-"]);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut program = start();
    let (mut input, mut output) = (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
    for i in 0..3 {
        writeln!(input, "{{\"id\": {i}, \"text\": \"apple\"}}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], i);
    }
    drop(input);
    assert!(program.wait().unwrap().success());

    let mut program = start();
    drop(program.stdout.take());
    let mut input = program.stdin.take().unwrap();
    while writeln!(input, "{{\"text\": \"apple\"}}").is_ok() {}
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_export_answers_as_the_run_does_without_data_and_says_what_the_run_scored() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &["--set", "encoders.text=small-bert"])), 0);
    let ask = |model: &str| {
        let output = world.run(&["predict", model, "--image", "photo.png", "--text", "apple thing number 0"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        output.stdout
    };
    std::fs::copy(world.data().join("images/0.png"), world.path("photo.png")).unwrap();
    let expected = ask("run");
    assert_eq!(code(&world.run(&["export", "run", "--to", "out/model"])), 0);
    let record = json(&world.path("run/results.json"));
    ["data", "run", "cache"].iter().for_each(|name| std::fs::remove_dir_all(world.path(name)).unwrap());
    std::fs::rename(world.path("out/model"), world.path("moved")).unwrap();
    assert_eq!(ask("moved"), expected);
    let moved = Model::load(world.path("moved")).unwrap();
    assert_eq!(moved.classes(), ["blue", "green", "red"]);
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(world.path("moved"));
    assert!(sums.status().unwrap().success());
    let card = std::fs::read_to_string(world.path("moved/README.md")).unwrap();
    let score = |condition: &str| record["test"][condition]["accuracy"].as_f64().unwrap();
    for row in [
        format!("| everything there | {:.1} |", 100.0 * score("full")),
        format!("| image missing | {:.1} |", 100.0 * score("missing-image")),
        format!("      value: {}\n", score("missing-text")),
        "`blue`, `green`, `red`".to_owned(),
    ] {
        assert!(card.contains(&row), "{row} in {card}");
    }
    assert!(!card.contains(world.0.path().to_str().unwrap()));
    assert!(!std::fs::read_to_string(world.path("moved/model.json")).unwrap().contains("/tmp"));
    let output = world.run(&["export", "moved", "--to", "out"]);
    assert!(code(&output) != 0 && stderr(&output).contains("results.json"), "{}", stderr(&output));
    let output = world.run(&["export", "moved", "--to", "moved"]);
    assert!(code(&output) == 2 && stderr(&output).contains("choose another --to"), "{}", stderr(&output));
}

/// What a service needs: one model for all threads.
#[test]
fn a_model_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
}
