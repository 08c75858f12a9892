//! Text to token ids: a vocabulary learnt from the training split, or a pretrained model's own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer as Inner, Trainer,
};

use crate::guard::guarded;
use crate::{Error, Result};

/// Who reads tokenizers, in errors.
const LIBRARY: &str = "the tokenizer library";

/// The largest id of a token: memory is set aside for all below it.
const LARGEST_ID: u32 = 1 << 24;

const UNKNOWN: &str = "[UNK]";
const START: &str = "[CLS]";
const END: &str = "[SEP]";
const MASK: &str = "[MASK]";
/// Before a piece that does not begin its word.
const INSIDE: &str = "##";
/// Padding comes first: [`Tokens`](crate::Tokens) pads with 0.
const SPECIAL: [&str; 5] = ["[PAD]", UNKNOWN, START, END, MASK];

/// Splits text into the tokens that a text encoder reads.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    splits: Arc<OnceLock<Splits>>,
}

/// For each token, the ways to write it as two shorter ones of the same WordPiece vocabulary.
#[derive(Debug, Clone, Default)]
pub struct Splits(Vec<Vec<(u32, u32)>>);

impl Splits {
    /// The pairs that spell the token `id`; none for a letter or a special token.
    pub fn of(&self, id: u32) -> &[(u32, u32)] {
        self.0.get(id as usize).map_or(&[], Vec::as_slice)
    }
}

impl From<Inner> for Tokenizer {
    fn from(inner: Inner) -> Self {
        Self { inner, splits: Arc::default() }
    }
}

/// What a `tokenizer_config.json` says of a vocabulary of plain text.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Casing {
    do_lower_case: bool,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: bool,
}

impl Default for Casing {
    fn default() -> Self {
        Self { do_lower_case: true, strip_accents: None, tokenize_chinese_chars: true }
    }
}

