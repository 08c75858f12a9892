//! Runs whose data and weights come from a hub, and then without it.

use std::path::Path;
use std::process::Output;

use crate::hub_server::{Fault, Hub};
use crate::world::{World, code, json, stderr};
use assert_cmd::Command;

/// A hub that has the world's folder as a data set and a small encoder of images.
fn published() -> (World, Hub) {
    let (world, hub) = (World::new(), Hub::start());
    hub.put_folder("datasets/owner/colours", &world.data());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoders/tests/fixtures/vit");
    for file in ["config.json", "model.safetensors"] {
        hub.put("owner/vit", file, &std::fs::read(model.join(file)).unwrap());
    }
    (world, hub)
}

fn train(world: &World, out: &str, variables: &[(&str, &str)]) -> Output {
    let args = ["train", "--data", "hf:owner/colours@v1.0", "--out", out, "--quiet", "--set", "epochs=2"];
    let weights = ["--set", "encoders.image=vit", "--set", "weights.image=owner/vit@v2"];
    let mut command = Command::cargo_bin("balgrad").unwrap();
    command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).env("HF_HOME", world.path("hf"));
    command.envs(variables.iter().copied()).args(args).args(weights).output().unwrap()
}

#[test]
fn data_and_weights_come_from_the_hub_once_and_then_from_the_cache() {
    let (world, hub) = published();
    hub.fault("model.safetensors", Fault::Cut { after: 2000, times: 3 });
    hub.fault("images/7.png", Fault::Busy { status: 429, seconds: Some(1), times: 1 });
    let output = train(&world, "online", &[("HF_ENDPOINT", &hub.endpoint)]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let results = json(&world.path("online/results.json"));
    assert_eq!(results["dataset"]["name"], "owner/colours@v1.0");
    assert_eq!(results["dataset"]["samples"], serde_json::json!({"train": 36, "val": 12, "test": 12}));
    assert!(hub.requests().iter().any(|request| request.contains("/resolve/v2/")));

    let output = train(&world, "offline", &[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(world.weights("online"), world.weights("offline"));
    assert!(hub.requests().is_empty());
}

#[test]
fn what_the_hub_refuses_is_one_line_with_the_mend() {
    let (world, hub) = published();
    hub.hide("datasets/owner/colours");
    let output = train(&world, "run", &[("HF_ENDPOINT", &hub.endpoint)]);
    assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1), "{}", stderr(&output));
    assert!(stderr(&output).contains("set HF_TOKEN"), "{}", stderr(&output));
    hub.fault("model.safetensors", Fault::OtherHash);
    let with_token = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_TOKEN", "secret")];
    let output = train(&world, "run", &with_token);
    assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1), "{}", stderr(&output));
    assert!(stderr(&output).contains("owner/vit@v2/model.safetensors: what came has the hash"), "{}", stderr(&output));
    let output = train(&world, "run", &[("HF_HUB_OFFLINE", "1"), ("HF_HOME", "elsewhere")]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("not wholly, in the cache, and HF_HUB_OFFLINE is set"), "{}", stderr(&output));
    assert!(!world.path("run").exists());
    hub.fault("model.safetensors", Fault::NoRanges);
    assert_eq!(code(&train(&world, "run", &with_token)), 0);
}
