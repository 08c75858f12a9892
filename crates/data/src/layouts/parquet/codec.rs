//! Decompression into no more memory than a page may have, whatever it says of itself.

use std::io::Read;

use parquet::basic::Compression;

/// The largest page, decompressed.
const MAX_PAGE: usize = 1 << 30;

/// A page above this is one of images, which hardly compress: a hundredfold is a bomb.
const MAX_DENSE: usize = 64 << 20;

/// The bytes of a page, `length` of them.
pub(super) fn decompress(codec: Compression, packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    if length > MAX_PAGE || length > MAX_DENSE && length / 100 > packed.len() {
        let (length, packed) = (length >> 20, packed.len() >> 10);
        return Err(format!(
            "a page of {packed} KiB claims to hold {length} MiB; write the file anew with smaller pages"
        ));
    }
    let bytes = match codec {
        Compression::UNCOMPRESSED => Ok(packed.to_vec()),
        Compression::SNAPPY => snappy(packed, length),
        Compression::GZIP(_) => bounded(flate2::read::MultiGzDecoder::new(packed), length),
        Compression::BROTLI(_) => bounded(brotli_decompressor::Decompressor::new(packed, 1 << 12), length),
        Compression::ZSTD(_) => zstd(packed, length),
        Compression::LZ4_RAW => lz4(packed, length),
        Compression::LZ4 => hadoop(packed, length).or_else(|_| lz4(packed, length)),
        Compression::LZO => return Err("LZO is not read; write the file anew with zstd or snappy".to_owned()),
    };
    let bytes = bytes.map_err(|e| format!("a page cannot be decompressed: {e}"))?;
    if bytes.len() == length { Ok(bytes) } else { Err("a page is not as long as it says".to_owned()) }
}

fn bounded(from: impl Read, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(length.min(1 << 20));
    from.take(length as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn zstd(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    bounded(ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| e.to_string())?, length)
}

/// Refuses what no stream of a codec can hold, before it is allocated.
fn possible(packed: usize, length: usize, most: usize) -> Result<(), String> {
    let fits = length <= packed.saturating_mul(most).saturating_add(64);
    fits.then_some(()).ok_or_else(|| "it claims more than its codec can pack".to_owned())
}

fn snappy(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    // A copy of 64 bytes takes three.
    possible(packed.len(), length, 32)?;
    let mut bytes = vec![0; length];
    let written = snap::raw::Decoder::new().decompress(packed, &mut bytes).map_err(|e| e.to_string())?;
    bytes.truncate(written);
    Ok(bytes)
}

fn lz4(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    possible(packed.len(), length, 256)?;
    let mut bytes = vec![0; length];
    let written = lz4_flex::block::decompress_into(packed, &mut bytes).map_err(|e| e.to_string())?;
    bytes.truncate(written);
    Ok(bytes)
}

/// Hadoop's form of LZ4: blocks, each after its two lengths.
fn hadoop(mut packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some((whole, rest)) = packed.split_first_chunk::<4>() {
        let (part, rest) = rest.split_first_chunk::<4>().ok_or("cut short")?;
        let (whole, part) = (u32::from_be_bytes(*whole) as usize, u32::from_be_bytes(*part) as usize);
        let (block, rest) = rest.split_at_checked(part).ok_or("cut short")?;
        if whole > length - bytes.len() {
            return Err("longer than it says".to_owned());
        }
        bytes.extend(lz4(block, whole)?);
        packed = rest;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parquet::basic::{BrotliLevel, GzipLevel, ZstdLevel};

    #[test]
    fn a_bomb_is_refused_by_every_codec_before_it_takes_memory() {
        let zip = |level| Compression::GZIP(level);
        for codec in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            zip(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
        ] {
            for packed in [&[][..], &[0; 40], &[255; 4000], b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
                for length in [1 << 20, (64 << 20) + 1, 1 << 30, usize::MAX >> 1] {
                    assert!(decompress(codec, packed, length).is_err(), "{codec:?} {length}");
                }
            }
        }
        // A true stream that holds more than the page says ends there.
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &vec![0; 10 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        let error = decompress(zip(GzipLevel::default()), &packed, 1000).unwrap_err();
        assert_eq!(error, "a page is not as long as it says");
        assert_eq!(decompress(zip(GzipLevel::default()), &packed, 10 << 20).unwrap().len(), 10 << 20);
    }
}
