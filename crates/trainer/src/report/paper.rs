//! The paper's own numbers (Kwon et al., NAACL 2025, Tables 1 and 2), in percent: shown beside ours for the same data
//! set, always marked as the paper's, and never mixed with ours.
//!
//! "Missing image" means that the image is taken away and the text kept. For Hateful Memes the paper's scale fits
//! accuracy as well as AUROC; which of the two it is, is not stated.

use crate::record::Measure;

/// Scores of one method as printed in the paper: the rows of [`Measure::table`] for image and text, Table 2 the first
/// five.
pub type Column = (&'static str, &'static [f64]);

/// One data set of a table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The data set, as this program calls its layout and name.
    pub dataset: &'static str,
    /// What the paper calls it.
    pub title: &'static str,
    /// Methods, under this program's names.
    pub columns: &'static [Column],
}

/// Table 1: comparison of methods.
pub const TABLE_1: [Table; 3] = [
    Table {
        dataset: "food101",
        title: "UPMC Food-101",
        columns: &[
            ("joint", &[76.01, 12.99, 63.52, 38.26, 50.53, 41.92, 67.28, 54.60, 25.36]),
            ("mslr", &[78.43, 20.52, 63.00, 41.76, 42.48, 52.92, 77.71, 65.32, 24.79]),
            ("ogm-ge", &[77.42, 13.86, 61.45, 37.66, 47.59, 46.50, 75.94, 61.22, 29.44]),
            ("agm", &[78.93, 22.60, 63.13, 42.87, 40.53, 56.57, 77.43, 67.00, 20.86]),
            ("balgrad", &[80.32, 25.49, 65.03, 45.26, 39.54, 55.58, 78.54, 67.06, 22.96]),
        ],
    },
    Table {
        dataset: "hateful-memes",
        title: "Hateful Memes",
        columns: &[
            ("joint", &[65.10, 64.34, 55.60, 59.97, 8.74, 63.64, 65.09, 64.37, 1.45]),
            ("mslr", &[65.58, 66.04, 55.66, 60.85, 10.38, 64.21, 63.66, 63.94, 0.55]),
            ("ogm-ge", &[66.70, 66.83, 57.20, 62.02, 9.63, 63.72, 67.16, 65.44, 3.44]),
            ("agm", &[64.69, 66.25, 56.20, 61.23, 10.05, 61.85, 63.68, 62.77, 1.83]),
            ("balgrad", &[67.35, 65.86, 57.58, 61.72, 8.28, 65.78, 65.60, 65.69, 0.18]),
        ],
    },
    Table {
        dataset: "mm-imdb",
        title: "MM-IMDb",
        columns: &[
            ("joint", &[44.09, 18.85, 18.40, 18.63, 0.45, 30.89, 38.09, 34.49, 7.20]),
            ("mslr", &[44.09, 19.26, 14.67, 16.97, 4.59, 33.86, 43.00, 38.43, 9.14]),
            ("ogm-ge", &[42.22, 24.48, 12.31, 18.40, 12.17, 35.31, 40.33, 37.82, 5.02]),
            ("agm", &[43.93, 17.57, 15.46, 16.52, 2.11, 35.73, 42.66, 39.20, 6.93]),
            ("balgrad", &[43.19, 18.81, 17.47, 18.14, 1.34, 37.76, 41.80, 39.78, 4.04]),
        ],
    },
];

/// Table 2: the ablation. Its BalGrad on Hateful Memes differs from Table 1's (57.48, not 57.58): the paper's own.
pub const TABLE_2: [Table; 3] = [
    Table {
        dataset: "food101",
        title: "UPMC Food-101",
        columns: &[
            ("joint", &[76.01, 12.99, 63.52, 38.26, 50.53]),
            ("reweighting", &[78.17, 22.30, 64.10, 43.20, 41.80]),
            ("projection", &[76.20, 19.82, 63.76, 41.79, 43.94]),
            ("balgrad", &[80.32, 25.49, 65.03, 45.26, 39.54]),
        ],
    },
    Table {
        dataset: "hateful-memes",
        title: "Hateful Memes",
        columns: &[
            ("joint", &[65.10, 64.34, 55.60, 59.97, 8.74]),
            ("reweighting", &[65.80, 66.37, 57.03, 61.70, 9.34]),
            ("projection", &[66.30, 65.40, 56.20, 60.80, 9.20]),
            ("balgrad", &[67.35, 65.86, 57.48, 61.67, 8.38]),
        ],
    },
    Table {
        dataset: "mm-imdb",
        title: "MM-IMDb",
        columns: &[
            ("joint", &[44.09, 18.85, 18.40, 18.63, 0.45]),
            ("reweighting", &[44.30, 21.48, 17.20, 19.34, 4.28]),
            ("projection", &[42.30, 18.47, 18.80, 18.64, 0.33]),
            ("balgrad", &[43.19, 18.81, 17.47, 18.14, 1.34]),
        ],
    },
];

/// The table of one data set: the layout or the name must say that it is this one.
pub fn find(tables: &'static [Table], name: &str, layout: &str) -> Option<&'static Table> {
    tables.iter().find(|t| t.dataset == layout || t.dataset == name)
}

/// The paper's score of a method, in percent.
pub fn score(table: &Table, method: &str, measure: &Measure) -> Option<f64> {
    let (_, scores) = table.columns.iter().find(|(name, _)| *name == method)?;
    let row = Measure::table(&["image", "text"]).iter().position(|row| row == measure)?;
    scores.get(row).copied()
}
