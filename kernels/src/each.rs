//! The loop of element-wise kernels. Knows lengths; must not know elements.

/// Runs the body once for each vector of a slice of `len` elements. The body gets `at`, the
/// index of the vector's first element, and `lanes`, the number of its elements: `LANES`, or
/// fewer in the last vector if `len` is not a multiple of `LANES`.
///
/// It is a macro because a closure cannot be `#[inline(always)]`, and a closure that is not
/// inlined would be compiled without the instruction set.
macro_rules! each {
    ($S:ty, $len:expr, |$at:ident, $lanes:ident| $body:block) => {{
        let len: usize = $len;
        let tail = len % <$S>::LANES;
        for $at in (0..len - tail).step_by(<$S>::LANES) {
            let $lanes = <$S>::LANES;
            $body
        }
        if tail > 0 {
            let ($at, $lanes) = (len - tail, tail);
            $body
        }
    }};
}
pub(crate) use each;
