//! Settings that take one of a few words, as enums: the words in the table, in errors and in files are read off them.

use balgrad::Value;
use balgrad_data::{OnBadSample, OnMissingFile};
use balgrad_nn::{Decay, OptimizerEntry};

use super::field::Field;

/// Values that have one word each.
pub trait Words: Copy + 'static {
    /// Every word, in the order of the variants.
    const WORDS: &'static [&'static str];

    /// The word of this variant.
    fn word(self) -> &'static str;

    /// The variant of a word.
    fn parse(word: &str) -> Option<Self>;
}

/// Gives the variants of an enum their words, by which it is a field of a config.
macro_rules! spelt {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl Words for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Field for $name {
            fn get(&self) -> Value {
                Value::Word(self.word().to_owned())
            }

            fn set(&mut self, value: &Value) -> Result<(), String> {
                let word = value.to_string();
                *self = <Self as Words>::parse(&word).ok_or_else(|| format!("one of {}", Self::WORDS.join(", ")))?;
                Ok(())
            }
        }
    };
}

/// Defines an enum whose variants are words of a config file.
macro_rules! words {
    ($($(#[$of_enum:meta])* $name:ident { $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$of_enum])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$of_variant])* $variant,)+ }

        spelt! { $name { $($variant = $word,)+ } }
    )+};
}

spelt! { OnBadSample { Skip = "skip", Fail = "fail", } }
spelt! { OnMissingFile { Skip = "skip", Missing = "missing", Fail = "fail", } }

words! {
    /// Where to compute.
    Device {
        /// CUDA or Metal where this build and machine have it, else the CPU.
        #[default]
        Auto = "auto",
        /// The CPU.
        Cpu = "cpu",
        /// The first CUDA device.
        Cuda = "cuda",
        /// The first Metal device.
        Metal = "metal",
    }

    /// What to do with a step whose loss is not finite.
    OnNan {
        /// Stop the run.
        #[default]
        Stop = "stop",
        /// Take no step.
        Skip = "skip",
    }

    /// Which of several plots of a film is read (layout `mm-imdb`).
    Plot {
        /// The longest.
        #[default]
        Longest = "longest",
        /// The first.
        First = "first",
    }

    /// The layers between an encoder and the fusion, `h_m` in the paper.
    Projector {
        /// Two linear layers with GELU between them.
        #[default]
        Mlp = "mlp",
        /// One linear layer.
        Linear = "linear",
    }

    /// Whether the losses weight classes by inverse frequency.
    ClassWeights {
        /// For multi-label tasks only.
        #[default]
        Auto = "auto",
        /// Never.
        None = "none",
        /// Always.
        Balanced = "balanced",
    }

}

/// An optimiser: a row of `balgrad-nn`'s table.
#[derive(Debug, Clone, Copy)]
pub struct Optimizer(pub &'static OptimizerEntry);

impl Default for Optimizer {
    fn default() -> Self {
        Self(balgrad_nn::OPTIMIZERS[0])
    }
}

impl PartialEq for Optimizer {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Field for Optimizer {
    fn get(&self) -> Value {
        Value::Word(self.0.name.to_owned())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let names = || balgrad_nn::OPTIMIZERS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        self.0 = balgrad_nn::optimizer(&value.to_string()).map_err(|_| format!("one of {}", names()))?;
        Ok(())
    }
}

impl Field for Decay {
    fn get(&self) -> Value {
        let (word, _) = Self::ALL.into_iter().find(|(_, decay)| decay == self).unwrap_or(Self::ALL[0]);
        Value::Word(word.to_owned())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let word = value.to_string();
        let found = Self::ALL.into_iter().find(|(name, _)| *name == word);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        *self = found.ok_or_else(|| format!("one of {}", names()))?.1;
        Ok(())
    }
}

/// Which blocks of a pretrained encoder keep their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    /// All of it: its features are computed once.
    #[default]
    All,
    /// The first blocks and, if there are any, whatever comes before them. `First(0)` trains everything.
    First(usize),
}

impl Field for Freeze {
    fn get(&self) -> Value {
        Value::Word(match self {
            Self::All => "all".to_owned(),
            Self::First(0) => "none".to_owned(),
            Self::First(count) => count.to_string(),
        })
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = match value.to_string().as_str() {
            "all" => Self::All,
            "none" => Self::First(0),
            count => Self::First(count.parse().map_err(|_| "all, none, or a number of blocks".to_owned())?),
        };
        Ok(())
    }
}
