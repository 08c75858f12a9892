//! Noise on pictures.

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage, imageops};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::decode_bytes;
use crate::modalities::at;

/// By severity from 1 to 5:
/// * `gaussian`: noise of standard deviation .1 .175 .25 .4 .6 of the pixel range
/// * `blur`: a Gaussian blur of 1, 2, 3, 4.5 and 6 % of the longer side
/// * `occlusion`: a grey rectangle over .1 .2 .3 .5 .7 of the area
/// * `jpeg`: compression at quality 25, 15, 10, 6, 3
/// * `salt-pepper`: .05 .1 .2 .3 .5 of the pixels black or white
pub(super) const KINDS: &[&str] = &["gaussian", "blur", "occlusion", "jpeg", "salt-pepper"];

/// The image under a kind of noise, severity 1 to 5. An unknown kind leaves it as it is.
pub fn corrupt(mut image: RgbImage, kind: &str, severity: u8, rng: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = image.dimensions();
    match kind {
        "gaussian" => {
            let sigma = 255.0 * at([0.1, 0.175, 0.25, 0.4, 0.6], severity);
            for byte in image.iter_mut() {
                let noise: f32 = StandardNormal.sample(rng);
                *byte = (f32::from(*byte) + sigma * noise).round().clamp(0.0, 255.0) as u8;
            }
            image
        }
        "blur" => {
            let sigma = at([0.01, 0.02, 0.03, 0.045, 0.06], severity) * width.max(height) as f32;
            imageops::blur(&image, sigma.max(0.1))
        }
        "occlusion" => {
            let side =
                |length: u32| (at([0.1f64, 0.2, 0.3, 0.5, 0.7], severity).sqrt() * f64::from(length)).round() as u32;
            let (w, h) = (side(width).min(width), side(height).min(height));
            let (x0, y0) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
            for y in y0..y0 + h {
                (x0..x0 + w).for_each(|x| image.put_pixel(x, y, Rgb([128; 3])));
            }
            image
        }
        "jpeg" => {
            let mut bytes = Vec::new();
            let encoder = JpegEncoder::new_with_quality(&mut bytes, at([25, 15, 10, 6, 3], severity));
            match image.write_with_encoder(encoder) {
                Ok(()) => decode_bytes(&bytes, "JPEG noise").unwrap_or(image),
                Err(_) => image,
            }
        }
        "salt-pepper" => {
            let fraction = at([0.05, 0.1, 0.2, 0.3, 0.5], severity);
            for pixel in image.pixels_mut() {
                if rng.random_bool(fraction) {
                    *pixel = Rgb([if rng.random_bool(0.5) { 255 } else { 0 }; 3]);
                }
            }
            image
        }
        _ => image,
    }
}
