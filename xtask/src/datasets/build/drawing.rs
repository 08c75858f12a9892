//! SVG to small PNG, always the same bytes, within limits.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use resvg::tiny_skia::{Color, NonZeroRect, Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

/// Width and height of a drawing, in pixels.
pub(super) const SIDE: u32 = 64;
/// White around a drawing that is cut to what it shows, in pixels.
const MARGIN: f32 = 2.0;
/// Width and height at which what a page shows is found.
const SKETCH: u32 = 256;
/// A larger file is not drawn.
const MOST_BYTES: usize = 2 << 20;
/// A pattern's tile, which the renderer holds in memory, is at most this many pages wide and high.
const MOST_PAGES: f32 = 16.0;
/// A drawing that takes longer is given up. The slowest takes a few seconds; nothing comes near.
const LONGEST: Duration = Duration::from_secs(60);
/// Drawings nest deeper than a thread's usual stack.
const STACK: usize = 64 << 20;

/// What a page shows, cut out, centred on white: [`SIDE`] × [`SIDE`] pixels of red, green and blue.
///
/// Text and embedded photographs are not drawn, for they would depend on the machine's fonts and on decoders; nor is
/// any other file read.
pub(super) fn on_white(svg: &[u8]) -> Result<Vec<u8>> {
    ensure!(svg.len() <= MOST_BYTES, "larger than {MOST_BYTES} bytes");
    let (sender, receiver) = mpsc::channel();
    let svg = svg.to_vec();
    // A thread, so that a renderer that panics or never ends costs one drawing, not the build.
    thread::Builder::new().stack_size(STACK).spawn(move || sender.send(cut_out(&svg)))?;
    match receiver.recv_timeout(LONGEST) {
        Ok(drawn) => drawn,
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("takes longer than {} s", LONGEST.as_secs()),
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the renderer panics"),
    }
}

fn cut_out(svg: &[u8]) -> Result<Vec<u8>> {
    let nothing = ImageHrefResolver { resolve_data: Box::new(|_, _, _| None), resolve_string: Box::new(|_, _| None) };
    let options = Options { image_href_resolver: nothing, ..Options::default() };
    let tree = Tree::from_data(svg, &options)?;
    let size = tree.size();
    let longest = MOST_PAGES * size.width().max(size.height());
    let is_large = |tile: NonZeroRect| tile.width().max(tile.height()) > longest;
    ensure!(
        !tree.patterns().iter().any(|pattern| is_large(pattern.rect())),
        "a pattern is larger than {MOST_PAGES} pages"
    );
    let scale = SKETCH as f32 / size.width().max(size.height());
    let sketch = render(&tree, SKETCH, Transform::from_scale(scale, scale))?;
    let [left, top, right, bottom] = inked(&sketch, SKETCH as usize).context("nothing is drawn")?;

    // Back to the page's units, then to the final pixels.
    let [x, y, width, height] = [left, top, right - left, bottom - top].map(|edge| edge as f32 / scale);
    let inside = SIDE as f32 - 2.0 * MARGIN;
    let scale = inside / width.max(height);
    let place = |start: f32, length: f32| (SIDE as f32 - length * scale) / 2.0 - start * scale;
    let pixels = render(&tree, SIDE, Transform::from_row(scale, 0.0, 0.0, scale, place(x, width), place(y, height)))?;
    ensure!(inked(&pixels, SIDE as usize).is_some(), "nothing is drawn");
    Ok(pixels.concat())
}

fn render(tree: &Tree, side: u32, transform: Transform) -> Result<Vec<[u8; 3]>> {
    let mut pixels = Pixmap::new(side, side).context("no memory for a drawing")?;
    pixels.fill(Color::WHITE);
    resvg::render(tree, transform, &mut pixels.as_mut());
    // On white everything is opaque.
    Ok(pixels.pixels().iter().map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect())
}

/// The box around everything that is not white: left, top, and one past right and bottom.
fn inked(pixels: &[[u8; 3]], side: usize) -> Option<[usize; 4]> {
    let ink = || pixels.iter().enumerate().filter(|(_, pixel)| pixel.iter().any(|c| *c < 250)).map(|(at, _)| at);
    let (columns, rows) = (|| ink().map(|at| at % side), || ink().map(|at| at / side));
    Some([columns().min()?, rows().min()?, columns().max()? + 1, rows().max()? + 1])
}

