//! Small data that needs nothing to be made: a table, and images as BMP files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// Samples; of ten, six are for training, and two each for validation and test.
const SAMPLES: usize = 40;

const WORDS: [[&str; 3]; 3] = [["red", "sun", "rose"], ["green", "leaf", "frog"], ["blue", "sea", "sky"]];

/// Writes three classes of images and texts.
pub(super) fn data(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("images"))?;
    let mut table = String::from("image,text,label,split\n");
    for i in 0..SAMPLES {
        let (class, split) = (i % 3, ["train", "train", "train", "val", "test"][i / 3 % 5]);
        fs::write(
            folder.join(format!("images/{i}.bmp")),
            bmp(16, |x, y| (x * 7 + y * 11 + i * 13 + class * 60) as u8),
        )?;
        let words = WORDS[class];
        let text = format!("a {} {} number {i}", words[i % 2], words[(i + 1) % 3]);
        writeln!(table, "images/{i}.bmp,{text},class-{class},{split}")?;
    }
    Ok(fs::write(folder.join("samples.csv"), table)?)
}

/// A square image of 24 bits a pixel.
pub(super) fn bmp(size: usize, value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let row = (size * 3).div_ceil(4) * 4;
    let mut bytes = b"BM".to_vec();
    for word in [54 + row * size, 0, 54, 40, size, size] {
        bytes.extend((word as u32).to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..size {
        let pixels = (0..size).flat_map(|x| [value(x, y), value(y, x), value(x, x)]);
        bytes.extend(pixels.chain(std::iter::repeat_n(0, row - size * 3)));
    }
    bytes
}
