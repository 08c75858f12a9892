//! Impairments: a modality taken away or corrupted, the same way for every method.

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage, imageops};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{DataError, Modality, decode_bytes, seed};

/// The conditions under which every run is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// As it is.
    Full,
    /// The image taken away, the text kept.
    MissingImage,
    /// The text taken away, the image kept.
    MissingText,
    /// The image corrupted.
    NoisyImage,
    /// The text corrupted.
    NoisyText,
}

impl Condition {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Full, Self::MissingImage, Self::MissingText, Self::NoisyImage, Self::NoisyText];

    /// Name in results and on the command line.
    pub fn name(self) -> &'static str {
        ["full", "missing-image", "missing-text", "noisy-image", "noisy-text"][self as usize]
    }
}

/// Ways to corrupt an image; strength by severity 1 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageNoise {
    /// Gaussian noise of σ .1 .175 .25 .4 .6 of the pixel range.
    Gaussian,
    /// Gaussian blur of σ 1, 2, 3, 4.5 and 6 % of the longer side.
    Blur,
    /// A grey square over .1 .2 .3 .5 .7 of the area.
    Occlusion,
    /// JPEG at quality 25, 15, 10, 6, 3.
    Jpeg,
    /// .05 .1 .2 .3 .5 of the pixels black or white.
    SaltPepper,
}

/// Ways to corrupt a text; each word is hit with probability .1 .2 .3 .5 .7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextNoise {
    /// Replaced by the mask or unknown token; dropped where there is none.
    Mask,
    /// Dropped.
    Drop,
    /// Two neighbouring letters swapped, or one replaced.
    Typo,
    /// Moved: the words that are hit trade places.
    Shuffle,
}

const IMAGE_NOISE: &[(&str, ImageNoise)] = &[
    ("gaussian", ImageNoise::Gaussian),
    ("blur", ImageNoise::Blur),
    ("occlusion", ImageNoise::Occlusion),
    ("jpeg", ImageNoise::Jpeg),
    ("salt-pepper", ImageNoise::SaltPepper),
];

const TEXT_NOISE: &[(&str, TextNoise)] =
    &[("mask", TextNoise::Mask), ("drop", TextNoise::Drop), ("typo", TextNoise::Typo), ("shuffle", TextNoise::Shuffle)];

const KNOWN: &str = "full, missing-image, missing-text, noisy-image[:gaussian|blur|occlusion|jpeg|salt-pepper[:1-5]], \
                     noisy-text[:mask|drop|typo|shuffle[:1-5]]";

/// What is done to one modality of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Impairment {
    /// The modality is taken away.
    Missing(Modality),
    /// The image is corrupted.
    NoisyImage {
        /// How.
        kind: ImageNoise,
        /// How much, 1 to 5.
        severity: u8,
    },
    /// The text is corrupted.
    NoisyText {
        /// How.
        kind: TextNoise,
        /// How much, 1 to 5.
        severity: u8,
    },
}

impl Impairment {
    /// Reads `missing-image`, `noisy-text`, `noisy-image:blur:4`, …; kinds default to gaussian and mask, severity to 3.
    ///
    /// # Errors
    /// A name that is no impairment.
    pub fn parse(name: &str) -> Result<Self, DataError> {
        let unknown = || DataError::UnknownCondition { name: name.to_owned(), known: KNOWN };
        let mut parts = name.split(':');
        let (head, kind, severity) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let severity = match severity.map(str::parse::<u8>) {
            None => 3,
            Some(Ok(s @ 1..=5)) => s,
            Some(_) => return Err(unknown()),
        };
        let found = match (head, kind) {
            _ if parts.next().is_some() => None,
            ("missing-image", None) => Some(Self::Missing(Modality::Image)),
            ("missing-text", None) => Some(Self::Missing(Modality::Text)),
            ("noisy-image", kind) => {
                let kind = IMAGE_NOISE.iter().find(|(n, _)| *n == kind.unwrap_or("gaussian"));
                kind.map(|(_, kind)| Self::NoisyImage { kind: *kind, severity })
            }
            ("noisy-text", kind) => {
                let kind = TEXT_NOISE.iter().find(|(n, _)| *n == kind.unwrap_or("mask"));
                kind.map(|(_, kind)| Self::NoisyText { kind: *kind, severity })
            }
            _ => None,
        };
        found.ok_or_else(unknown)
    }

    /// The full name, such as `noisy-image:gaussian:3`: what caches and seeds are keyed by.
    pub fn key(&self) -> String {
        match self {
            Self::Missing(m) => format!("missing-{}", m.name()),
            Self::NoisyImage { kind, severity } => {
                let name = IMAGE_NOISE.iter().find(|(_, k)| k == kind).map_or("", |(n, _)| n);
                format!("noisy-image:{name}:{severity}")
            }
            Self::NoisyText { kind, severity } => {
                let name = TEXT_NOISE.iter().find(|(_, k)| k == kind).map_or("", |(n, _)| n);
                format!("noisy-text:{name}:{severity}")
            }
        }
    }

