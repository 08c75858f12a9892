//! A small folder of data, its own cache, and the program run on it.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

pub(crate) const CLASSES: [&str; 3] = ["red", "green", "blue"];

/// A folder of coloured squares with words, 20 a class, and its own cache.
pub(crate) struct World(pub(crate) tempfile::TempDir);

impl World {
    pub(crate) fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(world.data().join("images")).unwrap();
        world.write(|_, _| {});
        world
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes images and manifest; `change` may spoil a line by its number.
    pub(crate) fn write(&self, change: impl Fn(usize, &mut Value)) {
        let mut manifest = String::new();
        for i in 0..60usize {
            let class = i % 3;
            let split = ["train", "train", "train", "val", "test"][(i / 3) % 5];
            let name = format!("images/{i}.png");
            let mut image = image::RgbImage::from_pixel(16, 16, image::Rgb([40, 40, 40]));
            for (x, y, pixel) in image.enumerate_pixels_mut() {
                pixel.0[class] = 120 + ((x * 7 + y * 3 + i as u32) % 100) as u8;
            }
            image.save(self.data().join(&name)).unwrap();
            let text = format!("{} thing number {i}", ["apple", "grass", "sea"][class]);
            let mut line = serde_json::json!({"id": format!("s{i}"), "image": name, "text": text, "label": CLASSES[class], "split": split});
            change(i, &mut line);
            manifest.push_str(&format!("{line}\n"));
        }
        std::fs::write(self.data().join("manifest.jsonl"), manifest).unwrap();
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::cargo_bin("balgrad").unwrap();
        command.current_dir(self.0.path()).env("BALGRAD_CACHE", self.path("cache"));
        command.args(args).output().unwrap()
    }

    /// Trains a few epochs on the folder.
    pub(crate) fn train(&self, out: &str, more: &[&str]) -> Output {
        self.run(&Self::training(out, more))
    }

    fn training<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let base = ["train", "--data", "data", "--out", out, "--quiet"];
        let sets = ["--set", "epochs=3", "--set", "width=16", "--set", "batch_size=8"];
        [&base[..], &sets, more].concat()
    }

    /// Starts such a run with a checkpoint after every step, and kills it once its log holds `line`.
    pub(crate) fn train_until(&self, out: &str, more: &[&str], line: &str) {
        let args = [&Self::training(out, more)[..], &["--set", "checkpoint_seconds=0"]].concat();
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
        child.current_dir(self.0.path()).env("BALGRAD_CACHE", self.path("cache")).args(args);
        let mut child = child.spawn().unwrap();
        let run = self.path(out);
        let far = || std::fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|text| text.contains(line));
        for _ in 0..10_000 {
            if (run.join("checkpoint/state.safetensors").exists() && far()) || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    pub(crate) fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.path(run).join("model.safetensors")).unwrap()
    }
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
