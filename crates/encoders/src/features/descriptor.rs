//! Image features: histograms of oriented gradients, colour moments, colours and local patterns, none of which can tell an
//! image from its mirror image.
//!
//! * Oriented gradients after Dalal & Triggs 2005 (nine unsigned orientations, cells normalised with their neighbourhood,
//!   clipped at 0.2, square roots) on two grids.
//! * Mean and deviation of each colour channel on a grid.
//! * A histogram of hue, saturation and value of the whole image, and a coarser one of its upper and lower half.
//! * Uniform local binary patterns (Ojala et al. 2002) of the upper and lower half.
//!
//! What belongs to a place is the sum of the values of the image and of its mirror image, so that half of the places are
//! enough. The image is smoothed first, twice over 5 × 5 pixels: on clean images that changes nothing, and noise costs much
//! less.

use balgrad_data::{Framing, Source};

use super::Featurizer;
use crate::{Pixels, Result, View};

/// The side that every image is brought to.
const SIDE: usize = 64;
/// Unsigned orientations, 20° each.
const ORIENTATIONS: usize = 9;
/// Cells per side of the two gradient grids.
const GRIDS: [usize; 2] = [8, 4];
/// Colour moments: cells per side.
const COLOUR_GRID: usize = 4;
/// Bins of hue, saturation and value: of the whole image, and of its halves.
const COLOURS: [[usize; 3]; 2] = [[18, 4, 4], [12, 3, 3]];
/// Kinds of local pattern: 58 that are uniform, and all others.
const PATTERNS: usize = 59;
/// What a neighbour must exceed the centre by to count as brighter.
const BRIGHTER: f32 = 0.02;

const fn product(bins: [usize; 3]) -> usize {
    bins[0] * bins[1] * bins[2]
}

const GRADIENTS: usize = ORIENTATIONS * (GRIDS[0] * GRIDS[0] + GRIDS[1] * GRIDS[1]) / 2;
const MOMENTS: usize = 6 * COLOUR_GRID * COLOUR_GRID / 2;
const DIM: usize = GRADIENTS + MOMENTS + product(COLOURS[0]) + 2 * product(COLOURS[1]) + 2 * PATTERNS;

/// Gradient orientation, colour and texture: 1030 features of any RGB image. To be standardised with the training
/// split's [`Standardizer`](super::Standardizer); a missing image is the zero vector after that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Descriptor;

impl Featurizer for Descriptor {
    fn dim(&self) -> usize {
        DIM
    }

    fn key(&self) -> String {
        format!("descriptor:3:{SIDE}")
    }

    fn features(&self, source: &Source, id: &str, view: &View) -> Result<Vec<f32>> {
        let square = Pixels { framing: Framing::whole(SIDE as u32), mean: [0.0; 3], std: [1.0; 3] };
        let rgb = square.square(source, id, view)?;
        Ok(self.describe(&rgb, SIDE, SIDE).unwrap_or_else(|| vec![0.0; DIM]))
    }
}

impl Descriptor {
    /// The features of an RGB image, `width · height · 3` bytes, rows from the top; `None` if the number of bytes does not fit.
    pub fn describe(&self, rgb: &[u8], width: usize, height: usize) -> Option<Vec<f32>> {
        if width == 0 || height == 0 || rgb.len() != width * height * 3 {
            return None;
        }
        let image = smooth(&smooth(&shrink(rgb, width, height)));
        let mirrored = mirror(&image);
        let (there, back) = (placed(&image), placed(&mirrored));
        let mut features: Vec<f32> = there.into_iter().zip(back).map(|(a, b)| a + b).collect();
        colours(&image, COLOURS[0], &mut features);
        let (upper, lower) = image.split_at(SIDE * SIDE / 2);
        for half in [upper, lower] {
            colours(half, COLOURS[1], &mut features);
        }
        Some(features)
    }
}

/// Features of the left half's places, and patterns, whose kinds a mirror exchanges.
fn placed(image: &[Pixel]) -> Vec<f32> {
    let mut features = Vec::with_capacity(DIM);
    let gradients = gradients(image);
    for grid in GRIDS {
        oriented_gradients(&gradients, grid, &mut features);
    }
    colour_moments(image, &mut features);
    patterns(image, &mut features);
    features
}

fn mirror(image: &[Pixel]) -> Vec<Pixel> {
    image.chunks_exact(SIDE).flat_map(|row| row.iter().rev().copied()).collect()
}

type Pixel = [f32; 3];

