//! Texts, and noise on their words.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::at;
use crate::{DataError, Modality};

/// The modality `text`.
pub static MODALITY: Modality = Modality {
    name: "text",
    about: "a text in UTF-8",
    inline: true,
    noises: KINDS,
    check: |source| match source.text() {
        Some(_) => Ok(()),
        None => source.bytes().and_then(|(bytes, place)| {
            let text = std::str::from_utf8(&bytes);
            text.map(drop).map_err(|e| DataError::invalid(place, format!("not UTF-8 from byte {} on", e.valid_up_to())))
        }),
    },
};

/// Each word is hit with probability .1 .2 .3 .5 .7, by severity from 1 to 5:
/// * `mask`: replaced by the mask or unknown token, or dropped where there is none
/// * `drop`: dropped
/// * `typo`: two neighbouring letters swapped, or one replaced
/// * `shuffle`: the words that are hit trade places
const KINDS: &[&str] = &["mask", "drop", "typo", "shuffle"];

/// The text under a kind of noise, severity 1 to 5; `mask` is what the encoder has for a hidden or unknown word, if anything. An
/// unknown kind leaves the words as they are.
pub fn corrupt(text: &str, kind: &str, severity: u8, mask: Option<&str>, rng: &mut ChaCha8Rng) -> String {
    let fraction = at([0.1, 0.2, 0.3, 0.5, 0.7], severity);
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let hit: Vec<bool> = words.iter().map(|_| rng.random_bool(fraction)).collect();
    match kind {
        "mask" | "drop" => {
            let mask = mask.filter(|_| kind == "mask");
            let keep = |(word, hit): (String, &bool)| if *hit { mask.map(str::to_owned) } else { Some(word) };
            words = words.into_iter().zip(&hit).filter_map(keep).collect();
        }
        "typo" => {
            for (word, _) in words.iter_mut().zip(&hit).filter(|(_, hit)| **hit) {
                *word = misspelt(word, rng);
            }
        }
        "shuffle" => {
            let places: Vec<usize> = (0..words.len()).filter(|&i| hit[i]).collect();
            let mut order = places.clone();
            order.shuffle(rng);
            let moved: Vec<String> = order.iter().map(|&i| words[i].clone()).collect();
            places.into_iter().zip(moved).for_each(|(i, word)| words[i] = word);
        }
        _ => {}
    }
    words.join(" ")
}

/// Two neighbouring letters swapped, or in a word of one letter that letter replaced.
fn misspelt(word: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() > 1 {
        let i = rng.random_range(0..letters.len() - 1);
        letters.swap(i, i + 1);
    } else if let Some(letter) = letters.first_mut() {
        *letter = char::from(rng.random_range(b'a'..=b'z'));
    }
    letters.into_iter().collect()
}
