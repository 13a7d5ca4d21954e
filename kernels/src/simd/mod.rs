//! The vector operations that every kernel is written with, once for all instruction sets.
//!
//! A type that implements [`Simd`] is a *token*: it can only be made inside the `#[target_feature]`
//! entry of its instruction set, and that entry is only reached through a detected
//! [`Isa`](crate::Isa). This module knows vectors and lanes; it must not know cells, shapes or
//! layouts.
//!
//! Every method here and every kernel body is `#[inline(always)]`: a function that is not inlined
//! into the entry loses the entry's target features and passes its vectors through memory. CI
//! disassembles the entries and refuses calls.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

/// The most f32 lanes that any instruction set has. Padding and alignment are multiples of it where
/// they must not depend on the instruction set.
pub const MAX_LANES: usize = 16;

/// Rows that [`Simd::transpose4`] takes, and lanes that [`Simd::store_quads`] keeps together.
pub(crate) const QUAD: usize = 4;

/// A constant that rounds: for a number of small magnitude, the low bits of the sum with `SHIFT`
/// hold the nearest integer n, since 1.5 · 2²³ leaves no bit below the units. The 254 is twice the
/// exponent bias, for [`Simd::scale`], which makes 2ⁿ in two halves.
pub(crate) const SHIFT: f32 = 12_582_912.0 + 254.0;

/// One instruction set: its vector of f32 and the operations that kernels use.
///
/// # Safety
///
/// An implementation promises that its values exist only where the CPU has the instructions that
/// its methods use.
pub(crate) unsafe trait Simd: Copy + 'static {
    /// A vector of [`LANES`](Self::LANES) f32.
    type V: Copy;
    /// One truth value per lane.
    type M: Copy;
    /// The lanes of a vector.
    const LANES: usize;
    /// The most rows of a register tile that is two vectors wide. The accumulators (twice this),
    /// two vectors of weights and a broadcast must fit the register file.
    const MAX_ROWS: usize;

    /// Runs `kernel` as a function of its own that is not inlined, so that code which several
    /// kernels share is compiled once per instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// A vector with `x` in all lanes.
    fn splat(self, x: f32) -> Self::V;
    /// Reads `LANES` floats, at any alignment.
    ///
    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes `LANES` floats, at any alignment.
    ///
    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads the first `n` floats and no byte beyond them; the other lanes are 0.
    ///
    /// # Safety
    /// `p` is readable for `n` floats, `n ≤ LANES`.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` lanes and no byte beyond them.
    ///
    /// # Safety
    /// `p` is writable for `n` floats, `n ≤ LANES`.
    unsafe fn store_first(self, p: *mut f32, v: Self::V, n: usize);
    /// Reads `2 · LANES` bf16 values and widens them to f32: the values at even places are the
    /// first vector, those at odd places the second.
    ///
    /// # Safety
    /// `p` is readable for `2 · LANES` values.
    unsafe fn load_bf16_pairs(self, p: *const u16) -> [Self::V; 2];
    /// Reads `LANES` int8 values and converts them to f32.
    ///
    /// # Safety
    /// `p` is readable for `LANES` values.
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// Transposes 4 × 4 blocks: lane 4j + i of row r goes to lane 4j + r of row i.
    fn transpose4(self, rows: [Self::V; 4]) -> [Self::V; 4];
    /// Reorders the quads (groups of four lanes) of four vectors: the first quad of each vector,
    /// then the second quad of each, and so on.
    fn zip_quads(self, v: [Self::V; 4]) -> [Self::V; 4];
    /// Writes the first `count` quads of `v`, quad j at `p + j · stride`.
    ///
    /// # Safety
    /// Each of these places is writable for 4 floats.
    unsafe fn store_quads(self, p: *mut f32, stride: usize, v: Self::V, count: usize);
    /// Asks for the cache line at `p` to be brought into the second-level cache. `p` may point
    /// anywhere.
    fn prefetch(self, p: *const f32);

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a − b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`, rounded correctly.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, fused where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c − a · b`, fused where the instruction set can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller value; NaN where `b` is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger value; NaN where `b` is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a, rounded correctly.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// `1 / a` to 13 bits or better, for normal `a` below 2¹²⁶; exact where `a` is a power of two.
    #[inline(always)]
    fn recip(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// `a` with its low eight bits cleared, which leaves 16 significant bits of a normal number.
    fn shorten(self, a: Self::V) -> Self::V;
    /// 2ⁿ for `t = SHIFT − 127 + n`, integral n in −126 ≤ n ≤ 127: the low bits of `t`, shifted to
    /// the place of the exponent.
    fn exponent(self, t: Self::V) -> Self::V;
    /// `a · 2ⁿ` with one rounding for `t = SHIFT + n`, integral n in −252 ≤ n ≤ 252, and `a` in [½,
    /// 2). Overflows to ∞, and gives denormals where the result is one.
    fn scale(self, a: Self::V, t: Self::V) -> Self::V;
    /// The lanes where `a < b`; false where either is NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `yes` where `m` is true, else `no`.
    fn select(self, m: Self::M, yes: Self::V, no: Self::V) -> Self::V;
    /// The sum of the lanes, by halving: first lane i is added to lane i + LANES/2.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane, for vectors without NaN.
    fn largest(self, a: Self::V) -> f32;

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}

