//! A program of one's own, `examples/own`: another modality, encoder, target, metric and method, from data to report.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The example beside the program under test; `cargo test` builds both.
fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_balgrad")).parent().unwrap().join("examples");
    let program = folder.join(format!("own{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "build it first: cargo build --workspace --examples");
    program
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new(program()).current_dir(folder).env("BALGRAD_CACHE", "cache").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A tone of so many waves, as a WAV file of one channel.
fn wav(waves: usize, loud: f32) -> Vec<u8> {
    let sample = |i: usize| ((i * waves) as f32 * std::f32::consts::TAU / 800.0).sin() * loud * 32767.0;
    let data: Vec<u8> = (0..800).flat_map(|i| (sample(i) as i16).to_le_bytes()).collect();
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data".to_vec();
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// 60 samples that a sound and a text show, and some an image.
fn write(folder: &Path, label: impl Fn(usize) -> Value) {
    std::fs::create_dir_all(folder).unwrap();
    let line = |i: usize| {
        let class = i % 3;
        let loud = 0.3 + 0.2 * ((i / 3 % 4) as f32);
        std::fs::write(folder.join(format!("{i}.wav")), wav([3, 17, 61][class], loud)).unwrap();
        let pixel = image::Rgb([60 * class as u8 + 40, 90, (i % 7) as u8 * 20]);
        image::RgbImage::from_pixel(16, 16, pixel).save(folder.join(format!("{i}.png"))).unwrap();
        let image = (!i.is_multiple_of(5)).then(|| format!("{i}.png"));
        let split = ["train", "train", "train", "val", "test"][(i / 3) % 5];
        let text = format!("{} sound number {i}", ["low", "middle", "high"][class]);
        json!({"id": i, "image": image, "text": text, "audio": format!("{i}.wav"), "label": label(i), "split": split})
    };
    let lines: String = (0..60).map(|i| format!("{}\n", line(i))).collect();
    std::fs::write(folder.join("manifest.jsonl"), lines).unwrap();
}

fn results(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("results.json")).unwrap()).unwrap()
}

#[test]
fn a_modality_and_a_method_of_ones_own_go_from_data_to_report() {
    let world = tempfile::tempdir().unwrap();
    write(&world.path().join("data"), |i| json!(["low", "middle", "high"][i % 3]));
    let said = run(world.path(), &["methods"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("half"));
    let common = ["--data", "data", "--set", "epochs=12", "--set", "batch_size=12", "--set", "lr=0.01"];
    for method in ["half", "balgrad", "audio-only"] {
        let out = format!("runs/{method}");
        run(world.path(), &[&["train", "--method", method, "--out", &out], &common[..]].concat());
        let record = results(&world.path().join(&out)).to_string();
        for condition in ["full", "missing-audio", "noisy-audio", "missing-image"] {
            assert!(record.contains(condition), "{method}: no {condition} in {record}");
        }
    }
    run(world.path(), &["report", "runs", "--out", "page.html"]);
    let page = std::fs::read_to_string(world.path().join("page.html")).unwrap();
    assert!(page.contains("half") && page.to_lowercase().contains("audio"));
}

#[test]
fn a_target_of_ones_own_trains_and_is_scored() {
    let world = tempfile::tempdir().unwrap();
    write(&world.path().join("data"), |i| json!((i % 3) as f64 * 10.0 + 5.0));
    let args = ["train", "--data", "data", "--method", "balgrad", "--out", "run", "--set", "epochs=40"];
    run(
        world.path(),
        &[&args[..], &["--set", "target=laplace", "--set", "batch_size=12", "--set", "lr=0.01"]].concat(),
    );
    let record = results(&world.path().join("run"));
    assert!(record["val"]["mae"].as_f64().unwrap() < 1.5, "{record}");
    // The metric of one's own is that of the predictions.
    let predictions = std::fs::read_to_string(world.path().join("run/predictions/missing-audio.jsonl")).unwrap();
    let number = |value: &Value| value.get(0).unwrap_or(value).as_f64().unwrap();
    let mut errors: Vec<f64> = predictions
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (number(&line["prediction"]) - number(&line["target"])).abs())
        .collect();
    errors.sort_by(f64::total_cmp);
    assert_eq!(errors.len(), 12);
    let found = record["test"]["missing-audio"]["medae"].as_f64().unwrap();
    assert!((found - (errors[5] + errors[6]) / 2.0).abs() < 1e-4 * errors[6], "{found} {errors:?}");
    // A method that compares classes says so, and leaves nothing behind.
    for (method, said) in [("cggm", "`cggm` needs classes"), ("smell-only", "unknown method `smell-only`")] {
        let mut refused = Command::new(program());
        refused.current_dir(world.path()).args(["train", "--data", "data", "--method", method, "--out", "refused"]);
        let output = refused.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said) && error.trim().lines().count() == 1, "{error}");
        assert!(!world.path().join("refused").exists());
    }
}
