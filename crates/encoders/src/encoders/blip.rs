//! BLIP's two unimodal encoders: a vision transformer, and BERT without its cross-attention.

use serde::Deserialize;

use super::bert::Config as TextConfig;
use super::clip::{MEAN, STD};
use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{
    Activation, BlockNames, BlockSpec, NormPlace, Pool, TextTransformer, VisionNames, VisionSpec, VisionTransformer,
};
use crate::preprocessor::Takes;
use crate::{Encoder, ModelFiles, Parameters, Result};

pub(super) const VISION: EncoderEntry = EncoderEntry {
    name: "blip-vision",
    modality: "image",
    about: "BLIP's image encoder, pretrained; the class token",
    paper: "Li et al. 2022",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "Salesforce/blip-itm-base-coco", build: build_vision },
};

pub(super) const TEXT: EncoderEntry = EncoderEntry {
    name: "blip-text",
    modality: "text",
    about: "BLIP's text encoder, pretrained, unimodal; the first token",
    paper: "Li et al. 2022",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "Salesforce/blip-itm-base-coco", build: build_text },
};

/// The checkpoint's fused `qkv` is split into these when it is read.
const BLOCK: BlockNames = BlockNames {
    query: "self_attn.query",
    key: "self_attn.key",
    value: "self_attn.value",
    output: "self_attn.projection",
    attention_norm: "layer_norm1",
    up: "mlp.fc1",
    down: "mlp.fc2",
    mlp_norm: "layer_norm2",
};

const VISION_NAMES: VisionNames = VisionNames {
    class: "vision_model.embeddings.class_embedding",
    positions: "vision_model.embeddings.position_embedding",
    flat: false,
    patches: "vision_model.embeddings.patch_embedding",
    first_norm: None,
    layers: "vision_model.encoder.layers",
    last_norm: "vision_model.post_layernorm",
};

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    image_size: usize,
    patch_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            image_size: 384,
            patch_size: 16,
            layer_norm_eps: 1e-5,
            hidden_act: "gelu".into(),
        }
    }
}

fn build_vision(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let Config { vision_config: config, .. } = files.config()?;
    let reader = files.pixels(Takes::Only(config.image_size), MEAN, STD)?;
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
        names: &VISION_NAMES,
    };
    let mut weights = files.weights()?;
    for layer in 0..config.num_hidden_layers {
        for kind in ["weight", "bias"] {
            let name = |part: &str| format!("{}.{layer}.self_attn.{part}.{kind}", VISION_NAMES.layers);
            weights = weights.split(&name("qkv"), &["query", "key", "value"].map(name))?;
        }
    }
    let ignored = ["text_", "vision_proj.", "itm_head.", "logit_scale", "visual_projection."];
    load(weights, &ignored, p, |p| Ok(Box::new(VisionTransformer::new(&spec, reader, p)?)))
}

fn build_text(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let Config { text_config: config, .. } = files.config()?;
    let reader = files.tokens(config.limit())?;
    let spec = config.spec(Some(0), Pool::First)?;
    let weights = files.weights()?.renamed(|name| {
        let name = name.strip_prefix("text_encoder.").or_else(|| name.strip_prefix("text_model."))?;
        Some(name.to_owned())
    });
    let ignored = ["crossattention.", "position_ids", "pooler."];
    load(weights, &ignored, p, |p| Ok(Box::new(TextTransformer::new(&spec, reader, p)?)))
}
