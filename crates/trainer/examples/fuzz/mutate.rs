//! Changes that break files: bits, lengths, numbers, pieces that are lost, doubled or of another file.

/// The largest input.
const LARGEST: usize = 1 << 16;

/// What parsers trip over.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "1e999",
    "NaN",
    "18446744073709551615",
    "9223372036854775807",
    "4294967296",
    "1.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\0",
    "\n",
    "\r\n",
    ",",
    "\t",
    "\"",
    "\u{feff}",
    "é",
    "../..",
];

/// Numbers at the edges of their types.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// A source of changes; the same seed makes the same ones.
pub(crate) struct Mutator(u64);

impl Mutator {
    /// Changes decided by a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`: splitmix64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// `base` with one to six changes, some of them with pieces of `other`.
    pub(crate) fn mutate(&mut self, base: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = base.to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, other);
            bytes.truncate(LARGEST);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        // Half of the changes where headers are.
        let reach = if self.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
        let at = self.below(reach);
        let length = (1 + self.below(32)).min(bytes.len().saturating_sub(at));
        match self.below(9) {
            _ if bytes.is_empty() => bytes.extend(other),
            0 | 1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[at] = self.below(256) as u8,
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let copies = 1 + self.below(20);
                let piece = bytes[at..at + length].repeat(copies);
                drop(bytes.splice(at..at, piece));
            }
            6 => {
                let number = EDGES[self.below(EDGES.len())];
                let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
                let piece = if self.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
                bytes[at..at + width].copy_from_slice(piece);
            }
            7 => {
                let word = WORDS[self.below(WORDS.len())].as_bytes().to_vec();
                match number(bytes, at) {
                    Some(range) => drop(bytes.splice(range, word)),
                    None => drop(bytes.splice(at..at, word)),
                }
            }
            _ => {
                let from = self.below(other.len());
                let piece = other[from..(from + length * 4).min(other.len())].to_vec();
                drop(bytes.splice(at..at + length, piece));
            }
        }
    }
}

/// The decimal number at or after a place.
fn number(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let start = at + bytes[at..].iter().take(200).position(u8::is_ascii_digit)?;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(start..start + length)
}
