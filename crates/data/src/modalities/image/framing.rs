//! How an image of any size becomes the square that an encoder sees.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::resize;

/// What pixels are weighed by when an image is resized; all are antialiased, as PIL's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// A triangle.
    #[default]
    Bilinear,
    /// Catmull-Rom's cubic.
    Bicubic,
    /// Lanczos' with three lobes.
    Lanczos,
}

/// The square of an image that an encoder sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framing {
    /// Pixels a side.
    pub size: u32,
    /// The length to which the shorter side is brought before the centre is cut out, at least `size`; `None`: the whole
    /// image is stretched to the square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<u32>,
    /// How pixels are weighed.
    #[serde(default)]
    pub filter: Filter,
}

impl Framing {
    /// The whole image stretched to `size` pixels a side.
    pub fn whole(size: u32) -> Self {
        Self { size, edge: None, filter: Filter::default() }
    }

    /// The square.
    pub fn of(&self, image: &RgbImage) -> RgbImage {
        let filter = match (self.filter, self.edge) {
            (Filter::Bilinear, None) => return resize(image, self.size),
            (Filter::Bilinear, _) => FilterType::Bilinear,
            (Filter::Bicubic, _) => FilterType::CatmullRom,
            (Filter::Lanczos, _) => FilterType::Lanczos3,
        };
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        if let Some(edge) = self.edge {
            // Only the part that stays is resized, however long the image is: per axis where it starts, and its length.
            let edge = u64::from(edge.max(self.size));
            let short = u64::from(image.width().min(image.height()).max(1));
            let part = |length: u32| {
                let resized = edge * u64::from(length) / short;
                let scale = f64::from(length) / resized as f64;
                let size = u64::from(self.size);
                let start = ((resized - size) / 2) as f64 * scale;
                (start, (size as f64 * scale).min(f64::from(length) - start))
            };
            let ((left, width), (top, height)) = (part(image.width()), part(image.height()));
            options = options.crop(left, top, width, height);
        }
        let sized = || -> Option<RgbImage> {
            let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3).ok()?;
            let mut target = Image::new(self.size, self.size, PixelType::U8x3);
            Resizer::new().resize(&source, &mut target, &options).ok()?;
            RgbImage::from_raw(self.size, self.size, target.into_vec())
        };
        // Only an image without pixels cannot be resized, and `decode` gives none.
        sized().unwrap_or_else(|| RgbImage::new(self.size, self.size))
    }
}
