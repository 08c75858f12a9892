//! The vision transformer; its class token speaks.

use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{Activation, BlockNames, BlockSpec, NormPlace, VisionNames, VisionSpec, VisionTransformer};
use crate::preprocessor::Takes;
use crate::{Encoder, ModelFiles, Parameters, Result};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "vit",
    modality: "image",
    about: "the vision transformer, pretrained; the class token",
    paper: "Dosovitskiy et al. 2021",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "google/vit-base-patch16-224-in21k", build },
};

const BLOCK: BlockNames = BlockNames {
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    attention_norm: "layernorm_before",
    up: "intermediate.dense",
    down: "output.dense",
    mlp_norm: "layernorm_after",
};

const NAMES: VisionNames = VisionNames {
    class: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    flat: false,
    patches: "embeddings.patch_embeddings.projection",
    first_norm: None,
    layers: "encoder.layer",
    last_norm: "layernorm",
};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    image_size: usize,
    patch_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            image_size: 224,
            patch_size: 16,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
        }
    }
}

fn build(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let config: Config = files.config()?;
    let reader = files.pixels(Takes::Only(config.image_size), [0.5; 3], [0.5; 3])?;
    let spec = VisionSpec {
        block: BlockSpec {
            width: config.hidden_size,
            heads: config.num_attention_heads,
            inner: config.intermediate_size,
            eps: config.layer_norm_eps,
            activation: Activation::named(&config.hidden_act)?,
            norm: NormPlace::Before,
            key_bias: true,
            names: &BLOCK,
        },
        layers: config.num_hidden_layers,
        image: config.image_size,
        patch: config.patch_size,
        patch_bias: true,
        projection: None,
        names: &NAMES,
    };
    let weights = files.weights()?.renamed(|name| Some(name.strip_prefix("vit.").unwrap_or(name).to_owned()));
    load(weights, &["pooler.", "classifier."], p, |p| Ok(Box::new(VisionTransformer::new(&spec, reader, p)?)))
}
