//! Real weights on real images and sentences against the reference (`real/make.py`), where `BALGRAD_TEST_WEIGHTS` names the
//! folder that the script lays out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use balgrad_data::Source;
use balgrad_encoders::{EncoderKind, HubSettings, Item, ModelFiles, Parameters, View, encoder};
use candle_core::{DType, Device, Tensor};

const SENTENCES: [&str; 4] =
    ["man rowing boat", "The quick brown fox, jumping over 13 lazy dogs!", "Ünïcode — naïve café", ""];

/// Each pixel becomes so many squared, so that no resizing comes between.
const TIMES: usize = 3;

fn expected() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// The folder of a model; `None`, said aloud, where there are no weights.
fn folder(model: &str) -> Option<PathBuf> {
    let Some(weights) = std::env::var_os("BALGRAD_TEST_WEIGHTS") else {
        eprintln!("skipped: BALGRAD_TEST_WEIGHTS does not name a folder of real weights");
        return None;
    };
    Some(Path::new(&weights).join(model))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
#[ignore = "needs real weights"]
fn efficientnet_sees_what_the_reference_sees() {
    let Some(folder) = folder("efficientnet-lite0") else { return };
    let expected = expected();
    let size = 64 * TIMES;
    let files = ModelFiles::open(folder.to_str().unwrap(), &HubSettings::default()).unwrap().at_size(size);
    let EncoderKind::Pretrained { build, .. } = encoder("efficientnet-lite").unwrap().kind else { panic!() };
    let encoder = build(&files, &Parameters::new(0, &Device::Cpu).frozen()).unwrap();
    let raw: Vec<u8> = expected["pixels"].to_dtype(DType::U8).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let grown: Vec<Vec<u8>> = raw
        .chunks(64 * 64 * 3)
        .map(|image| {
            let pixel = |i: usize| &image[(i / size / TIMES * 64 + i % size / TIMES) * 3..][..3];
            (0..size * size).flat_map(pixel).copied().collect()
        })
        .collect();
    let images: Vec<Item> = grown.into_iter().map(|image| Item::Pixels(image.into())).collect();
    assert!(images.len() >= 4);
    let found = encoder.forward(&encoder.reader().collate(&images, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(found.dims(), expected["image"].dims());
    let difference = largest_difference(&found, &expected["image"]);
    assert!(difference < 1e-3, "{difference}");
}

#[test]
#[ignore = "needs real weights"]
fn minilm_reads_what_the_reference_reads() {
    let Some(folder) = folder("minilm") else { return };
    let files = ModelFiles::open(folder.to_str().unwrap(), &HubSettings::default()).unwrap();
    let EncoderKind::Pretrained { build, .. } = encoder("minilm").unwrap().kind else { panic!() };
    let encoder = build(&files, &Parameters::new(0, &Device::Cpu).frozen()).unwrap();
    let item = |sentence: &str| {
        let source = Source::Text(sentence.to_owned());
        encoder.reader().item(&source, "", &View::default()).unwrap()
    };
    let items: Vec<Item> = SENTENCES.iter().map(|sentence| item(sentence)).collect();
    let input = encoder.reader().collate(&items, &Device::Cpu).unwrap();
    let found = encoder.forward(&input).unwrap();
    let expected = &expected()["text"];
    assert_eq!(found.dims(), expected.dims());
    let difference = largest_difference(&found, expected);
    assert!(difference < 1e-3, "{difference}");
}
