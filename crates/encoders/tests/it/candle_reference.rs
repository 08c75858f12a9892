//! BERT beside candle-transformers' own, on the same weights: the frozen reference that Rust users know.

use std::path::Path;

use balgrad_encoders::{EncoderKind, HubSettings, Input, ModelFiles, Parameters, encoder};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};

#[test]
fn bert_is_candles_bert() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let theirs = BertModel::load(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &config).unwrap();

    let EncoderKind::Pretrained { build, .. } = encoder("bert").unwrap().kind else { panic!("bert") };
    let files = ModelFiles::open(folder.to_str().unwrap(), &HubSettings::default()).unwrap();
    let ours = build(&files, &Parameters::new(0, &Device::Cpu).frozen()).unwrap();

    let ids = Tensor::new(&[[2u32, 7, 19, 4, 3], [2, 11, 3, 0, 0]], &Device::Cpu).unwrap();
    let mask = Tensor::new(&[[1f32, 1., 1., 1., 1.], [1., 1., 1., 0., 0.]], &Device::Cpu).unwrap();
    let types = ids.zeros_like().unwrap();
    let hidden = theirs.forward(&ids, &types, Some(&mask)).unwrap();
    // Ours answers with the mean over real tokens.
    let real = mask.unsqueeze(2).unwrap();
    let sum = hidden.broadcast_mul(&real).unwrap().sum(1).unwrap();
    let expected = sum.broadcast_div(&real.sum(1).unwrap()).unwrap();
    let found = ours.forward(&Input::Tokens { ids, mask }).unwrap();
    let off = (found - &expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(off < 1e-4 && size > 0.1, "{off} of {size}");
}
