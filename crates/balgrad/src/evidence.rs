//! The little that a method may look at when it picks coefficients.

use candle_core::{Error, Result};
use rand::seq::SliceRandom;

use crate::{BlockInfo, Clock, Role, Signals};

/// What is known in one step after the backward passes: plain numbers, no tensors.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Where in the run the step stands.
    pub clock: Clock,
    /// The number of modalities.
    pub modalities: usize,
    /// The value of each objective, in the order of [`Method::objectives`](crate::Method::objectives).
    pub losses: &'a [f64],
    /// The signals of [`Method::objectives`](crate::Method::objectives).
    pub signals: &'a Signals,
    /// The blocks, in the order of the coefficients' rows.
    pub blocks: &'a [BlockInfo],
    /// Per block the Gram matrix of the objectives' gradients, row-major `k × k`; empty where the method's needs
    /// leave it out.
    pub gram: &'a [Vec<f64>],
}

impl Evidence<'_> {
    /// The number of objectives, `k`.
    pub fn objectives(&self) -> usize {
        self.losses.len()
    }

    /// The signal called `name`.
    ///
    /// # Errors
    /// When the objectives gave none of that name.
    pub fn signal(&self, name: &str) -> Result<&[f64]> {
        self.signals.get(name).ok_or_else(|| {
            let given: Vec<&str> = self.signals.iter().map(|(name, _)| name).collect();
            Error::Msg(format!("the evidence holds no signal `{name}` (it holds: {})", given.join(", ")))
        })
    }

    /// `⟨g_i, g_j⟩` in block `b`.
    ///
    /// # Errors
    /// When the evidence holds no block `b`, no Gram matrix of it, or no objective `i` or `j`.
    pub fn inner(&self, b: usize, i: usize, j: usize) -> Result<f64> {
        let k = self.objectives();
        if i >= k || j >= k {
            return Err(Error::Msg(format!("there is no inner product ({i}, {j}) of {k} objectives")));
        }
        Ok(self.gram_of(b)?[i * k + j])
    }

    /// The Gram matrix of block `b`, row-major `k × k`.
    fn gram_of(&self, b: usize) -> Result<&[f64]> {
        let k = self.objectives();
        match self.gram.get(b) {
            Some(gram) if gram.len() == k * k && k > 0 => Ok(gram),
            Some(gram) if !gram.is_empty() => {
                Err(Error::Msg(format!("the Gram matrix of block {b} has {} entries, for {k} objectives", gram.len())))
            }
            _ => {
                let name = self.blocks.get(b).map_or_else(|| format!("{b}"), |block| format!("`{}`", block.name));
                Err(Error::Msg(format!(
                    "the evidence holds no Gram matrix of block {name}: ask for it by `Needs::gram`"
                )))
            }
        }
    }

    /// `⟨g_i, g_j⟩` over all blocks of modality `m`'s tower; 0 for a tower that has none.
    ///
    /// # Errors
    /// As [`inner`](Self::inner).
    pub fn tower_inner(&self, m: usize, i: usize, j: usize) -> Result<f64> {
        let of_tower = |b: &usize| self.blocks[*b].role == Role::Tower(m);
        (0..self.blocks.len()).filter(of_tower).map(|b| self.inner(b, i, j)).sum()
    }

    /// The Gram matrix of the one block there is, as an [`Aggregator`](crate::aggregate::Aggregator) sees it.
    ///
    /// # Errors
    /// When there are several blocks, or no Gram matrix was taken.
    pub fn shared_gram(&self) -> Result<&[f64]> {
        match self.blocks.len() {
            1 => self.gram_of(0),
            n => Err(Error::Msg(format!("an aggregator weighs the gradients of one shared block, not of {n}"))),
        }
    }

    /// For each objective the others, in random order: the step's own.
    pub fn orders(&self) -> Vec<Vec<usize>> {
        let (k, mut rng) = (self.objectives(), self.clock.rng(b""));
        let mut order = |i: usize| {
            let mut others: Vec<usize> = (0..k).filter(|j| *j != i).collect();
            others.shuffle(&mut rng);
            others
        };
        (0..k).map(&mut order).collect()
    }
}
