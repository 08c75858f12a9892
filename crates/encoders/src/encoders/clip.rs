//! CLIP's two encoders, with their projections into the joint space.

use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{
    Activation, BlockNames, BlockSpec, NormPlace, Pool, TextNames, TextSpec, TextTransformer, VisionNames, VisionSpec,
    VisionTransformer,
};
use crate::preprocessor::Takes;
use crate::{Encoder, ModelFiles, Parameters, Result};

pub(super) const VISION: EncoderEntry = EncoderEntry {
    name: "clip-vision",
    modality: "image",
    about: "CLIP's image encoder, pretrained, projected",
    paper: "Radford et al. 2021",
    stem: &["embeddings", "pre_layrnorm"],
    kind: EncoderKind::Pretrained { model: "openai/clip-vit-base-patch32", build: build_vision },
};

pub(super) const TEXT: EncoderEntry = EncoderEntry {
    name: "clip-text",
    modality: "text",
    about: "CLIP's text encoder, pretrained, projected; the last token",
    paper: "Radford et al. 2021",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "openai/clip-vit-base-patch32", build: build_text },
};

pub(super) const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(super) const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

const BLOCK: BlockNames = BlockNames {
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    attention_norm: "layer_norm1",
    up: "mlp.fc1",
    down: "mlp.fc2",
    mlp_norm: "layer_norm2",
};

const VISION_NAMES: VisionNames = VisionNames {
    class: "vision_model.embeddings.class_embedding",
    positions: "vision_model.embeddings.position_embedding.weight",
    flat: true,
    patches: "vision_model.embeddings.patch_embedding",
    first_norm: Some("vision_model.pre_layrnorm"),
    layers: "vision_model.encoder.layers",
    last_norm: "vision_model.post_layernorm",
};

const TEXT_NAMES: TextNames = TextNames {
    words: "text_model.embeddings.token_embedding",
    positions: "text_model.embeddings.position_embedding",
    types: "",
    first_norm: None,
    layers: "text_model.encoder.layers",
    last_norm: Some("text_model.final_layer_norm"),
};

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "default_projection")]
    projection_dim: usize,
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
}

fn default_projection() -> usize {
    512
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct TextConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    hidden_act: String,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            intermediate_size: 2048,
            max_position_embeddings: 77,
            layer_norm_eps: 1e-5,
            hidden_act: "quick_gelu".into(),
        }
    }
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
            image_size: 224,
            patch_size: 32,
            layer_norm_eps: 1e-5,
            hidden_act: "quick_gelu".into(),
        }
    }
}

fn build_vision(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let Config { projection_dim, vision_config: config, .. } = files.config()?;
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
        patch_bias: false,
        projection: Some((projection_dim, "visual_projection")),
        names: &VISION_NAMES,
    };
    let ignored = ["text_model.", "text_projection.", "logit_scale", "position_ids"];
    load(files.weights()?, &ignored, p, |p| Ok(Box::new(VisionTransformer::new(&spec, reader, p)?)))
}

fn build_text(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let Config { projection_dim, text_config: config, .. } = files.config()?;
    let reader = files.tokens(config.max_position_embeddings)?;
    let spec = TextSpec {
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
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        types: 0,
        causal: true,
        pool: Pool::Last,
        projection: Some((projection_dim, "text_projection")),
        names: &TEXT_NAMES,
    };
    let ignored = ["vision_model.", "visual_projection.", "logit_scale", "position_ids"];
    load(files.weights()?, &ignored, p, |p| Ok(Box::new(TextTransformer::new(&spec, reader, p)?)))
}