/// A computation that is written once over [`Simd`]. A whole loop nest runs within one call of the
/// entry, so the target features are entered once per call.
pub(crate) trait Kernel {
    /// The result of [`run`](Self::run).
    type Output;
    /// The body; implementations mark it `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Makes the detection of an instruction set and its `#[target_feature]` entry from one list of
/// features, so that the two cannot disagree.
macro_rules! entry {
    ($token:ident, $detected:ident, $($feature:tt),+) => {
        /// Whether this CPU has every feature that [`enter`] enables.
        pub(crate) fn detect() -> bool {
            $(std::arch::$detected!($feature))&&+
        }

        /// Runs `kernel` with this instruction set.
        ///
        /// # Safety
        /// [`detect`] has returned true.
        #[inline(never)]
        $(#[target_feature(enable = $feature)])+
        pub(crate) unsafe fn enter<K: crate::simd::Kernel>(kernel: K) -> K::Output {
            // Lets the function begin on a cache line wherever it is linked, since the place of its
            // loops within lines shows in the time of a small step. The directive pads one byte at
            // most here; it works because it also aligns the function's section.
            #[cfg(not(miri))]
            // SAFETY: the padding is no instruction, or one that does nothing.
            unsafe {
                std::arch::asm!(
                    ".p2align 6, , 1",
                    options(nomem, nostack, preserves_flags)
                );
            }
            kernel.run($token(()))
        }
    };
}
pub(crate) use entry;

/// Writes trait methods that are one intrinsic each.
macro_rules! intrinsics {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),+) -> $out:ident = $body:expr;)+) => {
        $($(#[$doc])*
        #[inline(always)]
        fn $name(self, $($arg: Self::V),+) -> Self::$out {
            // SAFETY: a token exists only behind `enter`, whose caller has
            // checked that the CPU has these instructions.
            unsafe { $body }
        })+
    };
}
pub(crate) use intrinsics;

/// Writes the other trait methods that work on registers alone.
macro_rules! registers {
    ($($name:ident($($arg:tt: $ty:ty),+) -> $out:ty = $body:expr;)+) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),+) -> $out {
            // SAFETY: as in `intrinsics`.
            unsafe { $body }
        })+
    };
}
pub(crate) use registers;

/// Writes the trait methods that read or write memory.
macro_rules! memory {
    ($($name:ident($($arg:ident: $ty:ty),+) $(-> $out:ty)? = $body:expr;)+) => {
        $(#[inline(always)]
        unsafe fn $name(self, $($arg: $ty),+) $(-> $out)? {
            // SAFETY: the trait's method of this name says what `p` must be valid for, and
            // nothing beyond that is read or written; the instructions as in `intrinsics`.
            unsafe { $body }
        })+
    };
}
pub(crate) use memory;
