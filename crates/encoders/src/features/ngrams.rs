//! Text features: words and character n-grams, in the coordinates of the training texts.
//!
//! A text is the set of its words and of their character 3- to 5-grams, word boundaries included (Bojanowski et al. 2017),
//! each under a hash of 32 bits. Two texts are as alike as the cosine of their sets, in which a word counts five n-grams. The
//! features of a text are its coordinates on an orthonormal basis of what the landmarks span, training texts chosen by a
//! pivoted incomplete Cholesky factorisation (Fine & Scheinberg 2001; Bach & Jordan 2002): between texts that the landmarks
//! span, inner products are exact, where feature hashing to a few thousand places confuses n-grams by collision. A text that
//! shares nothing with the landmarks, the empty one with them, is the origin.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use balgrad_data::Source;

use super::Featurizer;
use crate::{Error, Result, View};

/// The length of a text that the landmarks span.
const LENGTH: f64 = 5.0;

/// What a word weighs beside an n-gram of characters.
const WORD: f64 = 5.0;

/// The most landmarks, and so the most features.
const LANDMARKS: usize = 1024;

/// The most texts that landmarks are chosen from.
const CANDIDATES: usize = 4096;

/// What of a text's squared length, 1, must lie outside the span of the landmarks for it to become one.
const NEW: f64 = 1e-6;

/// Words and n-grams of texts, fitted to a training split. Saved are the landmarks' hashes, not their texts.
#[derive(Debug, Clone)]
pub struct NGrams {
    landmarks: Vec<Vec<u32>>,
    /// The landmarks that hold an n-gram.
    postings: HashMap<u32, Vec<u32>>,
    /// The rows of the lower-triangular factor of the landmarks' similarities.
    factor: Vec<Vec<f64>>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    landmarks: Vec<Vec<u32>>,
}

impl NGrams {
    /// Chooses landmarks among `texts`: those that differ most from the ones chosen before them.
    pub fn fit(texts: &[&str]) -> Self {
        let mut sets: Vec<Vec<u32>> = texts.iter().map(|text| grams(text)).filter(|set| !set.is_empty()).collect();
        sets.sort_unstable();
        sets.dedup();
        let step = sets.len().div_ceil(CANDIDATES).max(1);
        let sets: Vec<Vec<u32>> = sets.into_iter().step_by(step).collect();
        let postings = postings(&sets);
        let mut rows: Vec<Vec<f64>> = vec![Vec::with_capacity(LANDMARKS); sets.len()];
        let mut rest = vec![1f64; sets.len()];
        let mut chosen = Vec::new();
        while chosen.len() < LANDMARKS {
            let next = (0..sets.len()).max_by(|a, b| rest[*a].total_cmp(&rest[*b]).then(b.cmp(a)));
            let Some(pivot) = next.filter(|&i| rest[i] > NEW) else { break };
            let like = similarities(&sets, &postings, &sets[pivot]);
            let (row, root) = (rows[pivot].clone(), rest[pivot].sqrt());
            rows.par_iter_mut().zip(&mut rest).zip(like).for_each(|((own, rest), like)| {
                let entry = (like - dot(own, &row)) / root;
                own.push(entry);
                *rest -= entry * entry;
            });
            rest[pivot] = 0.0;
            chosen.push(pivot);
        }
        Self::of(chosen.into_iter().map(|i| sets[i].clone()).collect())
    }

    /// The features that these landmarks make.
    fn of(landmarks: Vec<Vec<u32>>) -> Self {
        let postings = postings(&landmarks);
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(landmarks.len());
        for (i, landmark) in landmarks.iter().enumerate() {
            let like = similarities(&landmarks[..=i], &postings, landmark);
            let mut row = solve(&factor, &like[..i]);
            let rest = 1.0 - dot(&row, &row);
            row.push(rest.max(NEW * 1e-3).sqrt());
            factor.push(row);
        }
        Self { landmarks, postings, factor }
    }

    /// What [`from_json`](Self::from_json) reads.
    ///
    /// # Errors
    /// None that a list of numbers could give.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&Saved { landmarks: self.landmarks.clone() })
            .map_err(|error| Error::invalid("n-grams", error.to_string()))
    }

    /// The features that were fitted when `json` was written.
    ///
    /// # Errors
    /// Text that is no list of landmarks.
    pub fn from_json(json: &str) -> Result<Self> {
        let saved: Saved =
            serde_json::from_str(json).map_err(|error| Error::invalid("the n-grams of a model", error.to_string()))?;
        if saved.landmarks.len() > LANDMARKS || saved.landmarks.iter().any(|set| !set.is_sorted_by(|a, b| a < b)) {
            return Err(Error::invalid("the n-grams of a model", "expected ascending lists of hashes"));
        }
        Ok(Self::of(saved.landmarks))
    }
}

impl Featurizer for NGrams {
    /// One where no training text had a word, so that there is something to learn on.
    fn dim(&self) -> usize {
        self.landmarks.len().max(1)
    }

    fn key(&self) -> String {
        format!("ngrams:4:{}", self.dim())
    }

    fn features(&self, source: &Source, id: &str, view: &View) -> Result<Vec<f32>> {
        Ok(self.describe(&crate::reader::words(source, id, view, None)?))
    }
}

impl NGrams {
    /// The features of a text.
    pub fn describe(&self, text: &str) -> Vec<f32> {
        let like = similarities(&self.landmarks, &self.postings, &grams(text));
        let mut features: Vec<f32> = solve(&self.factor, &like).into_iter().map(|x| (LENGTH * x) as f32).collect();
        features.resize(self.dim(), 0.0);
        features
    }
}

