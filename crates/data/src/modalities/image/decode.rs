//! From bytes to pixels: whatever the file is called, and never a panic.

use std::io::Cursor;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};

use crate::caught::caught;
use crate::{DataError, Source};

/// The longest side that is decoded, in pixels: more is taken for a decompression bomb.
const MAX_SIDE: u32 = 20_000;

/// The most pixels, and the most bytes that they take as they are stored.
const MAX_PIXELS: u64 = 100_000_000;
const MAX_BYTES: u64 = 512 << 20;

/// Images above this are decoded one after the other, whatever the threads: their memory does not add up.
const LARGE: u64 = 64 << 20;
static LARGE_TURN: Mutex<()> = Mutex::new(());

/// Decodes an image: the format is told from its content, it is turned as its EXIF says, transparency is laid on white,
/// depth cut to 8 bits, and an animation shows its first frame.
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
    match caught(|| scaled_jpeg(&bytes, size)) {
        Ok(Some(image)) => Ok(image),
        _ => Ok(resize(&decode_bytes(&bytes, &place)?, size)),
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
    let whole = u64::from(info.width) * u64::from(info.height);
    if whole > MAX_PIXELS {
        return None;
    }
    let _turn = turn(3 * whole);
    let turned = decoder.exif_data().and_then(Orientation::from_exif_chunk);
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
    let image = sized(&image, (f64::from(info.width) / scale, f64::from(info.height) / scale), size)?;
    let mut image = DynamicImage::from(image);
    image.apply_orientation(turned.unwrap_or(Orientation::NoTransforms));
    Some(image.into_rgb8())
}

/// Held while a large image is decoded.
fn turn(bytes: u64) -> Option<MutexGuard<'static, ()>> {
    (bytes > LARGE).then(|| LARGE_TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// [`decode`] of bytes at hand; `place` names them in errors.
///
/// # Errors
/// Bytes that are cut short or are no image.
pub fn decode_bytes(bytes: &[u8], place: &str) -> Result<RgbImage, DataError> {
    let decoded = caught(|| whole(bytes)).unwrap_or_else(|panic| Err(format!("not a whole image: {panic}")));
    decoded.map_err(|what| DataError::invalid(place, what))
}

fn whole(bytes: &[u8]) -> Result<RgbImage, String> {
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| format!("cannot be read: {e}"))?;
    if reader.format().is_none() {
        let looks = match bytes {
            [] => "the file is empty",
            [b'<', ..] => "it looks like a web page",
            _ => "its content is of no known format",
        };
        return Err(format!("not an image: {looks}; expected PNG, JPEG, GIF, BMP, WebP or TIFF"));
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) =
        (Some(MAX_SIDE), Some(MAX_SIDE), Some(MAX_BYTES));
    reader.limits(limits);
    let broken = |e: image::ImageError| format!("not a whole image: {e}");
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let ((width, height), size) = (decoder.dimensions(), decoder.total_bytes());
    if u64::from(width) * u64::from(height) > MAX_PIXELS || size > MAX_BYTES {
        let (millions, most) = (MAX_PIXELS / 1_000_000, MAX_BYTES >> 20);
        let takes = format!("the image has {width} × {height} pixels in {} MiB", size >> 20);
        return Err(format!("{takes}; {millions} million in {most} MiB are decoded at most: make it smaller"));
    }
    if size == 0 {
        return Err("the image has no pixels".to_owned());
    }
    let _turn = turn(size);
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(turned);
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

    /// The start of a file that claims more than there is.
    fn huge_png(side: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        let head = [b"IHDR".as_slice(), &side.to_be_bytes(), &side.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
        bytes.extend(&head);
        bytes.extend(crc32fast::hash(&head).to_be_bytes());
        bytes.extend(b"\0\0\0\0IDAT");
        bytes.extend(crc32fast::hash(b"IDAT").to_be_bytes());
        bytes
    }

    #[test]
    fn a_claim_of_too_many_pixels_is_refused_before_they_are_decoded() {
        for (side, words) in [(11_000, "11000 × 11000 pixels in 923 MiB"), (9_000, "100 million in 512 MiB")] {
            let error = decode_bytes(&huge_png(side), "a.png").unwrap_err().to_string();
            assert!(error.starts_with("a.png: ") && error.contains(words), "{error}");
        }
    }

    /// A JPEG that says how it is to be turned.
    fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff =
            [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0], &[0; 4]].concat();
        let length = (2 + 6 + tiff.len()) as u16;
        [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", &tiff, &jpeg[2..]].concat()
    }

    #[test]
    fn a_photo_is_turned_as_it_says_whatever_its_size() {
        for (width, height) in [(60, 40), (640, 480)] {
            let plain = jpeg(width, height);
            for (orientation, turn) in [
                (1, DynamicImage::into_rgb8 as fn(DynamicImage) -> RgbImage),
                (3, |i| i.rotate180().into_rgb8()),
                (6, |i| i.rotate90().into_rgb8()),
                (8, |i| i.rotate270().into_rgb8()),
            ] {
                let turned = Source::Bytes(with_exif(&plain, orientation).into());
                let expected = turn(decode_bytes(&plain, "").unwrap().into());
                assert_eq!(decode(&turned).unwrap(), expected, "{orientation}");
                let (small, expected) = (decode_for(&turned, 50).unwrap(), resize(&expected, 50));
                let off: u32 = small.iter().zip(expected.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
                assert!(f64::from(off) / 7500.0 <= 2.0, "{orientation}: {off}");
            }
        }
    }
}
