//! The paper's experiment from one of its configs, on a folder in its data set's layout: real samples, encoders of random
//! weights. The report shows ours beside the paper's, and says which is which.

use std::fmt::Write as _;
use std::path::Path;

use crate::world::{World, code, json, stderr};
use balgrad_data::modalities::image::decode;
use balgrad_data::{Dataset, ReadOptions, open};
use serde_json::Value;

/// Samples of three classes of the bundled emoji as UPMC Food-101 has its own.
fn food101(folder: &Path) {
    let emoji: Dataset = open("emoji", &ReadOptions::default()).unwrap();
    let mut titles = [String::new(), String::new()];
    let chosen = emoji.samples.iter().filter(|s| s.target.classes()[0] < 3).step_by(3).take(240);
    for (i, sample) in chosen.enumerate() {
        let (split, class) =
            (usize::from(i % 4 == 3), emoji.classes[sample.target.classes()[0] as usize].replace(' ', "_"));
        let name = ["train", "test"][split];
        let image = folder.join(format!("images/{name}/{class}/{class}_{i}.jpg"));
        std::fs::create_dir_all(image.parent().unwrap()).unwrap();
        decode(sample.parts[0].as_ref().unwrap()).unwrap().save(image).unwrap();
        writeln!(titles[split], "{class}_{i}.jpg,\"{}\",{class}", sample.parts[1].as_ref().unwrap().text().unwrap())
            .unwrap();
    }
    std::fs::create_dir_all(folder.join("texts")).unwrap();
    std::fs::write(folder.join("texts/train_titles.csv"), &titles[0]).unwrap();
    std::fs::write(folder.join("texts/test_titles.csv"), &titles[1]).unwrap();
}

#[test]
fn the_papers_table_stands_beside_ours() {
    let world = World::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    food101(&world.path("food"));
    let words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).into();
    let words = words.into_iter().chain((b'a'..=b'o').map(|letter| format!("##{}", char::from(letter))));
    for fixture in ["vit", "bert"] {
        std::fs::create_dir_all(world.path(fixture)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let from = root.join("crates/encoders/tests/fixtures").join(fixture).join(file);
            std::fs::copy(from, world.path(fixture).join(file)).unwrap();
        }
    }
    std::fs::write(world.path("bert/vocab.txt"), words.collect::<Vec<_>>().join("\n")).unwrap();
    let config = root.join("configs/food101.toml");
    let grid = [
        &["compare", "--config", config.to_str().unwrap(), "--data", "food", "--methods", "joint,balgrad"][..],
        &["--seeds", "2", "--out", "grid", "--quiet", "--set", "epochs=2"],
        &["--set", "weights.image=vit", "--set", "weights.text=bert"],
    ];
    let output = world.run(&grid.concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let results = json(&world.path("grid/balgrad/seed-0/results.json"));
    assert_eq!(results["dataset"]["layout"], "food101");
    assert_eq!(results["encoders"], serde_json::json!({"image": "vit-b16", "text": "bert-base"}));
    assert_eq!(results["dataset"]["skipped"], 0);
    let report = world.run(&["report", "grid", "--out", "report.html", "--summary", "summary.json"]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
    let page = std::fs::read_to_string(world.path("report.html")).unwrap();
    // BalGrad's and the baseline's full scores on UPMC Food-101, as printed in the paper.
    for figure in ["80.32", "76.01"] {
        assert!(page.contains(figure), "the paper's {figure} is not on the page");
    }
    let said = "the paper\u{2019}s own numbers for UPMC Food-101";
    assert!(page.contains(said), "whose figures they are is not said");
    let summary = json(&world.path("summary.json"));
    let ours: Vec<&Value> = summary["rows"].as_array().unwrap().iter().collect();
    assert!(ours.iter().all(|row| row["mean"] != 0.8032 && row["mean"] != 80.32), "a figure of the paper among ours");
}
