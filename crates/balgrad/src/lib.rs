#![doc = include_str!("../README.md")]

pub mod aggregate;
mod balancer;
mod block;
mod clock;
mod communicator;
mod cone;
mod contribution;
mod epoch;
mod evidence;
mod likelihood;
mod linear;
pub mod methods;
mod mix;
mod objective;
mod outputs;
mod settings;
mod tap;

pub use balancer::{Balancer, StepReport};
pub use block::{Block, BlockInfo, Granularity, Role};
pub use clock::Clock;
pub use communicator::{Alone, Communicator, Threads};
pub use contribution::shapley;
pub use epoch::{EpochSummary, Probe, SplitProbe};
pub use evidence::Evidence;
pub use likelihood::{Likelihood, Target};
pub use methods::{
    Entry, GramScope, METHODS, Method, Needs, Prediction, Rehearsal, Request, State, Targets, find, find_among,
    modality_only,
};
pub use mix::{Conflict, Mix};
pub use objective::{Objective, Objectives, Signals};
pub use outputs::{FusedHead, Outputs, gather_rows};
pub use settings::{Kind, Setting, SettingError, Settings, Value, nearest};
pub use tap::Tap;
