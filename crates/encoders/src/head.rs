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

/// A linear layer of an `h_m`, `Y = input weightᵀ + bias`, left out of the graph: its gradients are `leaf`'s, `D = ∂L/∂Y`,
/// times the input, for whoever asks.
#[derive(Debug, Clone)]
pub struct CutLayer {
    /// `[batch, inputs]`.
    pub input: Tensor,
    /// `[batch, outputs]`: `Y` itself where nothing before the layer learns, else zeros that were added to it.
    pub leaf: Var,
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
        self.through(x, Linear::forward)
    }

    /// The same, with those layers left out of the graph that [`CutLayer`] serves better.
    ///
    /// # Errors
    /// If the last dimension is not `inputs`.
    pub fn forward_cut(&self, x: &Tensor) -> Result<(Tensor, Vec<CutLayer>)> {
        let mut layers = Vec::new();
        let z = self.through(x, |layer, x| {
            let (y, found) = cut(layer, x)?;
            layers.extend(found);
            Ok(y)
        })?;
        Ok((z, layers))
    }

    fn through(&self, x: &Tensor, mut linear: impl FnMut(&Linear, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let hidden = match &self.norm {
            Some(norm) => linear(&self.first, &norm.forward(x)?)?,
            None => linear(&self.first, x)?,
        };
        match &self.second {
            Some(second) => linear(second, &ops::gelu(&hidden)?),
            None => Ok(hidden),
        }
    }
}

/// The layer's output, and the layer where factors pay.
fn cut(layer: &Linear, x: &Tensor) -> Result<(Tensor, Option<CutLayer>)> {
    if !factors_pay(x.dim(0)?, layer.weight().dims2()?) {
        return Ok((layer.forward(x)?, None));
    }
    let (weight, bias) = (layer.weight(), layer.bias());
    let y = ops::linear(x, &weight.detach(), bias.map(Tensor::detach).as_ref())?;
    let (y, leaf) = if x.track_op() {
        let leaf = Var::zeros(y.shape(), y.dtype(), y.device())?;
        ((y + leaf.as_tensor())?, leaf)
    } else {
        let leaf = Var::from_tensor(&y)?;
        (leaf.as_tensor().clone(), leaf)
    };
    Ok((y, Some(CutLayer { input: x.detach(), leaf, weight: weight.clone(), bias: bias.cloned() })))
}

/// Whether the inner products of three objectives' weight gradients, and one such gradient, are cheaper by factors: `n²` times
/// inputs and thrice outputs, in place of two products of `n`, inputs and outputs.
fn factors_pay(n: usize, (outputs, inputs): (usize, usize)) -> bool {
    n * (inputs + 3 * outputs) <= 2 * inputs * outputs
}
