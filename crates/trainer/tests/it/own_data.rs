//! The quick start on own data: photos and a spreadsheet, no file edited.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use balgrad_data::{ReadOptions, open};

const CLASSES: [&str; 3] = ["Fruit", "Meadow", "Sea"];

/// Sixty photos and `products.csv` as a spreadsheet saves it.
fn shop(folder: &Path) {
    std::fs::create_dir(folder.join("photos")).unwrap();
    let mut table = String::from("Article;Photo;Title;Description;Category;Price\r\n");
    for i in 0..60usize {
        let class = i % 3;
        let mut photo = image::RgbImage::from_pixel(16, 16, image::Rgb([40, 40, 40]));
        for (x, y, pixel) in photo.enumerate_pixels_mut() {
            pixel.0[class] = 120 + ((x * 7 + y * 3 + i as u32) % 100) as u8;
        }
        photo.save(folder.join(format!("photos/IMG_{i}.png"))).unwrap();
        let title = ["apple", "grass", "wave"][class];
        write!(table, "A{i};IMG_{i}.png;{title} {i};\"A {title}; number {i}\";{};{i},50\r\n", CLASSES[class]).unwrap();
    }
    std::fs::write(folder.join("products.csv"), table).unwrap();
}

fn balgrad(folder: &Path, args: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("balgrad").unwrap();
    command.current_dir(folder).env("BALGRAD_CACHE", folder.join("cache")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn photos_and_a_spreadsheet_become_a_model_with_no_file_edited() {
    let folder = tempfile::tempdir().unwrap();
    shop(folder.path());
    let said = stderr(&balgrad(folder.path(), &["train", "--data", "products.csv", "--out", "run"]));
    for words in [
        "60 rows in UTF-8, separated by `;`",
        "image `Photo`, text `Title` + `Description`, label `Category`",
        "not used: Article, Price",
        "images are read as `photos/NAME`",
        "next: balgrad report run --out report.html",
        "balgrad predict run --image FILE",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let results = std::fs::read_to_string(folder.path().join("run/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["dataset"]["samples"], serde_json::json!({"train": 42, "val": 9, "test": 9}));
    assert!(results["test"]["full"]["accuracy"].as_f64().unwrap() > 0.7, "{}", results["test"]["full"]);
    stderr(&balgrad(folder.path(), &["report", "run", "--out", "report.html"]));
    let answer = balgrad(folder.path(), &["predict", "run", "--image", "photos/IMG_1.png"]);
    stderr(&answer);
    assert!(String::from_utf8_lossy(&answer.stdout).contains("Meadow"));
}

#[test]
fn columns_that_are_named_stay_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    shop(folder.path());
    let quick = ["--set", "epochs=2", "--set", "width=16"];
    let columns = ["--text", "Title", "--target", "Price", "--group", "Category"];
    let train = [&["train", "--data", "products.csv", "--out", "run"][..], &columns, &quick].concat();
    stderr(&balgrad(folder.path(), &train));
    let evaluated = balgrad(folder.path(), &["evaluate", "run"]);
    stderr(&evaluated);
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("run/results.json")).unwrap()).unwrap();
    let again: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    assert_eq!(again["test"]["full"], results["test"]["full"]);
    assert_eq!(
        (&results["dataset"]["task"], &results["dataset"]["classes"]),
        (&"regression".into(), &serde_json::json!(["Price"]))
    );
    let lost = balgrad(folder.path(), &["check", "--data", "products.csv", "--label", "Kategorie"]);
    assert_eq!(lost.status.code(), Some(2));
    let said = String::from_utf8_lossy(&lost.stderr);
    assert!(said.contains("no column `Kategorie`") && said.contains("give --label COLUMN"), "{said}");
}

#[test]
fn what_was_understood_is_written_down_and_read_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    shop(folder.path());
    for (from, out) in [("products.csv", "manifest.jsonl"), ("products.csv", "other.jsonl")] {
        stderr(&balgrad(folder.path(), &["import", from, "--out", out]));
        let read = |name: &str| open(folder.path().join(name).to_str().unwrap(), &ReadOptions::default()).unwrap();
        let (table, manifest) = (read(from), read(out));
        assert_eq!(manifest.layout, "manifest");
        assert_eq!((&table.classes, table.task, table.samples.len()), (&manifest.classes, manifest.task, 60));
        for (a, b) in table.samples.iter().zip(&manifest.samples) {
            assert_eq!(
                (&a.id, &a.target, a.split, &a.group, &a.parts[1]),
                (&b.id, &b.target, b.split, &b.group, &b.parts[1])
            );
            let bytes = |s: &balgrad_data::Sample| s.parts[0].as_ref().unwrap().bytes().unwrap().0.into_owned();
            assert_eq!(bytes(a), bytes(b));
        }
    }
    let again = balgrad(folder.path(), &["import", "products.csv", "--out", "manifest.jsonl"]);
    assert_eq!(again.status.code(), Some(2));
}
