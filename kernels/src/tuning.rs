//! All numbers that were measured rather than derived: the sizes at which another method becomes
//! faster, how much is done at a time, and how far ahead memory is prefetched. None of them changes
//! a bit of any result. Knows nothing; must not know how the numbers are used.
//!
//! Miri is some thousand times slower than a CPU, so sizes are small there: work that takes several
//! blocks, stretches or threads does so in tests of a few units.

/// `small` under Miri, else `measured`.
const fn unless_miri(measured: usize, small: usize) -> usize {
    if cfg!(miri) { small } else { measured }
}

// Blocks.

/// Terms of a sum that are added before the sum is stored for a while. This much of a panel (16 KiB
/// or 32 KiB) stays in the first-level cache while the row tiles pass over it. Packing has the same
/// blocks: `[group][block of depth][panel][k][2][lane]`.
pub(crate) const DEPTH_BLOCK: usize = unless_miri(256, 16);

/// Rows handled at a time: their sums (48 KiB at most) stay in the cache while the panels of a
/// group pass over them.
pub(crate) const ROW_BLOCK: usize = unless_miri(96, 6);

/// Rows in one task of dot products.
pub(crate) const DOTS_ROW_BLOCK: usize = unless_miri(64, 4);

/// Rows that are computed at a time, so that they are still in the cache when they are read: the
/// input's product for the steps of a pass, and outputs for their softmax.
pub const CHUNK_ROWS: usize = unless_miri(192, 8);

/// Rows for each thread whose products are computed at a time before they are scanned.
pub const SCAN_ROWS: usize = unless_miri(192, 8);

/// A stream through an embedding and a layer keeps a table of each token's part of the gates if the
/// number of tokens is at most this many times the number of terms in a gate's sum. So the table
/// takes at most this many times the memory of the layer's weights.
pub const TABLE_OF_WEIGHTS: usize = 4;

/// Rows that are a multiple of this many floats apart evict each other from the caches.
pub(crate) const PERIOD: usize = 256;

/// Floats by which such rows are moved apart: one cache line.
pub(crate) const GAP: usize = 16;

// Tasks.

/// Parts in which a block of rows of a product's lhs is packed.
pub(crate) const GEMM_PARTS: usize = 8;

/// Parts in which the rhs of a block of depth are packed for weight gradients.
pub(crate) const WEIGHT_GRADIENT_PARTS: usize = 8;

/// Parts in which each block of rows of a step's lhs is packed.
pub(crate) const STEP_PARTS: usize = 4;

/// The most parts of the batch in the element-wise phase of a clocked step.
pub(crate) const EDGE_PARTS: usize = 8;

/// Multiply-adds of attention in one task, or about as many.
pub(crate) const ATTENTION_TASK: usize = unless_miri(1 << 15, 1 << 6);

/// Multiply-adds that take as long as a tanh does.
pub(crate) const TANH_WORK: usize = 16;

/// Multiply-adds that take as long as an exponential and its place in a softmax do.
pub(crate) const EXP_WORK: usize = 16;

// Threads.

/// Multiply-adds below which a pass stays with its caller while all helpers sleep: it would be
/// done before one of them is awake.
pub(crate) const WORTH_CALLING: usize = unless_miri(1 << 20, 2);

/// Multiply-adds below which a pass stays with its caller if a helper is awake.
pub(crate) const WORTH_SHARING: usize = unless_miri(1 << 19, 1);

/// Rows below which a block of a product's rows is too flat for a thread to be fast with it.
pub(crate) const FLAT_ROWS: usize = unless_miri(24, 2);

/// Columns below which a block of an lhs is too flat for a thread to be fast with it, in weight
/// gradients.
pub(crate) const FLAT_COLUMNS: usize = unless_miri(32, 16);

/// Multiply-adds from which a step is split among threads, by units or by rows. A step of this size
/// takes about as long as the threads take to meet.
pub const STEP_WORTH_SPLITTING: usize = unless_miri(1 << 17, 1);

/// Multiply-adds in each stretch of a forward pass (a product of the input and some steps) from
/// which helpers are called: threads meet at the end of every stretch.
pub const STRETCH_WORTH_CALLING: usize = unless_miri(1 << 20, 1);

/// Vectors of units, summed over the rows, in each thread's part of a scan. A part of this size
/// takes about as long as the threads take to meet.
pub(crate) const SCAN_VECTORS: usize = unless_miri(256, 2);

/// Bytes of the cache that a core has for itself, if the CPU does not say: see
/// [`own_cache`](crate::cache::own_cache).
pub(crate) const OWN_CACHE: usize = unless_miri(1 << 20, 1 << 13);

/// Rows for each thread from which threads split the batch: tiles of fewer rows are too flat to be
/// fast.
pub(crate) const OWN_ROWS: usize = unless_miri(6, 1);

// Which method.

/// Rows of a batch from which the products of a clocked group are taken one move at a time, on
/// inputs in place. With fewer rows the inputs of several moves are gathered.
pub const ROWS_ALONE: usize = unless_miri(16, 3);

/// Whether a layer with this many outputs is computed as dot products over rows in place. A panel
/// is two vectors wide; if at most a quarter of its lanes are used, dot products are faster at any
/// depth and number of rows.
pub(crate) const fn suits_dots(outputs: usize, lanes: usize) -> bool {
    outputs <= lanes / 2
}

/// Bytes of a huge page. Buffers of at least this size ask for huge pages.
pub(crate) const HUGE_PAGE: usize = unless_miri(2 << 20, 4 << 10);

// The tile's loop, and prefetching.

/// Terms per turn of the tile's loop. With this many, the few other instructions of a turn run in
/// slots that the multiply-adds leave free.
pub(crate) const UNROLL: usize = 4;

/// Lines of the panels ahead that a tile prefetches in each turn of its loop.
pub(crate) const PREFETCH: usize = 2;

/// The most lines that a tile prefetches in a turn, if it takes that many to have all of the next
/// block at the end. With few rows a tile is only as fast as its own panels arrive, and more
/// prefetches would delay them.
pub(crate) const fn most_prefetches(rows: usize) -> usize {
    match rows {
        1..=3 => PREFETCH,
        4..=6 => 4,
        _ => 8,
    }
}

/// Lines ahead of the sum that a row's product with bf16 or int8 prefetches: the hardware
/// prefetcher follows each panel, and loses it at its end.
pub(crate) const QUANTISED_AHEAD: usize = 32;

/// Rows by which packing an lhs prefetches ahead: the hardware prefetcher follows a row, and loses
/// it at its end.
pub(crate) const LHS_AHEAD: usize = 4;

/// Rows by which packing columns prefetches ahead.
pub(crate) const COLUMNS_AHEAD: usize = 16;

/// Terms of each row by which packing weights by rows prefetches ahead.
pub(crate) const FILL_TERMS_AHEAD: usize = 64;

/// Rows by which packing weights by columns prefetches ahead.
pub(crate) const FILL_ROWS_AHEAD: usize = 8;
