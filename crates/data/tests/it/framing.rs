//! Framing against Hugging Face's image processors (`framing/make.py`).

use std::path::Path;

use balgrad_data::{Filter, Framing};
use image::RgbImage;

fn open(name: &str) -> RgbImage {
    image::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/framing").join(name)).unwrap().into_rgb8()
}

#[test]
fn squares_are_those_of_the_processors() {
    let picture = open("picture.png");
    for (name, framing) in [
        ("vit.png", Framing::whole(24)),
        ("blip.png", Framing { size: 24, edge: None, filter: Filter::Bicubic }),
        ("clip.png", Framing { size: 24, edge: Some(24), filter: Filter::Bicubic }),
        ("resnet.png", Framing { size: 28, edge: Some(32), filter: Filter::Bicubic }),
    ] {
        let (found, expected) = (framing.of(&picture), open(name));
        assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
        let differences = || found.iter().zip(expected.iter()).map(|(a, b)| u32::from(a.abs_diff(*b)));
        let mean = f64::from(differences().sum::<u32>()) / found.len() as f64;
        assert!(mean < 2.0, "{name}: {mean}");
        // Filters and crops differ by more than that.
        let stretched = Framing::whole(framing.size).of(&picture);
        let other = stretched.iter().zip(expected.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        assert!(name == "vit.png" || f64::from(other) / found.len() as f64 > 2.0 * mean, "{name}");
    }
}

#[test]
fn a_long_strip_and_a_single_pixel_are_framed() {
    for (width, height) in [(20_000, 1), (1, 20_000), (1, 1), (61, 90), (49, 49), (103, 77)] {
        let picture = RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7]));
        for edge in [None, Some(8), Some(12), Some(13)] {
            let square = Framing { size: 8, edge, filter: Filter::Bicubic }.of(&picture);
            assert!(square.dimensions() == (8, 8) && square.pixels().all(|p| p.0 == [9, 8, 7]), "{width} {edge:?}");
        }
    }
}