/// Grey pixels as a PNG.
pub(super) fn grey_png(grey: &[u8]) -> Result<Vec<u8>> {
    encoded(png::ColorType::Grayscale, None, grey)
}

/// Pixels of red, green and blue as the smallest PNG of those that hold them without loss.
pub(super) fn colour_png(pixels: &[u8]) -> Result<Vec<u8>> {
    let (colours, _) = pixels.as_chunks::<3>();
    if colours.iter().all(|[red, green, blue]| red == green && green == blue) {
        return grey_png(&colours.iter().map(|colour| colour[0]).collect::<Vec<_>>());
    }
    let mut smallest = encoded(png::ColorType::Rgb, None, pixels)?;
    let mut palette = colours.to_vec();
    palette.sort_unstable();
    palette.dedup();
    if palette.len() <= 256 {
        let indices = colours.iter().map(|colour| palette.partition_point(|known| known < colour) as u8);
        let indexed = encoded(png::ColorType::Indexed, Some(palette.concat()), &indices.collect::<Vec<_>>())?;
        if indexed.len() < smallest.len() {
            smallest = indexed;
        }
    }
    Ok(smallest)
}

fn encoded(colour: png::ColorType, palette: Option<Vec<u8>>, data: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(data)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn svg(size: &str, inside: &str) -> Vec<u8> {
        let namespaces = r#"xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink""#;
        format!("<svg {namespaces} {size}>{inside}</svg>").into_bytes()
    }

    #[test]
    fn a_drawing_is_cut_out_of_its_page_and_centred_on_white() {
        let page = r#"width="512" height="256""#;
        let drawn = on_white(&svg(page, r##"<rect x="400" y="200" width="60" height="30" fill="#f00"/>"##)).unwrap();
        let (pixels, _) = drawn.as_chunks::<3>();
        let at = |x: usize, y: usize| pixels[y * SIDE as usize + x];
        assert_eq!((at(32, 32), at(4, 32), at(59, 32)), ([255, 0, 0], [255, 0, 0], [255, 0, 0]));
        assert_eq!((at(32, 10), at(32, 53), at(0, 32)), ([255; 3], [255; 3], [255; 3]));
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error_and_ends() {
        let page = r#"width="9" height="9""#;
        let mut bomb = r#"<defs><path id="u0" d="M0 0h9v9z"/>"#.to_owned();
        for level in 1..12 {
            let uses = format!(r##"<use xlink:href="#u{}"/>"##, level - 1).repeat(10);
            bomb += &format!(r#"<g id="u{level}">{uses}</g>"#);
        }
        bomb += r##"</defs><use xlink:href="#u11"/>"##;
        let deep = "<g>".repeat(5000) + &"</g>".repeat(5000);
        let long = " ".repeat(MOST_BYTES);
        let file = r#"<image xlink:href="/etc/passwd" width="9" height="9"/>"#;
        let tile = r##"<defs><pattern id="p" patternUnits="userSpaceOnUse" width="4e4" height="4e4"><path d="M0 0h0v0z"/>
            </pattern></defs><path fill="url(#p)" d="M0 0h9v9z"/>"##;
        for inside in ["", tile, &bomb, &deep, &long, file] {
            assert!(on_white(&svg(page, inside)).is_err(), "{:.60}", inside);
        }
        for size in [r#"width="0" height="0""#, r#"width="1e30" height="1e-30""#] {
            assert!(on_white(&svg(size, r#"<path d="M0 0h9v9z"/>"#)).is_err(), "{size}");
        }
        assert!(on_white(b"<svg").is_err());
    }

    #[test]
    fn the_smallest_png_is_lossless() {
        for colours in [2_usize, 200, 4096] {
            let pixels: Vec<u8> =
                (0..4096).flat_map(|at| [at % colours, at % colours / 16, 7].map(|c| c as u8)).collect();
            let bytes = colour_png(&pixels).unwrap();
            let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
            decoder.set_transformations(png::Transformations::EXPAND);
            let mut read = vec![0; pixels.len()];
            decoder.read_info().unwrap().next_frame(&mut read).unwrap();
            assert!(read == pixels, "{colours} colours");
        }
    }
}
