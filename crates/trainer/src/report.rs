//! Runs beside each other: the paper's tables, comparisons with BalGrad, and one self-contained page.
//!
//! ```text
//! collect(folders) → Collected → summary → Summary → tables (terminal), JSON (serde), html (with both)
//! ```
//!
//! Nothing here knows a model: whatever a page says was read from run folders, and each score of a table can be
//! computed again from `predictions/*.jsonl` by anyone. Numbers of the paper are kept apart in [`paper`].

mod charts;
mod collect;
mod compare;
mod diagnosis;
mod html;
pub mod paper;
mod predictions;
mod run;
mod sections;
mod summarise;
mod summary;
mod svg;
mod tables;
mod takeaway;
mod verdict;

pub use collect::{Collected, Skipped, collect};
pub use diagnosis::{Diagnosis, Finding, Kind, diagnose};
pub use html::{html, picture};
pub use run::Run;
pub use summarise::summary;
pub use summary::{Comparison, Row, RunCard, Summary};
pub use tables::tables;
pub use takeaway::{csv, latex, markdown};
pub use verdict::{answer, verdicts};
