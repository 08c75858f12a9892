//! DistilBERT.

use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{Activation, BlockNames, BlockSpec, NormPlace, Pool, TextNames, TextSpec, TextTransformer};
use crate::{Encoder, ModelFiles, Parameters, Result};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "distilbert",
    modality: "text",
    about: "DistilBERT, pretrained; the mean of the tokens",
    paper: "Sanh et al. 2019",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "distilbert/distilbert-base-uncased", build },
};

const BLOCK: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
};

const NAMES: TextNames = TextNames {
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "",
    first_norm: Some("embeddings.LayerNorm"),
    layers: "transformer.layer",
    last_norm: None,
};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
    activation: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            max_position_embeddings: 512,
            activation: "gelu".into(),
        }
    }
}

fn build(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let config: Config = files.config()?;
    let reader = files.tokens(config.max_position_embeddings)?;
    let spec = TextSpec {
        block: BlockSpec {
            width: config.dim,
            heads: config.n_heads,
            inner: config.hidden_dim,
            eps: 1e-12,
            activation: Activation::named(&config.activation)?,
            norm: NormPlace::After,
            key_bias: true,
            names: &BLOCK,
        },
        layers: config.n_layers,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        types: 0,
        causal: false,
        pool: Pool::Mean,
        projection: None,
        names: &NAMES,
    };
    let weights = files.weights()?.renamed(|name| Some(name.strip_prefix("distilbert.").unwrap_or(name).to_owned()));
    let ignored = ["vocab_", "classifier.", "position_ids"];
    load(weights, &ignored, p, |p| Ok(Box::new(TextTransformer::new(&spec, reader, p)?)))
}