    /// The modality that is touched.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Missing(m) => *m,
            Self::NoisyImage { .. } => Modality::Image,
            Self::NoisyText { .. } => Modality::Text,
        }
    }

    fn rng(&self, seed: u64, id: &str) -> ChaCha8Rng {
        seed::rng(&[&seed.to_le_bytes(), id.as_bytes(), self.key().as_bytes()])
    }

    /// The image as the model will see it; `None` if it is taken away. `seed` and the sample's id decide what chance
    /// decides.
    pub fn image(&self, image: RgbImage, seed: u64, id: &str) -> Option<RgbImage> {
        match self {
            Self::Missing(Modality::Image) => None,
            Self::NoisyImage { kind, severity } => Some(corrupt(image, *kind, *severity, &mut self.rng(seed, id))),
            _ => Some(image),
        }
    }

    /// The text as the model will see it; `None` if it is taken away. `mask_word` is what the encoder has for a masked
    /// or unknown word, if anything.
    pub fn text(&self, text: &str, mask_word: Option<&str>, seed: u64, id: &str) -> Option<String> {
        match self {
            Self::Missing(Modality::Text) => None,
            Self::NoisyText { kind, severity } => {
                Some(garble(text, *kind, *severity, mask_word, &mut self.rng(seed, id)))
            }
            _ => Some(text.to_owned()),
        }
    }
}

fn at<T: Copy>(table: [T; 5], severity: u8) -> T {
    table[usize::from(severity.clamp(1, 5)) - 1]
}

fn corrupt(mut image: RgbImage, kind: ImageNoise, severity: u8, rng: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = image.dimensions();
    match kind {
        ImageNoise::Gaussian => {
            let sigma = 255.0 * at([0.1, 0.175, 0.25, 0.4, 0.6], severity);
            for byte in image.iter_mut() {
                let noise: f32 = StandardNormal.sample(rng);
                *byte = (f32::from(*byte) + sigma * noise).round().clamp(0.0, 255.0) as u8;
            }
            image
        }
        ImageNoise::Blur => {
            let sigma = at([0.01, 0.02, 0.03, 0.045, 0.06], severity) * width.max(height) as f32;
            imageops::blur(&image, sigma.max(0.1))
        }
        ImageNoise::Occlusion => {
            let side =
                |length: u32| (at([0.1f64, 0.2, 0.3, 0.5, 0.7], severity).sqrt() * f64::from(length)).round() as u32;
            let (w, h) = (side(width).min(width), side(height).min(height));
            let (x0, y0) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
            for y in y0..y0 + h {
                (x0..x0 + w).for_each(|x| image.put_pixel(x, y, Rgb([128; 3])));
            }
            image
        }
        ImageNoise::Jpeg => {
            let mut bytes = Vec::new();
            let encoder = JpegEncoder::new_with_quality(&mut bytes, at([25, 15, 10, 6, 3], severity));
            match image.write_with_encoder(encoder) {
                Ok(()) => decode_bytes(&bytes, "JPEG noise").unwrap_or(image),
                Err(_) => image,
            }
        }
        ImageNoise::SaltPepper => {
            let part = at([0.05, 0.1, 0.2, 0.3, 0.5], severity);
            for pixel in image.pixels_mut() {
                if rng.random_bool(part) {
                    *pixel = Rgb([if rng.random_bool(0.5) { 255 } else { 0 }; 3]);
                }
            }
            image
        }
    }
}

fn garble(text: &str, kind: TextNoise, severity: u8, mask: Option<&str>, rng: &mut ChaCha8Rng) -> String {
    let part = at([0.1, 0.2, 0.3, 0.5, 0.7], severity);
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let hit: Vec<bool> = words.iter().map(|_| rng.random_bool(part)).collect();
    match kind {
        TextNoise::Mask | TextNoise::Drop => {
            let mask = mask.filter(|_| kind == TextNoise::Mask);
            let keep = |(word, hit): (String, &bool)| if *hit { mask.map(str::to_owned) } else { Some(word) };
            words = words.into_iter().zip(&hit).filter_map(keep).collect();
        }
        TextNoise::Typo => {
            for (word, _) in words.iter_mut().zip(&hit).filter(|(_, hit)| **hit) {
                *word = misspelt(word, rng);
            }
        }
        TextNoise::Shuffle => {
            let places: Vec<usize> = (0..words.len()).filter(|&i| hit[i]).collect();
            let mut order = places.clone();
            order.shuffle(rng);
            let moved: Vec<String> = order.iter().map(|&i| words[i].clone()).collect();
            places.into_iter().zip(moved).for_each(|(i, word)| words[i] = word);
        }
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
