//! From JPEG files to a batch of normalised pixels.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use balgrad_data::modalities::image::decode_for;
use balgrad_data::{Framing, Source};
use balgrad_encoders::{Item, Pixels, Reader};
use candle_core::Device;
use image::RgbImage;
use rayon::prelude::*;

use super::Job;

const SIZE: usize = 224;
const BATCH: usize = 32;

/// `images FOLDER`: every JPEG of a folder, decoded, resized to 224 and normalised, in batches.
pub(crate) fn images(arguments: &[String]) -> Result<Job> {
    let folder = arguments.first().context("images FOLDER")?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    files.sort();
    let difference = difference(&files, &std::fs::read(Path::new(folder).join("reference.rgb"))?)?;
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let reader = Pixels { framing: Framing::whole(SIZE as u32), mean, std };
    let iterate = move || {
        for batch in files.chunks(BATCH) {
            let item = |path: &PathBuf| Ok(Item::Pixels(image(path)?.into_raw().into()));
            let items = batch.par_iter().map(item).collect::<Result<Vec<_>>>()?;
            std::hint::black_box(reader.collate(&items, &Device::Cpu)?);
        }
        Ok(())
    };
    Ok(Job { difference, ..Job::on(0, iterate) })
}

fn image(path: &Path) -> Result<RgbImage> {
    Ok(decode_for(&Source::File(path.to_owned()), SIZE as u32)?)
}

/// Mean absolute difference from the peer's pixels, in parts of their range.
fn difference(files: &[PathBuf], reference: &[u8]) -> Result<f64> {
    let (mut sum, mut count) = (0, 0);
    for (path, reference) in files.iter().zip(reference.chunks_exact(3 * SIZE * SIZE)) {
        sum += image(path)?.iter().zip(reference).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
        count += reference.len();
    }
    Ok(sum as f64 / count as f64 / 255.0)
}
