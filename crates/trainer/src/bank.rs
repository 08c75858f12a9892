//! A bank: the samples of one split under one condition, as the towers will see them.

use anyhow::{Result, bail};
use balgrad::Labels;
use balgrad_encoders::{Augment, Draw, Expects, Input};
use candle_core::{DType, Device, Tensor};

/// One modality of every sample of a bank.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Features of a frozen encoder.
    Features {
        /// `[samples, dim]`.
        all: Tensor,
        /// The features of a missing modality, `[1, dim]`; zeros where there is none.
        missing: Option<Tensor>,
    },
    /// RGB bytes, `size × size × 3`, at the encoder's size; `None` where the image is missing.
    Images(Vec<Option<Box<[u8]>>>),
    /// Token ids; empty where the text is missing.
    Tokens(Vec<Vec<u32>>),
}

/// The samples of one split under one condition.
#[derive(Debug, Clone)]
pub struct Bank {
    /// Ids of the samples.
    pub ids: Vec<String>,
    /// Class indices of each sample, ascending.
    pub labels: Vec<Vec<u32>>,
    /// One per modality.
    pub seen: Vec<Seen>,
}

/// How a training batch differs from what stands in the bank.
#[derive(Debug, Clone, Copy)]
pub struct Variation<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// Chance that a sample loses a given modality (never both).
    pub dropout: f64,
    /// Small changes to images and texts for encoders that start from nothing.
    pub augment: Augment,
    /// The one modality that each sample of the batch is shown with, where it is not shown whole; empty where all are.
    pub shown: &'a [Option<usize>],
}

impl Variation<'_> {
    fn draw<'a>(&self, id: &'a str) -> Draw<'a> {
        Draw { seed: self.seed, epoch: self.epoch as u64, id }
    }

    /// The modality that a sample loses in this epoch, if any (ModDrop, Neverova et al. 2015): with `u ~ U(0, 1)` the
    /// first if `u < p`, the second if `p ≤ u < 2p`.
    fn lost(&self, id: &str, modalities: usize) -> Option<usize> {
        if self.dropout <= 0.0 {
            return None;
        }
        let key =
            [&self.seed.to_le_bytes()[..], &(self.epoch as u64).to_le_bytes(), b"modality dropout", id.as_bytes()];
        let u = balgrad_data::stable_hash(&key) as f64 / u64::MAX as f64;
        (0..modalities).find(|m| u < self.dropout * (*m as f64 + 1.0))
    }
}

