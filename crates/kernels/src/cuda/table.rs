//! What a launch is told: the words that a kernel reads, and the shape of its grid.

/// Threads of a block, as in `common.cuh`.
pub const THREADS: u32 = 256;
const CHUNK: usize = 65536;
const TILE: usize = 4;

/// The tensors of one launch, all of one dtype: where each starts, and how they are cut into the chunks of the grid.
pub struct Table {
    /// Objectives, that is rows.
    k: usize,
    slots: usize,
    chunks: usize,
    words: Vec<u64>,
}

impl Table {
    /// A table of slots of `lens` elements each, whose rows are to be pushed in this order.
    pub fn new(k: usize, lens: &[usize]) -> Self {
        let of_slot = |(s, len): (usize, &usize)| (0..len.div_ceil(CHUNK)).map(move |c| (s as u64) << 32 | c as u64);
        let mut words: Vec<u64> = lens.iter().enumerate().flat_map(of_slot).collect();
        let chunks = words.len();
        words.extend(lens.iter().map(|len| *len as u64));
        Self { k, slots: lens.len(), chunks, words }
    }

    /// The next slot's gradients: `(row, address)` for each row that has one.
    pub fn push_rows(&mut self, present: impl IntoIterator<Item = (usize, u64)>) {
        let start = self.words.len();
        self.words.resize(start + self.k, 0);
        for (row, address) in present {
            self.words[start + row] = address;
        }
    }

    /// Addresses that follow the rows, one per slot.
    pub fn push_addresses(&mut self, addresses: impl IntoIterator<Item = u64>) {
        self.words.extend(addresses);
    }

    /// Numbers that follow.
    pub fn push_numbers(&mut self, numbers: &[f64]) {
        self.words.extend(numbers.iter().map(|x| x.to_bits()));
    }

    /// All of it, to be uploaded.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Rows.
    pub fn k(&self) -> u32 {
        self.k as u32
    }

    /// Tensors.
    pub fn slots(&self) -> u32 {
        self.slots as u32
    }

    /// Blocks of threads along the tensors.
    pub fn chunks(&self) -> u32 {
        self.chunks as u32
    }

    /// Partial sums that `gram` writes.
    pub fn partials(&self) -> usize {
        self.k * self.k * self.chunks
    }

    /// The grid of `gram`: chunks by pairs of tiles of rows, the upper triangle.
    pub fn gram_grid(&self) -> (u32, u32) {
        let tiles = self.k.div_ceil(TILE);
        (self.chunks(), (tiles * (tiles + 1) / 2) as u32)
    }

    /// The grid of `gram_finish`: one block for each entry of the result.
    pub fn finish_grid(&self) -> (u32, u32) {
        (self.k(), self.k())
    }

    /// The grid of `blend` and of an optimiser's step: chunks.
    pub fn chunk_grid(&self) -> (u32, u32) {
        (self.chunks(), 1)
    }
}
