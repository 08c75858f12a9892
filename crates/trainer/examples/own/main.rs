//! `balgrad` with a modality, an encoder, a target, a metric and a method of one's own, one file each:
//! `cargo run -p balgrad-trainer --example own -- train --data FOLDER --method half --out runs/own`
//!
//! FOLDER holds a `manifest.jsonl` whose lines name an image, a text or a sound in `audio`, and a label or a number.

mod audio;
#[path = "../../../balgrad/tests/it/toy/half.rs"] // The method that docs/architecture.md prints.
mod half;
mod laplace;
mod medae;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut registry = balgrad_trainer::Registry::default();
    registry.modalities.push(&audio::MODALITY);
    registry.encoders.push(&audio::LOUDNESS);
    registry.targets.push(&laplace::TARGET);
    registry.metrics.push(&medae::METRIC);
    registry.methods.push(&half::ENTRY);
    balgrad_trainer::main(registry)
}
