//! The card of a trained model: what stands beside its weights.

use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad_data::{Dataset, Task};
use balgrad_encoders::Parameters;
use serde::{Deserialize, Serialize};

use crate::checkpoint::write_atomic;
use crate::config::Config;
use crate::sight::Sight;

/// `model.json`: all that is needed beside the weights to use a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Card {
    /// Version of this file's form.
    pub schema: u32,
    /// The form of the task.
    pub task: Task,
    /// Class names, in the order of the probabilities.
    pub classes: Vec<String>,
    /// A name of the table of fusions.
    pub fusion: String,
    /// The method that trained it, which says whose logits are the answer.
    pub method: String,
    /// How towers see a sample: encoders, statistics, vocabulary.
    pub sight: Sight,
}

impl Card {
    /// The card of a model for a data set.
    pub fn of(dataset: &Dataset, sight: &Sight, config: &Config) -> Self {
        Self {
            schema: 1,
            task: dataset.task,
            classes: dataset.classes.clone(),
            fusion: config.word("fusion").to_owned(),
            method: config.method.name.to_owned(),
            sight: sight.clone(),
        }
    }

    /// Reads the card of a run folder.
    ///
    /// # Errors
    /// A folder without a finished model, or a card of another version.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("model.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} holds no finished model (no model.json)", folder.display()))?;
        let card: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if card.schema != 1 {
            bail!("{}: schema {} is not known to this version", path.display(), card.schema);
        }
        Ok(card)
    }

    /// Writes `model.json` and `model.safetensors`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, folder: &Path, parameters: &Parameters) -> Result<()> {
        let weights = folder.join("model.safetensors");
        let temporary = folder.join("model.safetensors.tmp");
        parameters.save(&temporary)?;
        std::fs::rename(&temporary, &weights).with_context(|| format!("cannot write {}", weights.display()))?;
        write_atomic(&folder.join("model.json"), serde_json::to_string(self)?.as_bytes())
    }
}