/// Hashes of a text's words and n-grams, ascending, each once. The last bit is set for words.
fn grams(text: &str) -> Vec<u32> {
    let text = text.to_lowercase();
    let mut found = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        found.push(hash(0, word.chars()) | 1);
        let bounded: Vec<char> = std::iter::once('<').chain(word.chars()).chain(['>']).collect();
        for n in 3..=5 {
            found.extend(bounded.windows(n).map(|gram| hash(n as u64, gram.iter().copied()) & !1));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// FNV-1a over the characters, then the finaliser of SplitMix64 so that every bit depends on every character.
fn hash(kind: u64, chars: impl Iterator<Item = char>) -> u32 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut h = (0xcbf2_9ce4_8422_2325 ^ kind).wrapping_mul(PRIME);
    for c in chars {
        h = (h ^ u64::from(c)).wrapping_mul(PRIME);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (h ^ (h >> 31)) as u32
}

fn weight(gram: u32) -> f64 {
    if gram & 1 == 1 { WORD * WORD } else { 1.0 }
}

fn postings(sets: &[Vec<u32>]) -> HashMap<u32, Vec<u32>> {
    let mut postings: HashMap<u32, Vec<u32>> = HashMap::new();
    for (i, set) in (0..).zip(sets) {
        set.iter().for_each(|gram| postings.entry(*gram).or_default().push(i));
    }
    postings
}

/// The cosine of `set` with each of `sets`; postings of further sets are passed over.
fn similarities(sets: &[Vec<u32>], postings: &HashMap<u32, Vec<u32>>, set: &[u32]) -> Vec<f64> {
    let size = |set: &[u32]| set.iter().map(|gram| weight(*gram)).sum::<f64>();
    let mut shared = vec![0.0; sets.len()];
    for gram in set {
        for &i in postings.get(gram).into_iter().flatten().take_while(|i| (**i as usize) < sets.len()) {
            shared[i as usize] += weight(*gram);
        }
    }
    let own = size(set);
    let cosine =
        |(shared, other): (f64, &Vec<u32>)| if shared > 0.0 { shared / (own * size(other)).sqrt() } else { 0.0 };
    shared.into_iter().zip(sets).map(cosine).collect()
}

/// `z` with `factor · z = b`, by forward substitution.
fn solve(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut z: Vec<f64> = Vec::with_capacity(b.len() + 1);
    for (row, b) in factor.iter().zip(b) {
        let known = dot(&row[..z.len()], &z);
        z.push((b - known) / row[z.len()]);
    }
    z
}

/// Eight partial sums, so that it vectorises; their order is fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXTS: [&str; 5] = ["man rowing boat", "woman rowing boat", "red apple", "green apple", "Red apple!"];

    fn inner(n: &NGrams, a: &str, b: &str) -> f32 {
        n.describe(a).iter().zip(n.describe(b)).map(|(x, y)| x * y).sum()
    }

    /// The cosine by definition, times the squared length.
    fn exact(a: &str, b: &str) -> f64 {
        let (a, b) = (grams(a), grams(b));
        let size = |s: &[u32]| s.iter().map(|g| weight(*g)).sum::<f64>();
        let shared: Vec<u32> = a.iter().copied().filter(|g| b.contains(g)).collect();
        25.0 * size(&shared) / (size(&a) * size(&b)).sqrt()
    }

    #[test]
    fn inner_products_of_training_texts_are_exact() {
        let n = NGrams::fit(&TEXTS);
        // "Red apple!" is "red apple".
        assert_eq!(n.dim(), 4);
        for a in TEXTS {
            for b in TEXTS {
                assert!((f64::from(inner(&n, a, b)) - exact(a, b)).abs() < 1e-4, "{a}, {b}");
            }
        }
        // Another text's part in the span keeps its inner products with training texts.
        assert!(
            (f64::from(inner(&n, "rowing a red boat", TEXTS[0])) - exact("rowing a red boat", TEXTS[0])).abs() < 1e-4
        );
    }

    #[test]
    fn strange_and_empty_texts_are_the_origin() {
        let n = NGrams::fit(&TEXTS);
        for text in ["", "  ", "…!", "xyz"] {
            assert!(n.describe(text).iter().all(|x| *x == 0.0), "{text}");
        }
        assert_eq!(NGrams::fit(&["", "…"]).describe("apple"), [0.0]);
    }

    #[test]
    fn saved_features_are_the_same_to_the_bit() {
        let texts: Vec<String> = (0..60).map(|i| format!("text {} of {}", i * 7919 % 97, i % 5)).collect();
        let fitted = NGrams::fit(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let json = fitted.to_json().unwrap();
        assert!(!json.contains("text"));
        let read = NGrams::from_json(&json).unwrap();
        assert_eq!(fitted.describe("text 5 of 97"), read.describe("text 5 of 97"));
        assert!(NGrams::from_json("[1]").is_err() && NGrams::from_json(r#"{"landmarks":[[3,2]]}"#).is_err());
    }

    #[test]
    fn related_words_are_near_and_boundaries_count() {
        let n = NGrams::fit(&["rowing", "rower", "castle", "cat", "concatenate"]);
        assert!(inner(&n, "rowing", "rower") > inner(&n, "rowing", "castle") + 1.0);
        assert!(inner(&n, "cat", "cat") > inner(&n, "cat", "concatenate") + 5.0);
    }

    #[test]
    fn hashes_are_pinned() {
        // Saved models rely on them: change the version in `key` with them.
        assert_eq!(grams("cat"), PINNED);
    }
    const PINNED: [u32; 7] =
        [838_259_819, 1_492_738_274, 1_796_774_752, 2_121_083_786, 2_145_786_748, 2_281_031_026, 3_078_608_056];
}
