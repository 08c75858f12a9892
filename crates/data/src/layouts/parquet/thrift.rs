//! The little of Thrift's compact protocol that is read before the decoder sees it: page headers, and the shape of a
//! footer's schema. Nothing is allocated by a number that stands in the file.

/// Nested structs, lists and maps.
const MAX_DEPTH: usize = 32;

/// Columns and groups of a schema.
const MAX_COLUMNS: usize = 10_000;

/// Where a reader stands in bytes; every step answers `None` past their end.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn pass(&mut self, count: u64) -> Option<()> {
        self.at =
            usize::try_from(count).ok().and_then(|n| self.at.checked_add(n)).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A number that may not be negative.
    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok()
    }

    /// Reads a struct: `field` takes the value of each field, by its number and kind.
    pub(super) fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = if head >> 4 == 0 { self.int()? } else { id + i64::from(head >> 4) };
            field(self, id, head & 15)?;
        }
    }

    /// The number and the kind of a list's elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 15))
    }

    /// Passes over a value of a kind.
    pub(super) fn skip(&mut self, kind: u8) -> Option<()> {
        self.skip_in(kind, MAX_DEPTH)
    }

    fn skip_in(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        // In a list or map a truth value takes a byte, and every element at least one.
        let element = |me: &mut Self, kind: u8| if kind < 3 { me.pass(1) } else { me.skip_in(kind, depth) };
        match kind {
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => self.varint().and_then(|length| self.pass(length)),
            9 | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| element(self, kind))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| element(self, kinds >> 4).and_then(|()| element(self, kinds & 15)))
            }
            12 => self.fields(|me, _, kind| me.skip_in(kind, depth)),
            _ => None,
        }
    }
}

/// Whether a footer is one, with a schema of no more than so many columns, nested no deeper than so: the decoder builds it by
/// recursion, and believes its numbers.
pub(super) fn is_footer(bytes: &[u8]) -> bool {
    let mut thrift = Thrift::new(bytes);
    let mut sound = false;
    let whole = thrift.fields(|me, id, kind| {
        if (id, kind) != (2, 9) {
            return me.skip(kind);
        }
        let (count, kind) = me.list()?;
        // Per open group, the children that are still to come.
        let mut open = vec![1u64];
        for _ in 0..count {
            while open.last() == Some(&0) {
                open.pop();
            }
            *open.last_mut()? -= 1;
            let mut children = 0;
            (kind == 12).then_some(())?;
            me.fields(|me, id, kind| match (id, kind) {
                (5, 4..=6) => me.size().map(|n| children = n as u64),
                _ => me.skip(kind),
            })?;
            if children > 0 {
                open.push(children);
            }
            (open.len() <= MAX_DEPTH && children <= count).then_some(())?;
        }
        sound = count <= MAX_COLUMNS as u64 && open.iter().all(|left| *left == 0);
        Some(())
    });
    whole.is_some() && sound
}