impl Bank {
    /// How many samples.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The same samples as if only the modalities in `shown` were there: bit `m` stands for modality `m`.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn showing(&self, shown: usize) -> Result<Self> {
        let seen = self.seen.iter().enumerate().map(|(m, seen)| match seen {
            seen if shown >> m & 1 == 1 => Ok(seen.clone()),
            Seen::Features { all, missing } => {
                let none = match missing {
                    Some(missing) => missing.broadcast_as(all.shape())?.contiguous()?,
                    None => all.zeros_like()?,
                };
                Ok(Seen::Features { all: none, missing: missing.clone() })
            }
            Seen::Images(all) => Ok(Seen::Images(vec![None; all.len()])),
            Seen::Tokens(all) => Ok(Seen::Tokens(vec![Vec::new(); all.len()])),
        });
        Ok(Self { ids: self.ids.clone(), labels: self.labels.clone(), seen: seen.collect::<candle_core::Result<_>>()? })
    }

    /// The inputs of `rows`, one per modality, as they stand or varied for training.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn inputs(
        &self,
        rows: &[usize],
        expects: &[&Expects],
        variation: Option<&Variation<'_>>,
        device: &Device,
    ) -> Result<Vec<Input>> {
        // Per sample and modality whether it is kept.
        let keeps = |i: usize, m: usize| match variation {
            None => true,
            Some(v) => match v.shown.get(i).copied().flatten() {
                Some(shown) => shown == m,
                None => v.lost(&self.ids[rows[i]], self.seen.len()) != Some(m),
            },
        };
        let one = |(m, seen): (usize, &Seen)| -> Result<Input> {
            let Some(expects) = expects.get(m) else { bail!("the model has no tower for modality {m}") };
            let kept = |i: usize| keeps(i, m);
            Ok(match seen {
                Seen::Features { all, missing } => {
                    let ids: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
                    let picked = all.index_select(&Tensor::new(ids, all.device())?, 0)?;
                    let mask: Vec<f32> = (0..rows.len()).map(|i| f32::from(u8::from(kept(i)))).collect();
                    Input::Features(if mask.contains(&0.0) {
                        let mask = Tensor::new(mask, all.device())?.unsqueeze(1)?;
                        let kept = picked.broadcast_mul(&mask)?;
                        match missing {
                            Some(missing) => (kept + mask.affine(-1.0, 1.0)?.matmul(missing)?)?,
                            None => kept,
                        }
                    } else {
                        picked
                    })
                }
                Seen::Images(all) => {
                    let Expects::Pixels { size, .. } = expects else { bail!("modality {m} does not read pixels") };
                    let shown = |(i, &row): (usize, &usize)| {
                        let image = all[row].as_deref().filter(|_| kept(i))?;
                        let mut image: Box<[u8]> = image.into();
                        if let Some(v) = variation {
                            v.augment.pixels(&mut image, *size, v.draw(&self.ids[row]));
                        }
                        Some(image)
                    };
                    let images: Vec<Option<Box<[u8]>>> = rows.iter().enumerate().map(shown).collect();
                    expects.pixels(&images.iter().map(Option::as_deref).collect::<Vec<_>>(), device)?
                }
                Seen::Tokens(all) => {
                    let text = |(i, &row): (usize, &usize)| {
                        let mut tokens = if kept(i) { all[row].clone() } else { Vec::new() };
                        if let Some(v) = variation {
                            v.augment.tokens(&mut tokens, v.draw(&self.ids[row]));
                        }
                        tokens
                    };
                    let texts: Vec<Vec<u32>> = rows.iter().enumerate().map(text).collect();
                    expects.tokens(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>(), device)?
                }
            })
        };
        self.seen.iter().enumerate().map(one).collect()
    }
}

/// The truth of some rows as the losses read it, with optional class weights `[classes]`.
///
/// # Errors
/// When the device refuses the memory.
pub fn labels(
    bank: &Bank,
    rows: &[usize],
    classes: usize,
    multilabel: bool,
    weights: Option<&Tensor>,
    device: &Device,
) -> Result<Labels> {
    if multilabel {
        let mut targets = vec![0f32; rows.len() * classes];
        for (row, target) in rows.iter().zip(targets.chunks_exact_mut(classes)) {
            bank.labels[*row].iter().for_each(|&c| target[c as usize] = 1.0);
        }
        let targets = Tensor::from_vec(targets, (rows.len(), classes), device)?;
        return Ok(Labels::Many { targets, positive_weights: weights.cloned() });
    }
    let ids: Vec<u32> = rows.iter().map(|&r| bank.labels[r].first().copied().unwrap_or(0)).collect();
    Ok(Labels::Classes { ids: Tensor::new(ids, device)?, weights: weights.cloned() })
}

/// Weights that make up for unequal class counts: `n / (classes · n_c)`, or for multi-label tasks negatives over
/// positives; 1 for a class without samples.
///
/// # Errors
/// When the device refuses the memory.
pub fn balanced_weights(bank: &Bank, classes: usize, multilabel: bool, device: &Device) -> Result<Tensor> {
    let mut counts = vec![0f64; classes];
    bank.labels.iter().flatten().for_each(|&c| counts[c as usize] += 1.0);
    let n = bank.len() as f64;
    let weight = |c: &f64| match (multilabel, *c) {
        (_, 0.0) => 1.0,
        (true, c) => (n - c) / c,
        (false, c) => n / (classes as f64 * c),
    };
    let weights: Vec<f64> = counts.iter().map(weight).collect();
    Ok(Tensor::new(weights, device)?.to_dtype(DType::F32)?)
}
