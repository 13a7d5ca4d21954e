//! The loop of element-wise kernels. Knows lengths; must not know elements.

/// Runs a body for each vector of a slice of that length, with its place and its
/// lanes: `LANES` of them, but fewer in the last where the length is no multiple.
///
/// A macro, because a closure has no `#[inline(always)]`, and one that stays a call
/// loses the instruction set.
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
