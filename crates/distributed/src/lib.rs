#![doc = include_str!("../README.md")]

mod launch;
#[cfg(feature = "mpi")]
mod mpi;

use std::fmt;
use std::sync::Arc;

use balgrad::Communicator;

pub use launch::Launch;

/// Whether this build has ranks over MPI.
pub const HAS_MPI: bool = cfg!(feature = "mpi");

/// Why the ranks cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// This process was started as one of several, by a build that cannot talk to the others.
    NoMpi {
        /// How many were started, where that is known.
        size: Option<usize>,
    },
    /// The MPI library was started before, or serves one thread alone.
    Refused(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMpi { size } => {
                let size = size.map_or_else(|| "several".to_owned(), |size| size.to_string());
                write!(f, "this is one of {size} ranks, and this build has no MPI: build with `--features mpi`")
            }
            Self::Refused(why) => write!(f, "MPI: {why}"),
        }
    }
}

impl std::error::Error for JoinError {}

/// The ranks that this process was started among; none where it was started alone. Keep them to the end, on the thread that
/// called this: the last to drop them takes leave of the other ranks, and waits for them.
///
/// # Errors
/// A build without MPI that was started as one of several ranks, or an MPI library that cannot be used.
pub fn join() -> Result<Option<Arc<dyn Communicator>>, JoinError> {
    match Launch::from_env() {
        None | Some(Launch { size: Some(1), .. }) => Ok(None),
        Some(launch) => among(&launch),
    }
}

#[cfg(feature = "mpi")]
fn among(_: &Launch) -> Result<Option<Arc<dyn Communicator>>, JoinError> {
    let ranks = mpi::Mpi::start()?;
    Ok((ranks.size() > 1).then(|| Arc::new(ranks) as Arc<dyn Communicator>))
}

#[cfg(not(feature = "mpi"))]
fn among(launch: &Launch) -> Result<Option<Arc<dyn Communicator>>, JoinError> {
    Err(JoinError::NoMpi { size: launch.size })
}
