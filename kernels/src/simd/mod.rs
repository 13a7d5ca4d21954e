//! The vector operations that every kernel is written over, once.
//!
//! A type that implements [`Simd`] is a *token*: it can only be made inside the
//! `#[target_feature]` entry of its instruction set, which is only reached
//! through a detected [`Isa`](crate::Isa). This module knows vectors and lanes;
//! it must not know cells, shapes or layouts.
//!
//! Every method and every kernel body above it is `#[inline(always)]`: a helper
//! that is not inlined into the entry loses the entry's target features and
//! passes its vectors through memory. CI disassembles the entries and refuses
//! calls.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

/// The most f32 lanes that any instruction set has: what padding and alignment
/// are reckoned in where they must not depend on the instruction set.
pub const MAX_LANES: usize = 16;

/// Rows that [`Simd::transpose4`] takes, and lanes that [`Simd::store_quads`] keeps
/// together.
pub(crate) const QUAD: usize = 4;

/// Added to a number of small magnitude, leaves its nearest integer n as the sum:
/// 1.5 · 2²³ leaves no bit below the units. The 254 in the low bits is the
/// exponent bias twice, for [`Simd::scale`], which makes 2ⁿ in two halves.
pub(crate) const SHIFT: f32 = 12_582_912.0 + 254.0;

/// One vector register of f32 and what kernels do with it.
///
/// # Safety
///
/// An implementation promises that its values exist only where the CPU has the
/// instructions that its methods use.
pub(crate) unsafe trait Simd: Copy + 'static {
    /// A vector of [`LANES`](Self::LANES) f32.
    type V: Copy;
    /// One truth value per lane.
    type M: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Most rows of a register tile that is two vectors wide; the accumulators
    /// (twice this), two weights and a broadcast must fit the register file.
    const MAX_ROWS: usize;

    /// Runs `kernel` as a function of its own, not inlined: what several kernels
    /// share is compiled once per instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Reads `LANES` floats; any alignment.
    ///
    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes `LANES` floats; any alignment.
    ///
    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads the first `n` floats and no byte beyond; the other lanes are 0.
    ///
    /// # Safety
    /// `p` is readable for `n` floats, `n ≤ LANES`.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` lanes and no byte beyond.
    ///
    /// # Safety
    /// `p` is writable for `n` floats, `n ≤ LANES`.
    unsafe fn store_first(self, p: *mut f32, v: Self::V, n: usize);
    /// Reads `2 · LANES` bf16 and widens them: those at even places are the first
    /// vector, those at odd ones the second.
    ///
    /// # Safety
    /// `p` is readable for them.
    unsafe fn load_bf16_pairs(self, p: *const u16) -> [Self::V; 2];
    /// Reads `LANES` int8 as floats.
    ///
    /// # Safety
    /// `p` is readable for them.
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// Transposes 4 × 4 blocks: lane 4j + i of row r goes to lane 4j + r of row i.
    fn transpose4(self, rows: [Self::V; 4]) -> [Self::V; 4];
    /// The fours of lanes of four vectors in another order: the first of each, then the
    /// second of each, and so on.
    fn zip_quads(self, v: [Self::V; 4]) -> [Self::V; 4];
    /// Writes the first `count` fours of lanes of `v`, the j-th at `p + j · stride`.
    ///
    /// # Safety
    /// Each of these places is writable for 4 floats.
    unsafe fn store_quads(self, p: *mut f32, stride: usize, v: Self::V, count: usize);
    /// Asks for the cache line at `p` to be brought into the second-level cache;
    /// `p` may point anywhere.
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
    /// The smaller; NaN where `b` is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; NaN where `b` is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a, rounded correctly.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// `1 / a` to 13 bits or better, for normal `a` below 2¹²⁶; exact where `a`
    /// is a power of two.
    #[inline(always)]
    fn recip(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// `a` with its low eight bits cleared: 16 significant bits of a normal one.
    fn shorten(self, a: Self::V) -> Self::V;
    /// 2ⁿ for `t = SHIFT − 127 + n`, integral n in −126 ≤ n ≤ 127: the bits of `t`
    /// moved up to the exponent.
    fn exponent(self, t: Self::V) -> Self::V;
    /// `a · 2ⁿ` with one rounding for `t = SHIFT + n`, integral n in
    /// −252 ≤ n ≤ 252, and `a` in [½, 2): overflows to ∞ and goes through the
    /// denormals.
    fn scale(self, a: Self::V, t: Self::V) -> Self::V;
    /// Lanes where `a < b`; false where either is NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `yes` where `m`, else `no`.
    fn select(self, m: Self::M, yes: Self::V, no: Self::V) -> Self::V;
    /// The sum of the lanes, by halving: lane i with lane i + LANES/2 first.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane, for vectors without NaN.
    fn largest(self, a: Self::V) -> f32;

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}

/// A computation that is written once over [`Simd`] and entered once per call,
/// so that a whole loop nest runs behind one feature boundary.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The body; implementations mark it `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Makes, from one list of features, an instruction set's detection and its
/// `#[target_feature]` entry, so that the two cannot disagree.
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
            // On a line of its own in the cache, wherever it is linked: where its loops fall is
            // a tenth of a step of 16 units. Pads one byte at the most, at this place; what
            // matters is that the function's section is aligned as far.
            #[cfg(not(miri))]
            // SAFETY: no instruction, or one that does nothing.
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

/// Writes the other trait methods on registers alone.
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
            // SAFETY: what `p` is good for is promised to the trait's method of this name, and
            // nothing beyond is read or written; the instructions as in `intrinsics`.
            unsafe { $body }
        })+
    };
}
pub(crate) use memory;
