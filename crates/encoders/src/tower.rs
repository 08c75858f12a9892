//! The two-tower model: an encoder and `h_m` for each modality, a fusion `f_T`, and an own head `f_m` for each.

use std::sync::Arc;

use balgrad_kernels::map_on;
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::fusion::{Fusion, FusionShape, fusion};
use crate::head::{CutLayer, EmbeddingHead, HeadForm};
use crate::layers::Linear;
use crate::{Encoder, Error, Input, Parameters};

/// The sizes and forms of a [`TwoTower`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A name of [`FUSIONS`](crate::FUSIONS).
    #[serde(default = "default_fusion")]
    pub fusion: String,
    /// The length of each embedding.
    pub width: usize,
    /// How many logits.
    pub classes: usize,
    /// One for each modality, two or more.
    pub towers: Vec<TowerConfig>,
}

fn default_fusion() -> String {
    "concat".into()
}

/// One modality's tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// The modality's name; its parameters start with it.
    pub name: String,
    /// The form of `h_m`.
    #[serde(default)]
    pub head: HeadForm,
    /// Whether `h_m` starts with a layer norm: yes for deep encoders, no for descriptors.
    pub norm: bool,
}

/// What the model says about a batch.
#[derive(Debug, Clone)]
pub struct Views {
    /// The task's logits, `[batch, classes]`.
    pub fused: Tensor,
    /// Each modality's own logits, `[batch, classes]`.
    pub own: Vec<Tensor>,
    /// Each modality's embedding `z_m`, `[batch, width]`.
    pub embeddings: Vec<Tensor>,
}

/// Which block of the paper's figure a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockRole {
    /// `h_m`, with its encoder if that is trained.
    Tower(usize),
    /// The own head `f_m`.
    Head(usize),
    /// The fusion and its classifier, `f_T`.
    Fused,
}

/// Encoders, embeddings, a fusion and own heads. "Two" is the usual count; any number from two on works.
///
/// Parameters are named `{modality}.encoder.…`, `{modality}.embed.…` (`h_m`), `{modality}.own.…` (`f_m`) and
/// `fused.…` (`f_T`).
pub struct TwoTower {
    towers: Vec<Tower>,
    fusion: Arc<dyn Fusion>,
}

struct Tower {
    name: String,
    encoder: Box<dyn Encoder>,
    embed: EmbeddingHead,
    own: Linear,
}

impl TwoTower {
    /// Builds the model around `encoders`, one for each tower of the configuration and in its order. Build an
    /// encoder that is to be trained under `parameters.scope(name).scope("encoder")`.
    ///
    /// # Errors
    /// If the configuration is inconsistent or names an unknown fusion.
    pub fn new(config: &ModelConfig, encoders: Vec<Box<dyn Encoder>>, parameters: &Parameters) -> crate::Result<Self> {
        config.check(encoders.len())?;
        let ModelConfig { width, classes, .. } = *config;
        let build = |(tower, encoder): (&TowerConfig, Box<dyn Encoder>)| {
            let scope = parameters.scope(&tower.name);
            let embed = EmbeddingHead::new(encoder.dim(), width, tower.head, tower.norm, &scope.scope("embed"))?;
            let own = Linear::new(width, classes, &scope.scope("own"))?;
            Ok(Tower { name: tower.name.clone(), encoder, embed, own })
        };
        let towers = config.towers.iter().zip(encoders).map(build).collect::<crate::Result<Vec<_>>>()?;
        let shape = FusionShape { modalities: towers.len(), width, classes };
        let fusion = (fusion(&config.fusion)?.build)(&shape, &parameters.scope(FUSED))?;
        Ok(Self { towers, fusion: fusion.into() })
    }

    /// How many modalities.
    pub fn modalities(&self) -> usize {
        self.towers.len()
    }

    /// The encoder of modality `m`, in the order of the configuration.
    pub fn encoder(&self, m: usize) -> Option<&dyn Encoder> {
        self.towers.get(m).map(|tower| tower.encoder.as_ref())
    }

    /// The fusion with its classifier: `f_T` as a function of embeddings.
    pub fn fusion(&self) -> Arc<dyn Fusion> {
        Arc::clone(&self.fusion)
    }

    /// All logits for one batch, one input for each modality.
    ///
    /// # Errors
    /// If the number of inputs, or an input's kind or shape, is wrong.
    pub fn forward(&self, inputs: &[Input]) -> Result<Views> {
        self.forward_embeddings(self.embed(inputs)?)
    }

