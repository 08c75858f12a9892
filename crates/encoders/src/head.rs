//! The embedding layer `h_m` of one modality.

use candle_core::{Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::layers::{LayerNorm, Linear};
use crate::{Parameters, ops};

/// The form of `h_m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadForm {
    /// Linear → GELU → Linear.
    #[default]
    Mlp,
    /// One linear layer.
    Linear,
}

/// `h_m`: `[batch, inputs]` to `[batch, width]`, as `[LayerNorm] → Linear → GELU → Linear` or one linear layer.
///
/// The leading norm suits the outputs of deep encoders; descriptor features do without, since it would undo their
/// scale, and with it what "missing" (the origin) looks like.
pub struct EmbeddingHead {
    norm: Option<LayerNorm>,
    first: Linear,
    second: Option<Linear>,
}

/// The first layer of an `h_m`, `output = input weightᵀ + bias`, where the graph was cut at its output.
#[derive(Debug, Clone)]
pub struct FirstLayer {
    /// `[batch, inputs]`.
    pub input: Tensor,
    /// `[batch, outputs]`; what follows was computed from this variable.
    pub output: Var,
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Option<Tensor>,
}

impl EmbeddingHead {
    /// Builds `norm`, `first` and `second` as the form asks.
    ///
    /// # Errors
    /// As for [`Parameters::get`].
    pub fn new(inputs: usize, width: usize, form: HeadForm, norm: bool, p: &Parameters) -> crate::Result<Self> {
        let norm = norm.then(|| LayerNorm::new(inputs, 1e-5, &p.scope("norm"))).transpose()?;
        let first = Linear::new(inputs, width, &p.scope("first"))?;
        let second = match form {
            HeadForm::Mlp => Some(Linear::new(width, width, &p.scope("second"))?),
            HeadForm::Linear => None,
        };
        Ok(Self { norm, first, second })
    }

    /// `[batch, inputs]` to `[batch, width]`.
    ///
    /// # Errors
    /// If the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.after_first(match &self.norm {
            Some(norm) => self.first.forward(&norm.forward(x)?)?,
            None => self.first.forward(x)?,
        })
    }

    /// The same, with the graph cut after the first layer where nothing before that layer learns.
    ///
    /// # Errors
    /// If the last dimension is not `inputs`.
    pub fn forward_cut(&self, x: &Tensor) -> Result<(Tensor, Option<FirstLayer>)> {
        if self.norm.is_some() || x.track_op() {
            return Ok((self.forward(x)?, None));
        }
        let output = Var::from_tensor(&self.first.forward(x)?.detach())?;
        let (weight, bias) = (self.first.weight().clone(), self.first.bias().cloned());
        let embedding = self.after_first(output.as_tensor().clone())?;
        Ok((embedding, Some(FirstLayer { input: x.clone(), output, weight, bias })))
    }

    fn after_first(&self, hidden: Tensor) -> Result<Tensor> {
        match &self.second {
            Some(second) => second.forward(&ops::gelu(&hidden)?),
            None => Ok(hidden),
        }
    }
}
