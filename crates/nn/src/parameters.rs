//! Named variables with reproducible initial values.
//!
//! A parameter's first value depends on the seed and its full name alone: not on the order of construction, the
//! number of threads, or which other parameters exist.

mod file;
mod init;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};

pub use init::Init;

use crate::{Error, Result};

/// The parameters of a model, by name. Clones and [scopes](Self::scope) share one store.
///
/// ```
/// use balgrad_nn::{Init, Parameters};
/// use candle_core::Device;
/// let parameters = Parameters::new(7, &Device::Cpu);
/// let weight = parameters.scope("image").scope("h").get("weight", (4, 3), Init::fan_in(3))?;
/// assert_eq!(weight.dims(), [4, 3]);
/// assert_eq!(parameters.all()[0].0, "image.h.weight");
/// # Ok::<(), balgrad_nn::Error>(())
/// ```
#[derive(Clone)]
pub struct Parameters {
    store: Arc<Mutex<Store>>,
    prefix: String,
    seed: u64,
    dtype: DType,
    device: Device,
    frozen: bool,
    still: Option<Arc<Still>>,
    source: Option<Source>,
}

/// Says of a full name whether that parameter stays as it is.
type Still = dyn Fn(&str) -> bool + Send + Sync;

/// Where parameters take their first values from, in place of random ones: pretrained weights, as a rule.
pub trait InitialValues: Send + Sync {
    /// Whether there is a tensor called `name`.
    fn contains(&self, name: &str) -> bool;

