//! `preprocessor_config.json`: how a checkpoint wants its images, as Hugging Face's image processors write it.

use serde::Deserialize;

use balgrad_data::{Filter, Framing};

use crate::{Pixels, Result};

/// The fields that matter here, in all the forms that they have had.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Preprocessor {
    size: Option<Size>,
    crop_size: Option<Size>,
    do_center_crop: Option<bool>,
    /// ConvNext's and ResNet's: the part of the resized image that stays.
    crop_pct: Option<f64>,
    /// PIL's number of the filter.
    resample: Option<u8>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Square { height: usize, width: usize },
    Edge { shortest_edge: usize },
    Plain(usize),
}

impl Size {
    fn side(self) -> usize {
        match self {
            Self::Square { height, width } => height.min(width),
            Self::Edge { shortest_edge: side } | Self::Plain(side) => side,
        }
    }
}

/// Which sizes of images an encoder takes, in pixels a side.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// That of its position embeddings.
    Only(usize),
    /// Any; this one where neither user nor checkpoint says more.
    Any(usize),
}

/// The longest side of what an encoder reads, in pixels; before the centre is cut out, twice that.
const LARGEST: usize = 4096;

/// From this edge on, ConvNext's processor stretches the whole image.
const CONVNEXT_WHOLE: usize = 384;

impl Preprocessor {
    /// The size of what comes out, and the length of the shorter side before the centre is cut out, if it is.
    fn sizes(&self) -> Option<(usize, Option<usize>)> {
        let size = self.size?;
        let crops = self.do_center_crop.unwrap_or(self.crop_size.is_some() && !matches!(size, Size::Square { .. }));
        if let Some(part) = self.crop_pct.filter(|part| *part > 0.0) {
            let cut = size.side() < CONVNEXT_WHOLE;
            return Some((size.side(), cut.then(|| (size.side() as f64 / part) as usize)));
        }
        match (size, self.crop_size) {
            (Size::Square { .. }, None) | (Size::Plain(_), _) if !crops => Some((size.side(), None)),
            (_, crop) if crops => Some((crop.unwrap_or(size).side(), Some(size.side()))),
            (Size::Edge { shortest_edge }, _) => Some((shortest_edge, Some(shortest_edge))),
            _ => Some((size.side(), None)),
        }
    }

    /// What an encoder reads: images of the size that the user `asked` for, where it takes any; normalised by `mean`
    /// and `std` where the file says nothing. `place` is what errors call the file.
    pub(crate) fn pixels(
        &self,
        asked: Option<usize>,
        takes: Takes,
        (mean, std): ([f32; 3], [f32; 3]),
        place: &str,
    ) -> Result<Pixels> {
        let own = self.sizes();
        let size = match (takes, asked) {
            (Takes::Only(size), Some(asked)) if asked != size => {
                let problem = format!("this encoder takes images of {size} pixels a side only, not of {asked}");
                return Err(crate::Error::invalid(place, problem));
            }
            (Takes::Only(size), _) => size,
            (Takes::Any(usual), asked) => asked.or(own.map(|(size, _)| size)).unwrap_or(usual),
        };
        if !(1..=LARGEST).contains(&size) {
            let problem = format!("images of {size} pixels a side; from 1 to {LARGEST} are possible");
            return Err(crate::Error::invalid(place, problem));
        }
        let edge = own.and_then(|(own, edge)| Some(edge?.saturating_mul(size).div_ceil(own.max(1))));
        if let Some(edge) = edge.filter(|edge| !(1..=2 * LARGEST).contains(edge)) {
            let problem = format!("images resized to {edge} pixels; from 1 to {} are possible", 2 * LARGEST);
            return Err(crate::Error::invalid(place, problem));
        }
        let filter = match self.resample {
            None | Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(1) => Filter::Lanczos,
            Some(other) => {
                let problem = format!("resample {other}; known: 1 (Lanczos), 2 (bilinear), 3 (bicubic)");
                return Err(crate::Error::invalid(place, problem));
            }
        };
        let (mean, std) = (self.image_mean.unwrap_or(mean), self.image_std.unwrap_or(std));
        if mean.iter().any(|v| !v.is_finite()) || std.iter().any(|v| !v.is_normal() || *v < 0.0) {
            return Err(crate::Error::invalid(place, "image_mean or image_std is no usable number"));
        }
        Ok(Pixels { framing: Framing { size: size as u32, edge: edge.map(|edge| edge as u32), filter }, mean, std })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As the hub's checkpoints have them.
    const FILES: &[(&str, &str, u32, Option<u32>, Filter)] = &[
        (
            "google/vit-base-patch16-224",
            r#"{"do_resize": true, "size": {"height": 224, "width": 224}, "resample": 2}"#,
            224,
            None,
            Filter::Bilinear,
        ),
        (
            "google/vit-base-patch16-224-in21k",
            r#"{"do_resize": true, "size": 224, "image_mean": [0.5, 0.5, 0.5]}"#,
            224,
            None,
            Filter::Bilinear,
        ),
        (
            "openai/clip-vit-base-patch32",
            r#"{"crop_size": 224, "do_center_crop": true, "do_resize": true, "resample": 3, "size": 224}"#,
            224,
            Some(224),
            Filter::Bicubic,
        ),
        (
            "openai/clip-vit-large-patch14",
            r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "resample": 3, "size": {"shortest_edge": 224}}"#,
            224,
            Some(224),
            Filter::Bicubic,
        ),
        (
            "facebook/deit",
            r#"{"crop_size": 224, "do_center_crop": true, "resample": 3, "size": 256}"#,
            224,
            Some(256),
            Filter::Bicubic,
        ),
        (
            "microsoft/resnet-50",
            r#"{"crop_pct": 0.875, "do_resize": true, "resample": 3, "size": 224}"#,
            224,
            Some(256),
            Filter::Bicubic,
        ),
        (
            "facebook/convnext-384",
            r#"{"crop_pct": 0.95, "resample": 3, "size": {"shortest_edge": 384}}"#,
            384,
            None,
            Filter::Bicubic,
        ),
        (
            "Salesforce/blip-itm-base-coco",
            r#"{"do_resize": true, "resample": 3, "size": {"height": 384, "width": 384}}"#,
            384,
            None,
            Filter::Bicubic,
        ),
        ("nothing", "{}", 224, None, Filter::Bilinear),
    ];