/// `SIDE × SIDE` pixels of `0..=1`, each the mean of the area it covers.
fn shrink(rgb: &[u8], width: usize, height: usize) -> Vec<Pixel> {
    let at = |x: usize, y: usize| &rgb[(y * width + x) * 3..][..3];
    let unit = |pixel: &[u8]| [0, 1, 2].map(|c| f32::from(pixel[c]) / 255.0);
    if (width, height) == (SIDE, SIDE) {
        return rgb.chunks_exact(3).map(unit).collect();
    }
    let (columns, rows) = (coverage(width), coverage(height));
    let mut out = Vec::with_capacity(SIDE * SIDE);
    for row in &rows {
        for column in &columns {
            let mut sum = [0f32; 3];
            for (y, wy) in row {
                for (x, wx) in column {
                    let pixel = unit(at(*x, *y));
                    (0..3).for_each(|c| sum[c] += wx * wy * pixel[c]);
                }
            }
            out.push(sum);
        }
    }
    out
}

/// For each of `SIDE` outputs, the inputs of `0..n` that it covers, with weights that sum to 1.
fn coverage(n: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = n as f32 / SIDE as f32;
    let cover = |i: usize| {
        let (from, to) = (i as f32 * scale, (i + 1) as f32 * scale);
        let last = (to.ceil() as usize).clamp(1, n);
        let weight = |j: usize| (to.min(j as f32 + 1.0) - from.max(j as f32)).max(0.0) / scale;
        ((from as usize).min(n - 1)..last).map(|j| (j, weight(j))).collect()
    };
    (0..SIDE).map(cover).collect()
}

/// Binomial smoothing over 5 × 5 pixels (a Gaussian of σ 1), the border repeated.
fn smooth(image: &[Pixel]) -> Vec<Pixel> {
    const WEIGHTS: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
    let along = |image: &[Pixel], step: usize, position: fn(usize) -> usize| -> Vec<Pixel> {
        let one = |i: usize| {
            let (at, start) = (position(i), i - position(i) * step);
            let mut sum = [0f32; 3];
            for (k, weight) in WEIGHTS.into_iter().enumerate() {
                let pixel = image[start + (at + k).saturating_sub(2).min(SIDE - 1) * step];
                (0..3).for_each(|c| sum[c] += weight * pixel[c]);
            }
            sum
        };
        (0..image.len()).map(one).collect()
    };
    along(&along(image, 1, |i| i % SIDE), SIDE, |i| i / SIDE)
}

/// Magnitude and orientation in `0..ORIENTATIONS` of the channel with the steepest slope, by central differences.
fn gradients(image: &[Pixel]) -> Vec<(f32, f32)> {
    let mut out = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        let (above, below) = (y.saturating_sub(1), (y + 1).min(SIDE - 1));
        for x in 0..SIDE {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(SIDE - 1));
            let slope = |c: usize| {
                let dx = image[y * SIDE + right][c] - image[y * SIDE + left][c];
                let dy = image[below * SIDE + x][c] - image[above * SIDE + x][c];
                (dx * dx + dy * dy, dx, dy)
            };
            let (square, dx, dy) =
                [slope(1), slope(2)].into_iter().fold(slope(0), |a, b| if b.0 > a.0 { b } else { a });
            let turn = dy.atan2(dx).rem_euclid(std::f32::consts::PI) / std::f32::consts::PI;
            out.push((square.sqrt(), turn * ORIENTATIONS as f32));
        }
    }
    out
}

/// Histograms of `ORIENTATIONS` in the left half of `grid²` cells, votes shared bilinearly between cells and linearly between
/// orientations, each normalised with the 3×3 cells around it, clipped, and brought closer by the square root.
fn oriented_gradients(gradients: &[(f32, f32)], grid: usize, features: &mut Vec<f32>) {
    let mut cells = vec![[0f32; ORIENTATIONS]; grid * grid];
    let size = (SIDE / grid) as f32;
    let shares = |position: usize| {
        let at = (position as f32 + 0.5) / size - 0.5;
        let low = at.floor();
        [(low as isize, 1.0 - (at - low)), (low as isize + 1, at - low)]
    };
    let inside = |cell: isize| (0..grid as isize).contains(&cell);
    for (i, (magnitude, orientation)) in gradients.iter().enumerate() {
        if *magnitude == 0.0 {
            continue;
        }
        let low = (orientation - 0.5).floor();
        let part = orientation - 0.5 - low;
        let bin = (low as isize).rem_euclid(ORIENTATIONS as isize) as usize;
        let next = (bin + 1) % ORIENTATIONS;
        for (cy, wy) in shares(i / SIDE).into_iter().filter(|(cell, _)| inside(*cell)) {
            for (cx, wx) in shares(i % SIDE).into_iter().filter(|(cell, _)| inside(*cell)) {
                let cell = &mut cells[cy as usize * grid + cx as usize];
                let vote = magnitude * wy * wx / (size * size);
                cell[bin] += vote * (1.0 - part);
                cell[next] += vote * part;
            }
        }
    }
    let energy: Vec<f32> = cells.iter().map(|cell| cell.iter().map(|x| x * x).sum()).collect();
    for (i, cell) in cells.iter().enumerate() {
        let (y, x) = (i / grid, i % grid);
        if x >= grid / 2 {
            continue;
        }
        let rows = y.saturating_sub(1)..(y + 2).min(grid);
        let around: f32 =
            rows.map(|r| (x.saturating_sub(1)..(x + 2).min(grid)).map(|c| energy[r * grid + c]).sum::<f32>()).sum();
        // The constant keeps noise in flat areas small.
        let norm = (around + 1e-3).sqrt();
        features.extend(cell.iter().map(|x| (x / norm).min(0.2).sqrt()));
    }
}

