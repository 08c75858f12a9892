//! Settings that take one of a few words, as enums: the words in the table, in errors and in files are read off them.

use balgrad::Value;

use super::field::Field;

/// Defines an enum whose variants are words of a config file.
macro_rules! words {
    ($($(#[$of_enum:meta])* $name:ident { $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$of_enum])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$of_variant])* $variant,)+ }

        impl $name {
            /// Every word, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of this variant.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant of a word.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Field for $name {
            fn get(&self) -> Value {
                Value::Word(self.word().to_owned())
            }

            fn set(&mut self, value: &Value) -> Result<(), String> {
                let word = value.to_string();
                *self = Self::parse(&word).ok_or_else(|| format!("one of {}", Self::WORDS.join(", ")))?;
                Ok(())
            }
        }
    )+};
}

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

    /// What to do with a sample that cannot be read.
    OnBadSample {
        /// Go on without it.
        #[default]
        Skip = "skip",
        /// Stop.
        Fail = "fail",
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

    /// The optimiser.
    Optimizer {
        /// AdamW.
        #[default]
        AdamW = "adamw",
        /// SGD with momentum.
        Sgd = "sgd",
    }

    /// How the learning rate falls after the warm-up.
    Schedule {
        /// Along half a cosine, to 0.
        #[default]
        Cosine = "cosine",
        /// Along a line, to 0.
        Linear = "linear",
        /// Not at all.
        Constant = "constant",
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