impl Tokenizer {
    /// Learns a WordPiece vocabulary of at most `size` from `texts`, lower-cased, pieces seen at least twice. The same
    /// texts give the same vocabulary, in any order.
    ///
    /// # Errors
    /// If training fails.
    pub fn train<'a>(texts: impl IntoIterator<Item = &'a str>, size: usize) -> Result<Self> {
        let texts = texts.into_iter().map(words).collect::<Result<Vec<_>>>()?;
        // The trainer numbers the pieces of one letter as it meets them in a hash map, and breaks ties by number: named
        // beforehand, in order, they make it deterministic.
        let letters: BTreeSet<String> = texts
            .iter()
            .flatten()
            .flat_map(|word| word.chars().skip(1).map(|letter| format!("{INSIDE}{letter}")))
            .collect();
        let reserved = SPECIAL.map(String::from).into_iter().chain(letters);
        let mut trainer = WordPieceTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(reserved.map(|token| AddedToken::from(token, true)).collect())
            .build();
        let joined = texts.iter().map(|words| words.join(" "));
        trainer.feed(joined, |text| Ok(text.split(' ').map(String::from).collect())).map_err(fail)?;
        let mut model = WordPiece::default();
        trainer.train(&mut model).map_err(fail)?;
        finish(shell(model)?)
    }

    /// Reads a `tokenizer.json`, or a BERT `vocab.txt`.
    ///
    /// # Errors
    /// If the file cannot be read or is neither.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == "txt") {
            return Self::from_vocabulary(path, &Casing::default());
        }
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let mut inner = parse(&place, &bytes)?;
        // Batches are padded and cut by the reader, which knows the encoder's limit.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| unreadable(&place, &error))?;
        Ok(inner.into())
    }

    /// Reads a BERT `vocab.txt`.
    pub(crate) fn from_vocabulary(path: &Path, casing: &Casing) -> Result<Self> {
        let place = path.display().to_string();
        guarded(&place, LIBRARY, || {
            let model = WordPiece::from_file(&place).unk_token(UNKNOWN.into()).build();
            let mut inner = shell(model.map_err(|error| unreadable(&place, &error))?)?;
            let Casing { do_lower_case, strip_accents, tokenize_chinese_chars } = *casing;
            let normalizer = BertNormalizer::new(true, tokenize_chinese_chars, strip_accents, do_lower_case);
            inner.with_normalizer(Some(normalizer)).map_err(fail)?;
            finish(inner)
        })
    }

    /// Writes a `tokenizer.json` that [`open`](Self::open) and Hugging Face's libraries read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        balgrad_data::atomic::write_atomic(path, self.to_json()?.as_bytes()).map_err(|source| Error::io(path, source))
    }

    /// A hash of everything that decides how text is split.
    ///
    /// # Errors
    /// If the tokenizer cannot be written as JSON.
    pub fn key(&self) -> Result<String> {
        let digest = Sha256::digest(self.to_json()?);
        Ok(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The ids of `text`, special tokens included.
    ///
    /// # Errors
    /// If the tokenizer's own rules fail on it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let place = || format!("text {:?}", text.chars().take(60).collect::<String>());
        guarded(&place(), LIBRARY, || {
            let encoding = self.inner.encode_fast(text, true);
            let encoding = encoding.map_err(|error| Error::invalid(place(), error.to_string()))?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// How many ids there are.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// How each token can be written as two shorter ones, for [`Augment::tokens`](crate::Augment::tokens).
    pub fn splits(&self) -> &Splits {
        self.splits.get_or_init(|| {
            let vocabulary = self.inner.get_vocab(true);
            let mut splits = vec![Vec::new(); vocabulary.values().max().map_or(0, |&last| last as usize + 1)];
            for (token, &id) in &vocabulary {
                let (start, body) = token.strip_prefix(INSIDE).map_or(("", token.as_str()), |body| (INSIDE, body));
                if SPECIAL.contains(&token.as_str()) {
                    continue;
                }
                for (at, _) in body.char_indices().skip(1) {
                    let (left, right) = (format!("{start}{}", &body[..at]), format!("{INSIDE}{}", &body[at..]));
                    if let (Some(&left), Some(&right)) = (vocabulary.get(&left), vocabulary.get(&right)) {
                        splits[id as usize].push((left, right));
                    }
                }
            }
            Splits(splits)
        })
    }

    /// The token `id` as the vocabulary spells it.
    #[cfg(test)]
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that stands for a hidden word, if there is one: what an impairment may put in a word's place.
    pub fn mask_word(&self) -> Option<&str> {
        [MASK, "<mask>"].into_iter().find(|token| self.inner.token_to_id(token).is_some())
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// If the text is no tokenizer.
    pub fn from_json(json: &str) -> Result<Self> {
        Ok(parse("the tokenizer of a model", json.as_bytes())?.into())
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// If a rule of it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|error| Error::invalid("tokenizer", error.to_string()))
    }
}

/// A `tokenizer.json`; its errors are those of the file `place`.
fn parse(place: &str, bytes: &[u8]) -> Result<Inner> {
    let inner = guarded(place, LIBRARY, || Inner::from_bytes(bytes).map_err(|error| unreadable(place, &error)))?;
    match inner.get_vocab(true).into_iter().find(|(_, id)| *id > LARGEST_ID) {
        Some((token, id)) => {
            Err(Error::invalid(place, format!("token `{token}` has the id {id}; at most {LARGEST_ID}")))
        }
        None => Ok(inner),
    }
}

fn unreadable(place: &str, error: &tokenizers::Error) -> Error {
    Error::invalid(place, format!("not readable as a tokenizer: {error}"))
}

/// The words of a text, as [`shell`] splits it.
fn words(text: &str) -> Result<Vec<String>> {
    let mut text = NormalizedString::from(text);
    BertNormalizer::default().normalize(&mut text).map_err(fail)?;
    let mut text = PreTokenizedString::from(text);
    BertPreTokenizer.pre_tokenize(&mut text).map_err(fail)?;
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::None);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
}

/// A tokenizer that lower-cases and splits as BERT's does.
fn shell(model: WordPiece) -> Result<Inner> {
    let mut inner = Inner::new(model);
    inner.with_normalizer(Some(BertNormalizer::default())).map_err(fail)?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    Ok(inner)
}

/// Puts `[CLS] … [SEP]` around every text.
fn finish(mut inner: Inner) -> Result<Tokenizer> {
    let id = |token: &str| {
        let missing = || Error::invalid("vocabulary", format!("{token} is missing"));
        inner.token_to_id(token).ok_or_else(missing)
    };
    let template = TemplateProcessing::builder()
        .try_single(format!("{START} $A {END}"))
        .map_err(|error| Error::invalid("vocabulary", error))?
        .special_tokens(vec![(START, id(START)?), (END, id(END)?)])
        .build()
        .map_err(|error| Error::invalid("vocabulary", error.to_string()))?;
    inner.with_post_processor(Some(template));
    inner.add_special_tokens(special()).map_err(fail)?;
    Ok(inner.into())
}

fn special() -> [AddedToken; 5] {
    SPECIAL.map(|token| AddedToken::from(token, true))
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn fail(error: tokenizers::Error) -> Error {
    Error::invalid("vocabulary", error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXTS: [&str; 5] =
        ["man rowing boat", "woman rowing boat", "Man climbing", "woman climbing", "grinning face with smiling eyes"];

    #[test]
    fn the_vocabulary_depends_on_the_texts_alone() {
        let one = Tokenizer::train(TEXTS, 64).unwrap();
        for _ in 0..4 {
            let again = Tokenizer::train(TEXTS.into_iter().rev(), 64).unwrap();
            assert_eq!(one.key().unwrap(), again.key().unwrap());
        }
        assert_ne!(one.key().unwrap(), Tokenizer::train(TEXTS, 40).unwrap().key().unwrap());
        assert!(one.vocabulary() <= 64);
    }

    #[test]
    fn texts_are_enclosed_and_padding_is_zero() {
        let tokenizer = Tokenizer::train(TEXTS, 64).unwrap();
        assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
        let ids = tokenizer.encode("woman rowing").unwrap();
        assert_eq!((ids[0], *ids.last().unwrap()), (2, 3));
        assert_eq!(ids, tokenizer.encode("WOMAN  Rowing").unwrap());
        assert_eq!(tokenizer.encode("Ω").unwrap(), [2, 1, 3]);
        assert_eq!(tokenizer.mask_word(), Some("[MASK]"));
        assert_eq!(tokenizer.encode("[MASK]").unwrap(), [2, 4, 3]);
    }

    #[test]
    fn saved_tokenizers_split_alike() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(TEXTS, 64).unwrap();
        let path = folder.path().join("tokenizer.json");
        tokenizer.save(&path).unwrap();
        let read = Tokenizer::open(&path).unwrap();
        assert_eq!(read.key().unwrap(), tokenizer.key().unwrap());
        assert_eq!(read.encode("man smiling").unwrap(), tokenizer.encode("man smiling").unwrap());
    }

    #[test]
    fn pieces_split_into_pieces_that_spell_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nrow\n##ing\nr\n##ow\n##i\n##ng\n##w\nro\n").unwrap();
        let tokenizer = Tokenizer::open(&path).unwrap();
        let splits = tokenizer.splits();
        assert_eq!(splits.of(5), [(7, 8), (12, 11)]);
        assert_eq!(splits.of(6), [(9, 10)]);
        assert!(splits.of(7).is_empty() && splits.of(0).is_empty() && splits.of(99).is_empty());
    }

    #[test]
    fn a_vocabulary_is_as_cased_as_its_model_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nRed\nred\n").unwrap();
        let ids = |config: &str| {
            let casing: Casing = serde_json::from_str(config).unwrap();
            Tokenizer::from_vocabulary(&path, &casing).unwrap().encode("Red réd").unwrap()
        };
        assert_eq!(ids("{}"), [2, 6, 6, 3]);
        assert_eq!(ids(r#"{"do_lower_case": false, "never_split": null}"#), [2, 5, 1, 3]);
        assert_eq!(ids(r#"{"do_lower_case": false, "strip_accents": true}"#), [2, 5, 6, 3]);
    }

    #[test]
    fn hostile_tokenizers_are_refused() {
        let good = Tokenizer::train(TEXTS, 64).unwrap().to_json().unwrap();
        let spoilt = |spoil: fn(&mut serde_json::Value)| {
            let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
            spoil(&mut json);
            let read = Tokenizer::from_json(&json.to_string()).and_then(|t| t.encode("woman rowing"));
            read.unwrap_err().to_string()
        };
        let far = spoilt(|json| json["model"]["vocab"]["zzz"] = (1u32 << 31).into());
        assert!(far.contains("token `zzz` has the id 2147483648"), "{far}");
        let template = spoilt(|json| json["post_processor"]["special_tokens"] = serde_json::json!({}));
        assert!(template.contains("tokenizer") || template.contains("text"), "{template}");
        let map = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": ""});
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        json["normalizer"] = map;
        assert!(Tokenizer::from_json(&json.to_string()).is_err());
    }

    #[test]
    fn a_plain_vocabulary_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nrow\n##ing\n").unwrap();
        assert_eq!(Tokenizer::open(&path).unwrap().encode("Rowing x").unwrap(), [2, 5, 6, 1, 3]);
        std::fs::write(&path, "a\nb\n").unwrap();
        let error = Tokenizer::open(&path).err().unwrap().to_string();
        assert!(error.contains("[CLS] is missing"), "{error}");
    }
}
