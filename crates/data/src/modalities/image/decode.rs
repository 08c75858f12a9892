//! From bytes to pixels: whatever the file is called, and never a panic.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageReader, Limits, Rgb, RgbImage};

use crate::{DataError, Source};

/// The longest side that is decoded, in pixels: more is taken for a decompression bomb.
const MAX_SIDE: u32 = 20_000;

/// The most memory that decoding one image may take, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Decodes an image: the format is told from its content, transparency is laid on white, depth cut to 8 bits, and an
/// animation shows its first frame.
///
/// # Errors
/// A file that cannot be read, is cut short, or is no image.
pub fn decode(source: &Source) -> Result<RgbImage, DataError> {
    let (bytes, place) = source.bytes()?;
    decode_bytes(&bytes, &place)
}

/// [`decode`] and [`resize`] to `size × size` in one. A large JPEG is decoded at a quarter or an eighth of its own size, where
/// that leaves twice `size` on the shorter side (the margin that Pillow's thumbnails keep): nearly the same pixels, within 2
/// of 255 on average, in a third of the time and a sixteenth of the memory.
///
/// Not for an image that is to be corrupted first: noise on fewer pixels is more noise.
///
/// # Errors
/// As for [`decode`].
pub fn decode_for(source: &Source, size: u32) -> Result<RgbImage, DataError> {
    let (bytes, place) = source.bytes()?;
    match scaled_jpeg(&bytes, size) {
        Some(image) => Ok(image),
        None => Ok(resize(&decode_bytes(&bytes, &place)?, size)),
    }
}

/// A JPEG decoded at a quarter or an eighth of its size and resized from there; `None` for whatever is too small for that,
/// not plain, or not whole: the full decoder deals with it, or says what is wrong.
fn scaled_jpeg(bytes: &[u8], size: u32) -> Option<RgbImage> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let wanted = u16::try_from(2 * size).ok()?;
    // At half its size the full decoder, which is vectorised, is as fast.
    if info.width.min(info.height) / 4 < wanted || u32::from(info.width.max(info.height)) > MAX_SIDE {
        return None;
    }
    let (width, height) = decoder.scale(wanted, wanted).ok()?;
    let pixels = decoder.decode().ok()?;
    let pixels = match info.pixel_format {
        jpeg_decoder::PixelFormat::RGB24 => pixels,
        jpeg_decoder::PixelFormat::L8 => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        _ => return None,
    };
    let image = RgbImage::from_raw(u32::from(width), u32::from(height), pixels)?;
    // The last pixels of a row and a column may stand for fewer of the image's than the others.
    let scale = if width == info.width.div_ceil(8) { 8.0 } else { 4.0 };
    sized(&image, (f64::from(info.width) / scale, f64::from(info.height) / scale), size)
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
    // Only an image without pixels cannot be resized, and `decode` gives none.
    let whole = (f64::from(image.width()), f64::from(image.height()));
    sized(image, whole, size).unwrap_or_else(|| RgbImage::new(size, size))
}

/// The part of `image` from its corner to `(width, height)`, at `size × size`.
fn sized(image: &RgbImage, (width, height): (f64, f64), size: u32) -> Option<RgbImage> {
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3).ok()?;
    let mut target = Image::new(size, size, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options.crop(0.0, 0.0, width, height)).ok()?;
    RgbImage::from_raw(size, size, target.into_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::codecs::jpeg::JpegEncoder;

    /// Waves of several lengths with a sharp edge across.
    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, y| {
            let wave = |period: f32, phase: f32| ((x as f32 + 0.7 * y as f32) / period + phase).sin() * 40.0;
            let edge = if x * 3 > y * 2 { 60.0 } else { 0.0 };
            Rgb([0.0, 1.0, 2.0].map(|phase| (90.0 + wave(90.0, phase) + wave(11.0, phase) * 0.5 + edge) as u8))
        });
        let mut bytes = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 90)).unwrap();
        bytes
    }

    #[test]
    fn a_large_jpeg_is_decoded_small_and_looks_the_same() {
        for (width, height, scaled) in [(400, 640, true), (900, 805, true), (513, 1900, true), (399, 640, false)] {
            let source = Source::Bytes(jpeg(width, height).into());
            let (bytes, _) = source.bytes().unwrap();
            assert_eq!(scaled_jpeg(&bytes, 50).is_some(), scaled, "{width} x {height}");
            let (a, b) = (decode_for(&source, 50).unwrap(), resize(&decode(&source).unwrap(), 50));
            let difference: u32 = a.iter().zip(b.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            let mean = f64::from(difference) / 7500.0;
            assert!(if scaled { mean <= 2.0 } else { mean == 0.0 }, "{width} x {height}: mean difference {mean}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused_alike() {
        let mut bytes = jpeg(640, 640);
        bytes.truncate(bytes.len() / 2);
        for bytes in [bytes, vec![0xff, 0xd8], b"<html>".to_vec()] {
            let source = Source::Bytes(bytes.into());
            let said = |outcome: Result<RgbImage, DataError>| outcome.err().map(|error| error.to_string());
            assert_eq!(said(decode_for(&source, 50)), said(decode(&source)));
        }
    }
}
