//! Layers whose every parameter gets a gradient: linear, layer norm, embedding.

use crate::{Init, Parameters, Result as NnResult, ops};
use candle_core::{Result, Tensor};

/// `x Wᵀ + b`: `[.., inputs]` to `[.., outputs]`.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Parameters `weight` `[outputs, inputs]` and `bias` `[outputs]`, both uniform within `1/√inputs`.
    ///
    /// # Errors
    /// As for [`Parameters::get`].
    pub fn new(inputs: usize, outputs: usize, p: &Parameters) -> NnResult<Self> {
        let init = Init::fan_in(inputs);
        let weight = p.get("weight", (outputs, inputs), init)?;
        Ok(Self { weight, bias: Some(p.get("bias", outputs, init)?) })
    }

    /// Without a bias.
    ///
    /// # Errors
    /// As for [`Parameters::get`].
    pub fn without_bias(inputs: usize, outputs: usize, p: &Parameters) -> NnResult<Self> {
        Ok(Self { weight: p.get("weight", (outputs, inputs), Init::fan_in(inputs))?, bias: None })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    ///
    /// # Errors
    /// If the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// `residual + act(x) Wᵀ + b`, with GELU before the layer or nothing.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward_onto(&self, residual: &Tensor, x: &Tensor, gelu: bool) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => ops::residual_linear(residual, x, gelu, &self.weight, bias),
            None => residual + self.forward(&if gelu { ops::gelu(x)? } else { x.clone() })?,
        }
    }

    /// The weight, `[outputs, inputs]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// Layer normalisation over the last dimension, with weight and bias; differentiable, unlike candle's own.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Parameters `weight` (ones) and `bias` (zeros), both `[width]`.
    ///
    /// # Errors
    /// As for [`Parameters::get`].
    pub fn new(width: usize, eps: f64, p: &Parameters) -> NnResult<Self> {
        let weight = p.get("weight", width, Init::Const(1.0))?;
        Ok(Self { weight, bias: p.get("bias", width, Init::Const(0.0))?, eps })
    }

    /// `[.., width]` to the same shape.
    ///
    /// # Errors
    /// If the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// A table of vectors, looked up by index.
pub struct Embedding {
    table: Tensor,
}

impl Embedding {
    /// The parameter `weight` `[count, width]`, normal with standard deviation 0.02.
    ///
    /// # Errors
    /// As for [`Parameters::get`].
    pub fn new(count: usize, width: usize, p: &Parameters) -> NnResult<Self> {
        Ok(Self { table: p.get("weight", (count, width), Init::Normal(0.02))? })
    }

    /// u32 `ids` `[..]` to `[.., width]`.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        ops::embedding(ids, &self.table)
    }

    /// The first `n` rows, `[n, width]`.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn first(&self, n: usize) -> Result<Tensor> {
        self.table.narrow(0, 0, n)
    }
}
