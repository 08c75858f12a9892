//! Which columns of a table hold what.

/// Names of columns; what is left out is found by names and content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Paths of images.
    pub image: Option<String>,
    /// Texts, joined in this order.
    pub text: Vec<String>,
    /// The class or classes.
    pub label: Option<String>,
    /// The split.
    pub split: Option<String>,
    /// What a sample is a variant of.
    pub group: Option<String>,
    /// A number to predict, in place of a label.
    pub target: Option<String>,
}
