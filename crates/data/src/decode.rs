//! From bytes to pixels: whatever the file is called, and never a panic.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageReader, Limits, Rgb, RgbImage};

use crate::{DataError, ImageSource};

/// The longest side that is decoded, in pixels: more is taken for a decompression bomb.
const MAX_SIDE: u32 = 20_000;

/// The most memory that decoding one image may take, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Decodes an image: the format is told from its content, transparency is laid on white, depth cut to 8 bits, and an
/// animation shows its first frame.
///
/// # Errors
/// A file that cannot be read, is cut short, or is no image.
pub fn decode(source: &ImageSource) -> Result<RgbImage, DataError> {
    match source {
        ImageSource::Bytes(bytes) => decode_bytes(bytes, "image in memory"),
        ImageSource::File(path) => {
            let bytes = std::fs::read(path).map_err(|e| DataError::io(path, e))?;
            decode_bytes(&bytes, &path.display().to_string())
        }
        ImageSource::Packed { file, offset, len } => {
            let bytes = part(file, *offset, *len).map_err(|e| DataError::io(file.as_path(), e))?;
            decode_bytes(&bytes, &format!("{} at byte {offset}", file.display()))
        }
    }
}

fn part(path: &Path, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`decode`] of bytes at hand; `place` names them in errors.
///
/// # Errors
/// Bytes that are cut short or are no image.
pub fn decode_bytes(bytes: &[u8], place: &str) -> Result<RgbImage, DataError> {
    let bad = |what: String| DataError::invalid(place, what);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(format!("cannot be read: {e}")))?;
    if reader.format().is_none() {
        let looks = match bytes {
            [] => "the file is empty",
            [b'<', ..] => "it looks like a web page",
            _ => "its content is of no known format",
        };
        return Err(bad(format!("not an image: {looks}; expected PNG, JPEG, GIF, BMP, WebP or TIFF")));
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) =
        (Some(MAX_SIDE), Some(MAX_SIDE), Some(MAX_BYTES));
    reader.limits(limits);
    let image = reader.decode().map_err(|e| bad(format!("not a whole image: {e}")))?;
    if image.width() == 0 || image.height() == 0 {
        return Err(bad("the image has no pixels".to_owned()));
    }
    Ok(on_white(image))
}

fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let mut out = RgbImage::new(image.width(), image.height());
    for (from, to) in image.pixels().zip(out.pixels_mut()) {
        let [r, g, b, a] = from.0.map(u32::from);
        // 255 where transparent; rounded to nearest.
        *to = Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a) + 127) / 255) as u8));
    }
    out
}

/// Resizes to a square of `size` pixels a side with an antialiased triangle filter, as torchvision and PIL do. The
/// image's aspect is not kept.
pub fn resize(image: &RgbImage, size: u32) -> RgbImage {
    if (image.width(), image.height()) == (size, size) {
        return image.clone();
    }
    let sized = || -> Option<RgbImage> {
        let source = Image::from_vec_u8(image.width(), image.height(), image.as_raw().clone(), PixelType::U8x3).ok()?;
        let mut target = Image::new(size, size, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new().resize(&source, &mut target, &options).ok()?;
        RgbImage::from_raw(size, size, target.into_vec())
    };
    // Only an image without pixels cannot be resized, and `decode` gives none.
    sized().unwrap_or_else(|| RgbImage::new(size, size))
}