    #[test]
    fn sizes_are_those_of_the_processors() {
        for (name, file, size, edge, filter) in FILES {
            let own: Preprocessor = serde_json::from_str(file).unwrap();
            let found = own.pixels(None, Takes::Any(224), ([0.1; 3], [0.2; 3]), name).unwrap();
            assert_eq!(found.framing, Framing { size: *size, edge: *edge, filter: *filter }, "{name}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for file in [
            r#"{"size": 0}"#,
            r#"{"size": 20000}"#,
            r#"{"size": 1000000000}"#,
            r#"{"size": 4294967360}"#,
            r#"{"size": {"height": 224, "width": 0}}"#,
            r#"{"size": 18446744073709551615, "crop_size": 224, "do_center_crop": true}"#,
            r#"{"size": 224, "crop_pct": 1e-9}"#,
            r#"{"size": 224, "image_std": [0.5, 0, 0.5]}"#,
            r#"{"size": 224, "image_mean": [1e39, 0, 0.5]}"#,
        ] {
            let read: Result<Preprocessor, _> = serde_json::from_str(file);
            let found = read.map(|own| own.pixels(None, Takes::Any(224), ([0.1; 3], [0.2; 3]), "x"));
            assert!(!matches!(found, Ok(Ok(_))), "{file}");
        }
    }

    #[test]
    fn a_size_that_was_asked_for_keeps_the_proportion_of_the_crop() {
        let own: Preprocessor = serde_json::from_str(FILES[5].1).unwrap();
        let found = own.pixels(Some(112), Takes::Any(224), ([0.1; 3], [0.2; 3]), "x").unwrap();
        let framing = Framing { size: 112, edge: Some(128), filter: Filter::Bicubic };
        assert_eq!(found, Pixels { framing, mean: [0.1; 3], std: [0.2; 3] });
        let error = own.pixels(Some(112), Takes::Only(224), ([0.1; 3], [0.2; 3]), "x").unwrap_err();
        assert!(error.to_string().contains("224 pixels a side only"), "{error}");
        let odd: Preprocessor = serde_json::from_str(r#"{"resample": 4}"#).unwrap();
        let error =
            odd.pixels(None, Takes::Any(8), ([0.1; 3], [0.2; 3]), "model/preprocessor_config.json").unwrap_err();
        assert!(error.to_string().contains("resample 4"), "{error}");
    }
}
