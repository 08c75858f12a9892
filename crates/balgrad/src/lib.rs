#![doc = include_str!("../README.md")]

pub mod aggregate;
mod balancer;
mod block;
mod contribution;
mod evidence;
mod linear;
mod losses;
pub mod methods;
mod mix;
mod outputs;
mod settings;
mod tap;

pub use balgrad_nn::{ProcessTuning, tune_process};

pub use balancer::{Balancer, StepReport};
pub use block::{Block, BlockInfo, Granularity, Role};
pub use contribution::shapley;
pub use evidence::{EpochSummary, Evidence, Moment, Panel, Survey};
pub use losses::{cross_entropy, kl_divergence, true_class_probability};
pub use methods::{Entry, METHODS, Method, Needs, Objective, Prediction, Rehearsal, Request, State, find};
pub use mix::{Conflict, Mix};
pub use outputs::{FusedHead, Labels, Outputs};
pub use settings::{Kind, Setting, SettingError, Settings, Value, nearest};
pub use tap::Tap;