/// Mean and deviation of each channel in each cell of the left half.
fn colour_moments(image: &[Pixel], features: &mut Vec<f32>) {
    let size = SIDE / COLOUR_GRID;
    for cell in 0..COLOUR_GRID * COLOUR_GRID / 2 {
        let (top, left) = (cell / (COLOUR_GRID / 2) * size, cell % (COLOUR_GRID / 2) * size);
        let moments = |channel: usize| {
            let pixels = (0..size * size).map(|i| image[(top + i / size) * SIDE + left + i % size][channel]);
            let n = (size * size) as f32;
            let mean = pixels.clone().sum::<f32>() / n;
            let variance = pixels.map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
            [mean, variance.sqrt()]
        };
        features.extend((0..3).flat_map(moments));
    }
}

/// Square roots of a histogram's shares, as the Hellinger distance compares them.
fn shares(counts: &[f32], features: &mut Vec<f32>) {
    let all: f32 = counts.iter().sum();
    features.extend(counts.iter().map(|count| (count / all.max(1.0)).sqrt()));
}

/// The joint histogram of hue, saturation and value.
fn colours(pixels: &[Pixel], bins: [usize; 3], features: &mut Vec<f32>) {
    let mut counts = vec![0f32; product(bins)];
    let bin = |x: f32, bins: usize| ((x * bins as f32) as usize).min(bins - 1);
    for &[r, g, b] in pixels {
        let (value, low) = (r.max(g).max(b), r.min(g).min(b));
        let range = (value - low).max(1e-6);
        let hue = match value {
            v if v == r => ((g - b) / range).rem_euclid(6.0),
            v if v == g => (b - r) / range + 2.0,
            _ => (r - g) / range + 4.0,
        };
        let saturation = (value - low) / value.max(1e-6);
        let place = (bin(hue / 6.0, bins[0]) * bins[1] + bin(saturation, bins[1])) * bins[2] + bin(value, bins[2]);
        counts[place] += 1.0;
    }
    shares(&counts, features);
}

/// Local binary patterns of the upper and the lower half: which of a pixel's eight neighbours are brighter than it.
fn patterns(image: &[Pixel], features: &mut Vec<f32>) {
    const AROUND: [(isize, isize); 8] = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)];
    let kinds = pattern_kinds();
    let grey: Vec<f32> = image.iter().map(|[r, g, b]| (r + g + b) / 3.0).collect();
    let mut counts = [[0f32; PATTERNS]; 2];
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let centre = grey[y * SIDE + x] + BRIGHTER;
            let brighter = |(dy, dx): &(isize, isize)| {
                grey[y.wrapping_add_signed(*dy) * SIDE + x.wrapping_add_signed(*dx)] > centre
            };
            let code = AROUND.iter().enumerate().map(|(bit, at)| usize::from(brighter(at)) << bit).sum::<usize>();
            counts[y / (SIDE / 2)][kinds[code]] += 1.0;
        }
    }
    counts.iter().for_each(|counts| shares(counts, features));
}

