//! How deep in its encoder a parameter stands, by its name: for freezing from the bottom, and for learning rates that fall
//! towards it.

/// Which part of a pretrained encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freeze {
    /// Nothing: its features are computed once.
    All,
    /// Everything but the first blocks, and with one or more of them what comes before.
    First(usize),
}

impl std::str::FromStr for Freeze {
    type Err = crate::Usage;

    fn from_str(text: &str) -> Result<Self, crate::Usage> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::First(0)),
            count => count
                .parse()
                .map(Self::First)
                .map_err(|_| crate::Usage(format!("freeze = `{text}`: expected all, none, or a number of blocks"))),
        }
    }
}

/// The block that a parameter belongs to: the first number among the parts of its name.
pub(crate) fn block(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}

/// Whether a parameter outside all blocks comes before them: embeddings, a stem, the first norm.
pub(crate) fn is_first(name: &str) -> bool {
    block(name).is_none() && ["embed", "_conv_stem", "_bn0", "pre_layrnorm"].iter().any(|part| name.contains(part))
}

/// Whether a parameter of an encoder stays as it is.
pub(crate) fn stays(name: &str, first: usize) -> bool {
    first > 0 && block(name).map_or_else(|| is_first(name), |b| b < first)
}

/// The factor on a parameter's learning rate: `decay` to the power of its distance from the end of its encoder, which has
/// `blocks` blocks.
pub(crate) fn rate(name: &str, blocks: usize, decay: f64) -> f64 {
    let above = match block(name) {
        Some(block) => blocks.saturating_sub(block),
        None if is_first(name) => blocks + 1,
        None => 0,
    };
    decay.powi(above as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_family_are_placed() {
        for (name, expected) in [
            ("embeddings.word_embeddings.weight", (None, true)),
            ("encoder.layer.3.attention.self.query.weight", (Some(3), false)),
            ("transformer.layer.0.ffn.lin1.bias", (Some(0), false)),
            ("vision_model.encoder.layers.11.mlp.fc1.weight", (Some(11), false)),
            ("vision_model.pre_layrnorm.weight", (None, true)),
            ("visual_projection.weight", (None, false)),
            ("layernorm.weight", (None, false)),
            ("embedder.embedder.convolution.weight", (None, true)),
            ("encoder.stages.2.layers.0.layer.1.convolution.weight", (Some(2), false)),
            ("_blocks.4._depthwise_conv.weight", (Some(4), false)),
            ("_conv_stem.weight", (None, true)),
            ("_conv_head.weight", (None, false)),
        ] {
            assert_eq!((block(name), is_first(name)), expected, "{name}");
        }
        assert!(stays("embeddings.x", 1) && stays("encoder.layer.0.x", 1) && !stays("encoder.layer.1.x", 1));
        assert!(!stays("embeddings.x", 0) && !stays("layernorm.weight", 12));
        assert_eq!(rate("embeddings.x", 2, 0.5), 0.125);
        assert_eq!(rate("encoder.layer.1.x", 2, 0.5), 0.5);
        assert_eq!(rate("layernorm.weight", 2, 0.5), 1.0);
    }
}
