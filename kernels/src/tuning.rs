//! Every number that was measured and not derived: where another way becomes the faster one,
//! how much is done at a time, how far ahead memory is asked for. None of them changes a bit
//! of any result. Knows nothing; must not know how the numbers are used.
//!
//! Miri takes some thousand times as long as a CPU, so that there the sizes are small: what
//! takes several blocks, stretches or threads does so for tests of a few units.

/// `small` where Miri runs.
const fn unless_miri(measured: usize, small: usize) -> usize {
    if cfg!(miri) { small } else { measured }
}

// Blocks.

/// Terms between two rests of a sum: so many of a panel stay in the first-level
/// cache (16 KiB or 32 KiB of it) while the row tiles pass over them. Packing
/// follows it: `[group][block of depth][panel][k][2][lane]`.
pub(crate) const DEPTH_BLOCK: usize = unless_miri(256, 16);

/// Rows handled at a time: their sums (48 KiB at the most) stay close while the
/// panels of a group pass over them.
pub(crate) const ROW_BLOCK: usize = unless_miri(96, 6);

/// Rows that a task of dot products takes.
pub(crate) const DOTS_ROW_BLOCK: usize = unless_miri(64, 4);

/// Rows that are computed at a time for what reads them next, so that they are in the cache
/// still: the input's product for the steps of a pass, outputs for their softmax.
pub const CHUNK_ROWS: usize = unless_miri(192, 8);

/// A stream through an embedding and a layer keeps each token's part of the gates where there are
/// at most so many times as many tokens as terms in a gate's sum, so that they take at most so many
/// times the memory of the layer's weights.
pub const TABLE_OF_WEIGHTS: usize = 4;

/// Floats between rows of which the caches keep few: rows a multiple of it apart evict each
/// other.
pub(crate) const PERIOD: usize = 256;

/// Floats by which such rows are moved apart: a line of the cache.
pub(crate) const GAP: usize = 16;

// Tasks.

/// Parts in which a block of rows of a product's left operand is packed.
pub(crate) const GEMM_PARTS: usize = 8;

/// Parts in which the right operands of a block of depth are packed for gradients of weights.
pub(crate) const WEIGHT_GRADIENT_PARTS: usize = 8;

/// Parts in which each block of rows of a step's left operand is packed.
pub(crate) const STEP_PARTS: usize = 4;

/// The most parts of the batch in the element-wise phase of a clocked step.
pub(crate) const EDGE_PARTS: usize = 8;

// Threads.

/// Multiply-adds below which a pass stays with its caller: a thread that sleeps takes
/// some 20 µs to come.
pub(crate) const WORTH_CALLING: usize = unless_miri(1 << 20, 2);

/// Those below which it does where a helper is awake.
pub(crate) const WORTH_SHARING: usize = unless_miri(1 << 19, 1);

/// Rows below which a block of a product's rows is too flat for a thread to be fast with it.
pub(crate) const FLAT_ROWS: usize = unless_miri(24, 2);

/// Columns of a left operand below which a block of them is too flat for a thread to be fast
/// with it, in gradients of weights.
pub(crate) const FLAT_COLUMNS: usize = unless_miri(32, 16);

/// Multiply-adds from which a step is split among threads, by units or by rows: it takes
/// about as long as they take to meet.
pub(crate) const STEP_WORTH_SPLITTING: usize = unless_miri(1 << 17, 1);

/// Multiply-adds in each stretch of a forward pass, a product of the input and some steps,
/// from which helpers are called: threads meet at the end of every one.
pub const STRETCH_WORTH_CALLING: usize = unless_miri(1 << 20, 1);

/// Bytes of recurrent weights up to which threads split the batch and each reads all of
/// them: a core keeps so many in its own cache over the steps.
pub(crate) const OWN_CACHE: usize = unless_miri(1 << 20, 1 << 13);

/// Rows of the batch for each thread from which they split it: tiles of fewer are too flat
/// to be fast.
pub(crate) const OWN_ROWS: usize = unless_miri(6, 1);

// Which way.

/// Rows of a batch from which the products of a clocked group are taken move by move, on
/// inputs where they lie; with fewer the inputs of several moves are gathered.
pub const ROWS_ALONE: usize = unless_miri(16, 3);

/// Whether a layer of so few outputs is dot products over rows as they lie: a panel is two
/// vectors wide, and with up to a quarter of its lanes in use these are faster at any depth
/// and number of rows.
pub(crate) const fn suits_dots(outputs: usize, lanes: usize) -> bool {
    outputs <= lanes / 2
}

/// Bytes of a huge page, and of buffers from which on we ask for them.
pub(crate) const HUGE_PAGE: usize = unless_miri(2 << 20, 4 << 10);

// The tile's loop, and what is asked of memory before it is read.

/// Terms per turn of the tile's loop: so few instructions beside the multiply-adds that
/// they find slots of their own.
pub(crate) const UNROLL: usize = 4;

/// Lines of the panels ahead that a tile asks for in any turn of its loop.
pub(crate) const PREFETCH: usize = 2;

/// The most such lines, if it takes so many to have all of the next block in the end. Few
/// rows are as fast as their panels come, and what they ask for beyond that only delays
/// those.
pub(crate) const fn most_prefetches(rows: usize) -> usize {
    match rows {
        1..=3 => PREFETCH,
        4..=6 => 4,
        _ => 8,
    }
}

/// Lines ahead of the sum that a row's product with bf16 or int8 asks for: the hardware
/// follows each panel, and loses it at its end.
pub(crate) const QUANTISED_AHEAD: usize = 32;

/// Rows by which packing a left operand asks for memory before it reads it: the hardware
/// follows a row, and loses it at its end.
pub(crate) const LHS_AHEAD: usize = 4;

/// Rows by which packing columns asks for memory before it reads it.
pub(crate) const COLUMNS_AHEAD: usize = 16;

/// Terms of each row by which packing weights by rows asks for them before it reads them.
pub(crate) const FILL_TERMS_AHEAD: usize = 64;

/// Rows by which packing weights by columns does.
pub(crate) const FILL_ROWS_AHEAD: usize = 8;
