//! TensorBoard event files: length, masked CRC-32C, a protobuf `Event` with scalar summaries, CRC again.
//!
//! Format: <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto> and the
//! TFRecord framing. Five fields are all that scalars need, so they are written by hand.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// An event file under construction.
pub(crate) struct Events {
    file: BufWriter<File>,
    bytes: u64,
}

impl Events {
    /// Begins an event file, in place of one that stands there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut events = Self { file: BufWriter::new(File::create(path)?), bytes: 0 };
        let mut version = Vec::new();
        field_bytes(&mut version, 3, b"brain.Event:2");
        events.record(&version)?;
        Ok(events)
    }

    /// Goes on after the first `bytes` of an event file, whatever follows cut off: a reader stops at half a record. None where the
    /// file is shorter.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn resume(path: &Path, bytes: u64) -> io::Result<Option<Self>> {
        if bytes == 0 || std::fs::metadata(path).map_or(0, |found| found.len()) < bytes {
            return Ok(None);
        }
        let mut file = File::options().write(true).open(path)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Some(Self { file: BufWriter::new(file), bytes }))
    }

    /// Writes scalars of one step; `seconds` is the wall time since the epoch.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn scalars(&mut self, step: u64, seconds: f64, scalars: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            field_bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5); // simple_value, 32-bit
            entry.extend((*value as f32).to_le_bytes());
            field_bytes(&mut summary, 1, &entry);
        }
        let mut event = vec![1 << 3 | 1]; // wall_time, 64-bit
        event.extend(seconds.to_le_bytes());
        event.push(2 << 3); // step, varint
        varint(&mut event, step);
        field_bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Hands everything to the disk, and returns how many bytes there are.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn sync(&mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.get_ref().sync_data()?;
        Ok(self.bytes)
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc(&length).to_le_bytes())?;
        self.file.write_all(data)?;
        self.file.write_all(&masked_crc(data).to_le_bytes())?;
        self.bytes += data.len() as u64 + 16;
        Ok(())
    }
}

fn field_bytes(out: &mut Vec<u8>, field: u8, data: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, data.len() as u64);
    out.extend(data);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_castagnolis() {
        // RFC 3720 B.4: 32 zero bytes have CRC-32C 0x8a9136aa.
        let crc = 0x8a91_36aau32;
        assert_eq!(masked_crc(&[0; 32]), crc.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_varint_keeps_seven_bits_a_byte() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}