/// The kind of each of 256 patterns: those with at most two changes around the circle have one of their own.
fn pattern_kinds() -> [usize; 256] {
    let uniform = |code: u8| (code ^ code.rotate_left(1)).count_ones() <= 2;
    let mut next = 0;
    std::array::from_fn(|code| {
        if !uniform(code as u8) {
            return PATTERNS - 1;
        }
        next += 1;
        next - 1
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn picture(side: usize, paint: impl Fn(f32, f32) -> [u8; 3]) -> Vec<u8> {
        let unit = |i: usize| (i as f32 + 0.5) / side as f32;
        (0..side * side).flat_map(|i| paint(unit(i % side), unit(i / side))).collect()
    }

    fn features(side: usize, paint: impl Fn(f32, f32) -> [u8; 3]) -> Vec<f32> {
        Descriptor.describe(&picture(side, paint), side, side).unwrap()
    }

    #[test]
    fn there_are_as_many_as_promised_and_all_finite() {
        let noise = features(64, |x, y| [(x * 251.0) as u8, (y * 249.0) as u8, (x * y * 97.0) as u8]);
        assert_eq!(noise.len(), Descriptor.dim());
        assert!(noise.iter().all(|x| x.is_finite()));
        assert!(noise.iter().any(|x| *x != 0.0));
        assert_eq!(Descriptor.describe(&[0; 10], 2, 2), None);
    }

    #[test]
    fn a_flat_picture_has_colour_and_no_gradient() {
        let red = features(64, |_, _| [255, 0, 0]);
        assert!(red[..GRADIENTS].iter().all(|x| *x == 0.0));
        assert_eq!(&red[GRADIENTS..GRADIENTS + 6], [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let colours = &red[GRADIENTS + MOMENTS + 2 * PATTERNS..];
        // Hue 0, full saturation, full value.
        assert_eq!((colours[15], colours[product(COLOURS[0]) + 8]), (1.0, 1.0));
    }

    #[test]
    fn a_vertical_edge_votes_for_the_horizontal_gradient() {
        let edge = features(64, |x, _| if x < 0.5 { [0; 3] } else { [255; 3] });
        let mut sums = [0f32; ORIENTATIONS];
        edge[..ORIENTATIONS * 32].iter().enumerate().for_each(|(i, x)| sums[i % ORIENTATIONS] += x);
        // Angle 0 lies between the last and the first orientation.
        assert!(sums[0] > 0.0 && (sums[0] - sums[8]).abs() < 1e-5);
        assert!(sums[1..8].iter().all(|x| *x < 1e-5), "{sums:?}");
    }

    #[test]
    fn a_mirror_image_has_the_same_features() {
        // Irregular, so that no comparison is a tie which rounding decides.
        let wave =
            |x: f32, y: f32, f: f32| (127.0 + 120.0 * (f * x + 2.3 * y * y).sin() * (f * y - 1.7 * x).cos()) as u8;
        let paint = |x: f32, y: f32| [wave(x, y, 9.0), wave(y, x, 13.0), wave(x, y, 21.0)];
        let (image, mirrored) = (features(64, paint), features(64, |x, y| paint(1.0 - x, y)));
        let apart = image.iter().zip(&mirrored).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
        assert!(apart < 10, "{apart} of {DIM} differ");
    }

    #[test]
    fn uniform_patterns_have_a_kind_each() {
        let kinds = pattern_kinds();
        let own: std::collections::BTreeSet<usize> = kinds.into_iter().filter(|k| *k < PATTERNS - 1).collect();
        assert_eq!(own.len(), PATTERNS - 1);
        assert_eq!((kinds[0b0101_0101], kinds[0]), (PATTERNS - 1, 0));
        assert_ne!(kinds[0b0000_0111], kinds[0b0000_1110]);
    }

    #[test]
    fn noise_is_smoothed_and_flat_areas_stay() {
        let flat = vec![[0.25, 0.5, 0.75]; SIDE * SIDE];
        assert!(smooth(&flat).iter().flatten().zip(flat.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6));
        let mut dot = vec![[0f32; 3]; SIDE * SIDE];
        dot[10 * SIDE + 20] = [1.0; 3];
        let smoothed = smooth(&dot);
        assert!((smoothed[10 * SIDE + 20][0] - 36.0 / 256.0).abs() < 1e-6);
        assert!((smoothed[9 * SIDE + 22][1] - 4.0 / 256.0).abs() < 1e-6);
    }

    #[test]
    fn size_hardly_matters() {
        let paint = |x: f32, y: f32| if (x - 0.5).hypot(y - 0.5) < 0.3 { [250, 200, 20] } else { [255; 3] };
        let (small, large) = (features(64, paint), features(160, paint));
        let distance: f32 = small.iter().zip(&large).map(|(a, b)| (a - b).powi(2)).sum();
        let length: f32 = small.iter().map(|a| a * a).sum();
        assert!(distance < 0.05 * length, "{distance} of {length}");
    }
}
