//! Pretrained encoders against the reference implementations, at tiny sizes (`fixtures/make.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::support::{check_gradients, scalar};
use balgrad_encoders::{Encoder, EncoderKind, HubSettings, Input, ModelFiles, Parameters, Weights, encoder};
use candle_core::{DType, Device, Tensor};

/// Encoder, fixture, and what it reads.
const CASES: [(&str, &str, &str); 10] = [
    ("bert", "bert", "text"),
    ("distilbert", "distilbert", "text"),
    ("vit", "vit", "image"),
    ("resnet", "resnet-bottleneck", "image"),
    ("resnet", "resnet-basic", "image"),
    ("clip-vision", "clip", "image"),
    ("clip-text", "clip", "text"),
    ("blip-vision", "blip", "image"),
    ("blip-text", "blip", "text"),
    ("efficientnet-lite", "efficientnet-lite", "image"),
];

fn folder(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture)
}

fn files(fixture: &str) -> ModelFiles {
    ModelFiles::open(folder(fixture).to_str().unwrap(), &HubSettings::default()).unwrap()
}

fn build(name: &str, fixture: &str, parameters: &Parameters) -> Box<dyn Encoder> {
    let EncoderKind::Pretrained { build, .. } = encoder(name).unwrap().kind else { panic!("{name}") };
    build(&files(fixture), parameters).unwrap()
}

fn expected(fixture: &str, modality: &str) -> (Input, Tensor) {
    let path = folder(fixture).join("expected.safetensors");
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let wide = |name: &str| tensors[name].to_dtype(DType::F64).unwrap();
    let input = match modality {
        "image" => Input::Pixels(wide("pixels")),
        _ => {
            let ids: Vec<u32> = tensors["ids"].to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let ids = Tensor::from_vec(ids, tensors["ids"].dims(), &Device::Cpu).unwrap();
            Input::Tokens { ids, mask: wide("mask") }
        }
    };
    (input, wide(modality))
}

fn wide() -> Parameters {
    Parameters::new(0, &Device::Cpu).with_dtype(DType::F64)
}

#[test]
fn outputs_are_those_of_the_reference() {
    for (name, fixture, modality) in CASES {
        let (input, expected) = expected(fixture, modality);
        let encoder = build(name, fixture, &wide());
        let found = encoder.forward(&input).unwrap();
        assert_eq!(found.dims(), expected.dims(), "{name}");
        assert_eq!(found.dim(1).unwrap(), encoder.dim(), "{name}");
        let distance = |a: &Tensor, b: &Tensor| (a - b).unwrap().abs().unwrap().max_all().unwrap();
        let distance = distance(&found, &expected).to_scalar::<f64>().unwrap();
        assert!(distance < 2e-5, "{name} ({fixture}): {distance}");
        let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(size > 0.1, "{name} ({fixture}): the fixture says nothing");
    }
}

#[test]
fn every_parameter_learns() {
    for (name, fixture, modality) in CASES {
        let parameters = wide();
        let encoder = build(name, fixture, &parameters);
        let (input, _) = expected(fixture, modality);
        let flat = ["key.bias", "k_lin.bias", "k_proj.bias"];
        check_gradients(&parameters, &flat, || scalar(&encoder.forward(&input)?));
    }
}

#[test]
fn frozen_encoders_have_nothing_to_train_and_are_saved() {
    for (name, fixture, modality) in CASES {
        let parameters = wide();
        let encoder = build(name, fixture, &parameters.frozen());
        assert!(parameters.all().is_empty() && !parameters.buffers().is_empty(), "{name}");
        let (input, _) = expected(fixture, modality);
        let embedding = encoder.forward(&input).unwrap();
        assert!(!embedding.track_op(), "{name}: a frozen encoder is in the graph");
    }
}

#[test]
fn an_old_pth_with_strides_holds_the_same_weights() {
    let new = Weights::open(&folder("efficientnet-lite").join("model.safetensors")).unwrap();
    let old = Weights::open(&folder("efficientnet-lite").join("legacy.pth")).unwrap();
    let names = new.unused();
    assert!(names.len() > 50);
    assert_eq!(names, old.unused());
    let (new_model, old_model) = (wide(), wide());
    let open = |weights: Weights, p: &Parameters| {
        let p = p.pretrained(std::sync::Arc::new(weights));
        p.get("_blocks.3._depthwise_conv.weight", (18, 1, 5, 5), balgrad_encoders::Init::Const(0.0)).unwrap()
    };
    let (a, b) = (open(new, &new_model), open(old, &old_model));
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(values(&a), values(&b));
}

#[test]
fn damaged_weights_are_errors_and_no_panics() {
    let whole = std::fs::read(folder("efficientnet-lite").join("legacy.pth")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("cut.pth");
    for length in [30, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Weights::open(&path).err().unwrap().to_string();
        assert!(error.contains("cut.pth") && error.contains("not readable"), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let EncoderKind::Pretrained { build, .. } = encoder("distilbert").unwrap().kind else { panic!() };
    let error = build(&files("bert"), &wide()).err().unwrap().to_string();
    assert!(error.contains("bert") && error.contains("word_embeddings"), "{error}");
    let open = |name: &str, settings: &HubSettings| ModelFiles::open(name, settings);
    let error = open("no such folder", &HubSettings::default()).err().unwrap().to_string();
    assert!(error.contains("neither a folder nor a repository"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let offline = HubSettings { cache: Some(empty.path().into()), offline: true, ..HubSettings::default() };
    let error = open("owner/name", &offline).unwrap().file("config.json").unwrap_err().to_string();
    assert!(error.contains("owner/name") && error.contains("HF_HUB_OFFLINE"), "{error}");
}