    /// The embeddings `z_m` alone, `[batch, width]` each.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn embed(&self, inputs: &[Input]) -> Result<Vec<Tensor>> {
        self.each(inputs, |tower, input| tower.embed.forward(&tower.encoder.forward(input)?))
    }

    /// The embeddings `z_m`, each with those layers of its `h_m` that were left out of the graph.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn embed_cut(&self, inputs: &[Input]) -> Result<Vec<(Tensor, Vec<CutLayer>)>> {
        self.each(inputs, |tower, input| tower.embed.forward_cut(&tower.encoder.forward(input)?))
    }

    /// `f` of each tower and its input, in order; on the CPU the towers share the threads.
    fn each<R: Send>(&self, inputs: &[Input], f: impl Fn(&Tower, &Input) -> Result<R> + Sync) -> Result<Vec<R>> {
        self.check(inputs.len())?;
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        let pairs: Vec<_> = self.towers.iter().zip(inputs).collect();
        map_on(first.device(), &pairs, |(tower, input)| f(tower, input))
    }

    /// All logits from the embeddings `z_m`.
    ///
    /// # Errors
    /// If their number or shapes are wrong.
    pub fn forward_embeddings(&self, embeddings: Vec<Tensor>) -> Result<Views> {
        self.check(embeddings.len())?;
        let fused = self.fusion.logits(&embeddings)?;
        let own = self.towers.iter().zip(&embeddings).map(|(tower, z)| tower.own.forward(z)).collect::<Result<_>>()?;
        Ok(Views { fused, own, embeddings })
    }

    /// The fused logits with every embedding but the `m`-th set to zero.
    ///
    /// # Errors
    /// If there is no modality `m`, or as for [`forward_embeddings`](Self::forward_embeddings).
    pub fn alone(&self, embeddings: &[Tensor], m: usize) -> Result<Tensor> {
        self.check(embeddings.len())?;
        if m >= embeddings.len() {
            bail!("modality {m} of {}: out of range", embeddings.len());
        }
        let keep = |(n, z): (usize, &Tensor)| if n == m { Ok(z.clone()) } else { z.zeros_like() };
        self.fusion.logits(&embeddings.iter().enumerate().map(keep).collect::<Result<Vec<_>>>()?)
    }

    /// For additive fusions each modality's part of the fused logits, `f_m W_mᵀ + b/M`; `None` for others.
    ///
    /// # Errors
    /// If the number or shapes of the embeddings are wrong.
    pub fn slices(&self, embeddings: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        self.check(embeddings.len())?;
        self.fusion.slices(embeddings)
    }

    /// The block of a parameter, by its full name.
    pub fn block_of(&self, parameter: &str) -> BlockRole {
        let (tower, rest) = parameter.split_once('.').unwrap_or((parameter, ""));
        match self.towers.iter().position(|t| t.name == tower) {
            Some(m) if rest.starts_with("own.") => BlockRole::Head(m),
            Some(m) => BlockRole::Tower(m),
            None => BlockRole::Fused,
        }
    }

    fn check(&self, found: usize) -> Result<()> {
        if found != self.towers.len() {
            bail!("the model has {} modalities, found {found}", self.towers.len());
        }
        Ok(())
    }
}

const FUSED: &str = "fused";

impl ModelConfig {
    fn check(&self, encoders: usize) -> crate::Result<()> {
        let bad = |problem: String| Err(Error::invalid("model", problem));
        if self.towers.len() < 2 {
            return bad(format!("at least two towers are needed, found {}", self.towers.len()));
        }
        if self.towers.len() != encoders {
            return bad(format!("{} towers but {encoders} encoders", self.towers.len()));
        }
        if self.width == 0 || self.classes == 0 {
            return bad(format!("width and classes must be positive, found {} and {}", self.width, self.classes));
        }
        for (i, tower) in self.towers.iter().enumerate() {
            let name = &tower.name;
            if name.is_empty() || name.contains('.') || name == FUSED {
                return bad(format!("`{name}` cannot name a tower: not empty, no dot, not `{FUSED}`"));
            }
            if self.towers[..i].iter().any(|other| other.name == *name) {
                return bad(format!("two towers are called `{name}`"));
            }
        }
        Ok(())
    }
}
