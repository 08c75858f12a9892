//! Pickles are walked through before candle's reader builds anything of them: what nests too deep, multiplies itself or reaches
//! beyond its end is refused.

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::pickle::{Object, Stack};
use candle_core::{Result, bail};

/// How deep objects may nest. A state dictionary needs about 10.
const DEPTH: u32 = 64;

/// How many objects a pickle may make, copies included.
const OBJECTS: u64 = 20_000_000;

/// Reads the pickle at the start of `bytes`, and returns what follows it.
pub(super) fn read(bytes: &[u8]) -> Result<(Object, &[u8])> {
    let (pickle, rest) = bytes.split_at(Walk { bytes, at: 0, made: 0, stack: Vec::new(), memo: HashMap::new() }.end()?);
    let mut stack = Stack::empty();
    stack.read_loop(&mut Cursor::new(pickle))?;
    Ok((stack.finalize()?, rest))
}

/// An object: how deep it nests, and how many it is made of.
#[derive(Clone, Copy)]
struct Made {
    depth: u32,
    size: u64,
}

const LEAF: Made = Made { depth: 0, size: 1 };

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    made: u64,
    /// None is a mark.
    stack: Vec<Option<Made>>,
    memo: HashMap<u32, Made>,
}

impl Walk<'_> {
    /// Where the pickle ends.
    fn end(mut self) -> Result<usize> {
        loop {
            match self.number::<1>()? as u8 {
                0x80 => drop(self.number::<1>()?),
                b'.' => return Ok(self.at),
                b'c' => {
                    self.line()?;
                    self.line()?;
                    self.push(LEAF)?;
                }
                b'K' => self.leaf::<1>()?,
                b'M' => self.leaf::<2>()?,
                b'J' => self.leaf::<4>()?,
                b'G' => self.leaf::<8>()?,
                b'N' | 0x88 | 0x89 | b')' | b']' | b'}' => self.push(LEAF)?,
                b'X' => {
                    let length = self.number::<4>()? as usize;
                    self.skip(length)?;
                    self.push(LEAF)?;
                }
                0x8a => {
                    let length = self.number::<1>()? as usize;
                    if length > 8 {
                        bail!("an integer of {length} bytes");
                    }
                    self.skip(length)?;
                    self.push(LEAF)?;
                }
                b'(' => self.stack.push(None),
                b't' | b'd' => {
                    let parts = self.since_mark()?;
                    self.push_of(parts)?;
                }
                b'Q' | 0x85 => self.join(1)?,
                0x86 | b'R' | b'b' | 0x81 => self.join(2)?,
                0x87 => self.join(3)?,
                b'a' => self.extend_last(1)?,
                b's' => self.extend_last(2)?,
                b'e' | b'u' => {
                    let parts = self.since_mark()?;
                    let last = self.pop()?;
                    self.put(last, parts)?;
                }
                b'h' => {
                    let name = self.number::<1>()?;
                    self.recall(name)?;
                }
                b'j' => {
                    let name = self.number::<4>()?;
                    self.recall(name)?;
                }
                b'q' => {
                    let name = self.number::<1>()?;
                    self.remember(name)?;
                }
                b'r' => {
                    let name = self.number::<4>()?;
                    self.remember(name)?;
                }
                other => bail!("the pickle holds code {other:#x}, which weights do not need"),
            }
        }
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        if count > self.bytes.len() - self.at {
            bail!("the pickle is cut short");
        }
        self.at += count;
        Ok(())
    }

    fn number<const N: usize>(&mut self) -> Result<u32> {
        let start = self.at;
        self.skip(N)?;
        Ok(self.bytes[start..self.at].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn line(&mut self) -> Result<()> {
        let Some(length) = self.bytes[self.at..].iter().position(|byte| *byte == b'\n') else {
            bail!("the pickle is cut short")
        };
        self.skip(length + 1)
    }

    fn leaf<const N: usize>(&mut self) -> Result<()> {
        self.skip(N)?;
        self.push(LEAF)
    }

    fn push(&mut self, object: Made) -> Result<()> {
        if object.depth > DEPTH {
            bail!("the pickle nests deeper than {DEPTH} objects");
        }
        self.count(1)?;
        self.stack.push(Some(object));
        Ok(())
    }

    fn count(&mut self, objects: u64) -> Result<()> {
        self.made = self.made.saturating_add(objects);
        if self.made > OBJECTS {
            bail!("the pickle makes more than {OBJECTS} objects");
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Made> {
        let Some(Some(object)) = self.stack.pop() else { bail!("the pickle takes what it has not made") };
        Ok(object)
    }

    /// What lies above the last mark, as one.
    fn since_mark(&mut self) -> Result<Made> {
        let mut all = Made { depth: 0, size: 0 };
        while let Some(part) = self.stack.pop() {
            let Some(part) = part else { return Ok(all) };
            all = Made { depth: all.depth.max(part.depth), size: all.size.saturating_add(part.size) };
        }
        bail!("the pickle has no mark where it needs one")
    }

    fn push_of(&mut self, parts: Made) -> Result<()> {
        self.push(Made { depth: parts.depth + 1, size: parts.size.saturating_add(1) })
    }

    fn join(&mut self, count: usize) -> Result<()> {
        let parts = self.top(count)?;
        self.push_of(parts)
    }

    fn top(&mut self, count: usize) -> Result<Made> {
        let mut all = Made { depth: 0, size: 0 };
        for _ in 0..count {
            let part = self.pop()?;
            all = Made { depth: all.depth.max(part.depth), size: all.size.saturating_add(part.size) };
        }
        Ok(all)
    }

    fn extend_last(&mut self, count: usize) -> Result<()> {
        let parts = self.top(count)?;
        let last = self.pop()?;
        self.put(last, parts)
    }

    fn put(&mut self, last: Made, parts: Made) -> Result<()> {
        let depth = last.depth.max(parts.depth + 1);
        self.push(Made { depth, size: last.size.saturating_add(parts.size) })
    }

    fn recall(&mut self, name: u32) -> Result<()> {
        let Some(object) = self.memo.get(&name).copied() else { bail!("the pickle recalls what it has not kept") };
        self.count(object.size)?;
        self.push(object)
    }

    fn remember(&mut self, name: u32) -> Result<()> {
        let Some(Some(object)) = self.stack.last().copied() else { bail!("the pickle keeps what it has not made") };
        self.count(object.size)?;
        self.memo.insert(name, object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_nests_too_deep_is_refused() {
        let nest = |times: usize| [b"\x80\x02)", &b"\x85".repeat(times)[..], b"."].concat();
        assert!(read(&nest(50)).is_ok());
        for deep in [65, 2_000_000] {
            assert!(refused(&nest(deep)).contains("nests deeper than 64"));
        }
        let lists = |times: usize| [b"\x80\x02", &b"]".repeat(times)[..], &b"a".repeat(times - 1)[..], b"."].concat();
        assert!(read(&lists(50)).is_ok());
        assert!(refused(&lists(100_000)).contains("nests deeper than 64"));
    }

    #[test]
    fn what_multiplies_itself_is_refused() {
        let doubled: Vec<u8> = (0..40u8).flat_map(|i| [b'q', i, b'h', i, 0x86]).collect();
        assert!(refused(&[b"\x80\x02N", &doubled[..], b"."].concat()).contains("objects"));
    }

    #[test]
    fn what_is_cut_short_or_strange_is_refused() {
        let whole = b"\x80\x02X\x02\x00\x00\x00hi\x8a\x01\x07\x86.rest";
        let (object, rest) = read(whole).unwrap();
        assert_eq!((object.tuple().unwrap().len(), rest), (2, &b"rest"[..]));
        for end in 0..whole.len() - 4 {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        for (bytes, word) in [
            (&b"\x80\x02X\xff\xff\xff\xffa."[..], "cut short"),
            (b"\x80\x02\x8a\xff.", "255 bytes"),
            (b"\x80\x02i.", "code 0x69"),
            (b"\x80\x02t.", "no mark"),
            (b"\x80\x02(R.", "not made"),
            (b"\x80\x02h\x07.", "not kept"),
        ] {
            assert!(refused(bytes).contains(word), "{word}");
        }
    }
}
