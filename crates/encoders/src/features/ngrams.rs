//! Text features: signed hashing of words and of character n-grams within words.
//!
//! Feature hashing with signs (Weinberger et al. 2009); character n-grams with word boundaries as in fastText
//! (Bojanowski et al. 2017). The vector is scaled to length 5 and *not* standardised: standardising sparse features
//! turns the empty text into an outlier, and a tower that meets it for the first time in evaluation falls below chance.
//! Here the empty text is the origin.

use std::collections::HashSet;

use super::Featurizer;

/// Words and character 3- to 5-grams, hashed; each counts once, a word three times as much as an n-gram.
#[derive(Debug, Clone, Copy)]
pub struct NGrams {
    dim: usize,
}

/// The length of a non-empty text's vector.
const LENGTH: f32 = 5.0;

/// What a word weighs beside an n-gram of characters.
const WORD: f32 = 3.0;

impl NGrams {
    /// Features of length `dim`, at least 1.
    pub fn new(dim: usize) -> Self {
        Self { dim: dim.max(1) }
    }

    fn add(&self, features: &mut [f32], hash: u64, weight: f32) {
        let sign = if hash >> 63 == 0 { weight } else { -weight };
        features[(hash % self.dim as u64) as usize] += sign;
    }
}

impl Default for NGrams {
    fn default() -> Self {
        Self::new(4096)
    }
}

impl Featurizer for NGrams {
    fn dim(&self) -> usize {
        self.dim
    }

    fn key(&self) -> String {
        format!("ngrams:3:{}", self.dim)
    }

    fn text(&self, text: &str) -> Option<Vec<f32>> {
        let mut features = vec![0f32; self.dim];
        let text = text.to_lowercase();
        let mut bounded = Vec::new();
        let mut seen = HashSet::new();
        let mut add = |hash: u64, weight: f32| {
            if seen.insert(hash) {
                self.add(&mut features, hash, weight);
            }
        };
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            add(hash(0, word.chars()), WORD);
            bounded.clear();
            bounded.push('<');
            bounded.extend(word.chars());
            bounded.push('>');
            for n in 3..=5 {
                for gram in bounded.windows(n) {
                    add(hash(n as u64, gram.iter().copied()), 1.0);
                }
            }
        }
        let length = features.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            features.iter_mut().for_each(|x| *x *= LENGTH / length);
        }
        Some(features)
    }
}

/// FNV-1a over the characters, then the finaliser of SplitMix64 so that every bit depends on every character.
fn hash(kind: u64, chars: impl Iterator<Item = char>) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut h = (0xcbf2_9ce4_8422_2325 ^ kind).wrapping_mul(PRIME);
    for c in chars {
        h = (h ^ u64::from(c)).wrapping_mul(PRIME);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dot(a: &str, b: &str) -> f32 {
        let n = NGrams::default();
        n.text(a).unwrap().iter().zip(n.text(b).unwrap()).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn empty_text_is_the_origin() {
        for text in ["", "  ", "…!"] {
            assert!(NGrams::default().text(text).unwrap().iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn length_is_five_and_case_does_not_matter() {
        assert!((dot("Man rowing boat", "man, rowing; BOAT") - 25.0).abs() < 1e-3);
    }

    #[test]
    fn related_words_are_near_and_boundaries_count() {
        assert!(dot("rowing", "rower") > dot("rowing", "castle") + 2.0);
        assert!(dot("cat", "cat") > dot("cat", "concatenate") + 5.0);
    }

    #[test]
    fn features_are_pinned() {
        // Caches and saved models rely on these positions: change the version in `key` with them.
        let features = NGrams::new(64).text("cat").unwrap();
        let set: Vec<_> = features.iter().enumerate().filter(|(_, x)| **x != 0.0).map(|(i, x)| (i, *x > 0.0)).collect();
        assert_eq!(set, PINNED);
    }
    const PINNED: [(usize, bool); 7] =
        [(10, true), (32, true), (34, true), (43, true), (51, true), (56, true), (60, false)];
}