    /// The tensor called `name`, on `device`.
    ///
    /// # Errors
    /// When there is none, or its shape is not `shape`.
    fn take(&self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor>;
}

/// First values, and the prefix at which their own names start.
#[derive(Clone)]
struct Source {
    values: Arc<dyn InitialValues>,
    at: usize,
}

#[derive(Default)]
struct Store {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    var: Var,
    trained: bool,
}

impl Parameters {
    /// An empty f32 store on `device`; `seed` fixes every initial value.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            store: Arc::default(),
            prefix: String::new(),
            seed,
            dtype: DType::F32,
            device: device.clone(),
            frozen: false,
            still: None,
            source: None,
        }
    }

    /// The same store, whose further parameters get `dtype`. Values are drawn in f64 and rounded, so that an f64
    /// model is the f32 model with more digits.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The same store under `name.`.
    #[must_use]
    pub fn scope(&self, name: impl std::fmt::Display) -> Self {
        let mut scope = self.clone();
        scope.prefix = format!("{}{name}.", self.prefix);
        scope
    }

    /// The same store; what is created through this handle is saved and loaded, and never trained.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let mut scope = self.clone();
        scope.frozen = true;
        scope
    }

    /// The same store; of what is created through this handle, the parameters that `still` names by their full name are
    /// saved and loaded, and never trained. What they alone compute is then no part of the graph.
    #[must_use]
    pub fn frozen_where(&self, still: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let mut scope = self.clone();
        scope.still = Some(Arc::new(still));
        scope
    }

    /// The same store; what is created through this handle takes its first value from `values`, where it goes by
    /// its name relative to this scope. A name that `values` lacks is then an error.
    #[must_use]
    pub fn pretrained(&self, values: Arc<dyn InitialValues>) -> Self {
        let mut scope = self.clone();
        scope.source = Some(Source { values, at: self.prefix.len() });
        scope
    }

    /// Whether `name` would be found in the pretrained weights of this scope.
    /// `false` where there are none.
    pub fn offers(&self, name: &str) -> bool {
        let full = format!("{}{name}", self.prefix);
        self.source.as_ref().is_some_and(|s| s.values.contains(&full[s.at..]))
    }

    /// The parameter `name` of `shape` in this scope: created at the first call, shared afterwards.
    ///
    /// # Errors
    /// If it exists with another shape, or the scope's pretrained weights lack it or hold another shape.
    pub fn get(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let still = self.still.as_ref().is_some_and(|still| still(&format!("{}{name}", self.prefix)));
        self.entry(name, &shape.into(), init, !self.frozen && !still)
    }

    /// Like [`get`](Self::get), but never trained: running statistics and the like.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        self.entry(name, &shape.into(), init, false)
    }

    /// The trained variables, in name order.
    pub fn all(&self) -> Vec<(String, Var)> {
        self.select(|entry| entry.trained)
    }

    /// The saved but untrained variables, in name order.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.select(|entry| !entry.trained)
    }

    /// How many trained numbers there are.
    pub fn count(&self) -> usize {
        self.all().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// The type of this handle's parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn entry(&self, name: &str, shape: &Shape, init: Init, trained: bool) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let mut store = self.store();
        if let Some(entry) = store.entries.get(&name) {
            if entry.var.shape() != shape {
                return Err(Error::ShapeMismatch {
                    place: "the model".into(),
                    name,
                    expected: shape.dims().to_vec(),
                    found: entry.var.dims().to_vec(),
                });
            }
            return Ok(entry.tensor());
        }
        let value = match &self.source {
            Some(source) => source.values.take(&name[source.at..], shape, &self.device)?,
            None => init.draw(self.seed, &name, shape, &self.device)?,
        };
        let var = Var::from_tensor(&value.to_dtype(self.dtype)?)?;
        let entry = Entry { var, trained };
        let tensor = entry.tensor();
        store.entries.insert(name, entry);
        Ok(tensor)
    }

    fn select(&self, keep: impl Fn(&Entry) -> bool) -> Vec<(String, Var)> {
        let store = self.store();
        store
            .entries
            .iter()
            .filter(|(name, entry)| name.starts_with(&self.prefix) && keep(entry))
            .map(|(name, entry)| (name.clone(), entry.var.clone()))
            .collect()
    }

    // A panic elsewhere cannot leave the map half-written: each insertion is one step.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// An untrained variable enters the graph as a constant; the storage is shared either way.
    fn tensor(&self) -> Tensor {
        if self.trained { self.var.as_tensor().clone() } else { self.var.as_detached_tensor() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let (one, two) = (Parameters::new(3, &Device::Cpu), Parameters::new(3, &Device::Cpu));
        let a = one.scope("a").get("w", (3, 5), Init::Normal(1.0)).unwrap();
        let b = one.scope("b").get("w", (3, 5), Init::Normal(1.0)).unwrap();
        let b2 = two.scope("b").get("w", (3, 5), Init::Normal(1.0)).unwrap();
        let a2 = two.scope("a").get("w", (3, 5), Init::Normal(1.0)).unwrap();
        assert_eq!(values(&a), values(&a2));
        assert_eq!(values(&b), values(&b2));
        assert_ne!(values(&a), values(&b));
        let other = Parameters::new(4, &Device::Cpu).scope("a").get("w", (3, 5), Init::Normal(1.0)).unwrap();
        assert_ne!(values(&a), values(&other));
    }

    #[test]
    fn names_come_in_order_and_are_shared() {
        let p = Parameters::new(0, &Device::Cpu);
        for name in ["z", "a", "m"] {
            p.get(name, 2, Init::Uniform(1.0)).unwrap();
        }
        p.frozen().get("b", 2, Init::Const(1.0)).unwrap();
        let names: Vec<_> = p.all().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "m", "z"]);
        assert_eq!(p.buffers()[0].0, "b");
        let error = p.get("a", 3, Init::Const(0.0)).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("[3]") && error.contains("[2]"), "{error}");
    }

    #[test]
    fn a_wider_type_keeps_the_values() {
        let narrow = Parameters::new(1, &Device::Cpu).get("w", 64, Init::Normal(0.5)).unwrap();
        let wide = Parameters::new(1, &Device::Cpu).with_dtype(DType::F64);
        let wide = wide.get("w", 64, Init::Normal(0.5)).unwrap();
        assert_eq!(values(&narrow), values(&wide.to_dtype(DType::F32).unwrap()));
    }
}
