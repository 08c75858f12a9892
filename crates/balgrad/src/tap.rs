//! Taps: linear layers of a tower whose gradients are kept as factors until they are blended.

use balgrad_kernels::{factored_gram, linear_gradients};
use candle_core::{Result, Tensor, Var};

/// A linear layer `Y = X Wᵀ + b` whose weight and bias are not in the graph.
///
/// The gradient of objective `i` is `D_iᵀ X` for the weight and the column sums of `D_i` for the bias, where
/// `D_i = ∂L_i/∂Y`. So every inner product that a Gram matrix needs is that of `D_i` and `(X Xᵀ + 1) D_j`, and one weight
/// gradient, that of the blended `D`, is formed in place of one per objective. Nothing is approximated.
#[derive(Debug, Clone)]
pub struct Tap {
    /// `X`, `[batch, inputs]`.
    pub input: Tensor,
    /// `[batch, outputs]`, the variable whose gradient is `∂L/∂Y`: all that follows was computed from it. `Y` itself where
    /// nothing before the layer learns; where something does, zeros that were added to `Y`.
    pub leaf: Var,
    /// `W`, `[outputs, inputs]`: the variable of a block.
    pub weight: Tensor,
    /// `b`, `[outputs]`: the variable of a block.
    pub bias: Option<Tensor>,
}

impl Tap {
    /// Whether this is the gradient factor of `var`.
    pub(crate) fn stands_for(&self, var: &Var) -> bool {
        let id = var.as_tensor().id();
        self.weight.id() == id || self.bias.as_ref().is_some_and(|bias| bias.id() == id)
    }

    /// Adds the `k × k` inner products of the layer's gradients, from the factors `D_i`.
    pub(crate) fn add_gram(&self, factors: &[Option<Tensor>], sums: &mut [f64]) -> Result<()> {
        let inner = factored_gram(&self.input, factors, self.bias.is_some())?;
        sums.iter_mut().zip(inner).for_each(|(sum, inner)| *sum += inner);
        Ok(())
    }

    /// The gradients of weight and bias that a factor `D` stands for.
    pub(crate) fn gradients(&self, factor: &Tensor) -> Result<Vec<(&Tensor, Tensor)>> {
        let (weight, bias) = linear_gradients(&self.input, factor)?;
        Ok(std::iter::once((&self.weight, weight)).chain(self.bias.as_ref().map(|b| (b, bias))).collect())
    }
}
