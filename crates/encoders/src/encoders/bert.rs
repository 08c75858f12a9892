//! BERT, and the sentence encoders that share its architecture (MiniLM).

use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{Activation, BlockNames, BlockSpec, NormPlace, Pool, TextNames, TextSpec, TextTransformer};
use crate::{Encoder, ModelFiles, Parameters, Result};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "bert",
    modality: "text",
    about: "BERT and MiniLM, pretrained; the mean of the tokens",
    paper: "Devlin et al. 2019; Reimers & Gurevych 2019 (mean pooling)",
    stem: &["embeddings"],
    kind: EncoderKind::Pretrained { model: "google-bert/bert-base-uncased", build },
};

pub(super) const BLOCK: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
};

pub(super) const NAMES: TextNames = TextNames {
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "embeddings.token_type_embeddings",
    first_norm: Some("embeddings.LayerNorm"),
    layers: "encoder.layer",
    last_norm: None,
};

/// The fields of `config.json`; those that old files leave out have the architecture's defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
        }
    }
}

impl Config {
    pub(super) fn limit(&self) -> usize {
        self.max_position_embeddings
    }

    /// BERT; `types` and `pool` differ in BLIP's text encoder.
    pub(super) fn spec(&self, types: Option<usize>, pool: Pool) -> Result<TextSpec> {
        Ok(TextSpec {
            block: BlockSpec {
                width: self.hidden_size,
                heads: self.num_attention_heads,
                inner: self.intermediate_size,
                eps: self.layer_norm_eps,
                activation: Activation::named(&self.hidden_act)?,
                norm: NormPlace::After,
                key_bias: true,
                names: &BLOCK,
            },
            layers: self.num_hidden_layers,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            types: types.unwrap_or(self.type_vocab_size),
            causal: false,
            pool,
            projection: None,
            names: &NAMES,
        })
    }
}

fn build(files: &ModelFiles, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let config: Config = files.config()?;
    let reader = files.tokens(config.limit())?;
    let spec = config.spec(None, Pool::Mean)?;
    let weights = files.weights()?.renamed(|name| {
        let name = name.strip_prefix("bert.").unwrap_or(name);
        Some(name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"))
    });
    let ignored = ["pooler.", "cls.", "position_ids", "classifier."];
    load(weights, &ignored, p, |p| Ok(Box::new(TextTransformer::new(&spec, reader, p)?)))
}
