//! The modality `audio`, sounds in WAV files, and an encoder of how loud they are over time.

use balgrad_data::{DataError, Modality, Source};
use balgrad_encoders::{EncoderEntry, EncoderKind, Featurizer, Handcrafted, Result, View};
use rand::Rng;

/// The modality.
pub(crate) static MODALITY: Modality = Modality {
    name: "audio",
    about: "a sound in a WAV file, 16 bits a sample, one channel",
    inline: false,
    noises: &["hiss"],
    check: |source| samples(source).map(drop),
};

/// The encoder.
pub(crate) static LOUDNESS: EncoderEntry = EncoderEntry {
    name: "loudness",
    modality: "audio",
    about: "how loud a sound is, and how often it crosses zero, in each of 16 windows",
    paper: "an example",
    stem: &[],
    kind: EncoderKind::Handcrafted {
        fit: |_, _| Ok(String::new()),
        build: |_| Ok(Box::new(Handcrafted::new(Loudness))),
        standardize: true,
    },
};

const HEADER: usize = 44;
const WINDOWS: usize = 16;

/// The samples of a WAV file, in [−1, 1).
fn samples(source: &Source) -> std::result::Result<Vec<f32>, DataError> {
    let (bytes, place) = source.bytes()?;
    if bytes.len() <= HEADER || !bytes.starts_with(b"RIFF") {
        return Err(DataError::invalid(place, "not a WAV file".to_owned()));
    }
    Ok(bytes[HEADER..].chunks_exact(2).map(|two| f32::from(i16::from_le_bytes([two[0], two[1]])) / 32768.0).collect())
}

struct Loudness;

impl Featurizer for Loudness {
    fn dim(&self) -> usize {
        2 * WINDOWS
    }

    fn key(&self) -> String {
        "loudness:1".to_owned()
    }

    fn features(&self, source: &Source, id: &str, view: &View) -> Result<Vec<f32>> {
        let mut sound = samples(source)?;
        if let Some((_, severity, mut rng)) = view.noise(id) {
            let volume = 0.1 * f32::from(severity);
            sound.iter_mut().for_each(|s| *s += rng.random_range(-volume..volume));
        }
        let window = sound.len().div_ceil(WINDOWS).max(1);
        let mut features = vec![0.0; self.dim()];
        for (part, pair) in sound.chunks(window).zip(features.chunks_exact_mut(2)) {
            let count = part.len() as f32;
            pair[0] = (part.iter().map(|s| s * s).sum::<f32>() / count).sqrt();
            pair[1] = part.windows(2).filter(|two| (two[0] < 0.0) != (two[1] < 0.0)).count() as f32 / count;
        }
        Ok(features)
    }
}
