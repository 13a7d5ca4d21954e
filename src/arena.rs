//! One aligned allocation, divided into regions when a pass is planned and
//! granted to it, disjoint, when it runs. Knows lengths; must not know cells.

use crate::Error;
use bptt_kernels::AlignedBuffer;

/// Floats of a cache line: every region starts on one.
const LINE: usize = bptt_kernels::ALIGNMENT / size_of::<f32>();

/// A stretch of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region {
    start: usize,
    len: usize,
}

impl Region {
    /// The region's floats.
    #[inline]
    pub(crate) fn of(self, memory: &[f32]) -> &[f32] {
        &memory[self.start..self.start + self.len]
    }
}

/// The regions booked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    floats: usize,
}

impl Layout {
    /// Books a region of the product of `dims` floats, rounded up to whole lines.
    pub(crate) fn book(&mut self, dims: &[usize]) -> Result<Region, Error> {
        let region = Region { start: self.floats, len: crate::error::product("the arena", dims)? };
        let end = self.floats.checked_add(region.len.next_multiple_of(LINE));
        let end = end.ok_or(Error::TooLarge { what: "the arena" })?;
        self.floats = crate::error::product("the arena", &[end])?;
        Ok(region)
    }

    /// Bytes of all regions.
    pub(crate) fn bytes(self) -> usize {
        self.floats * size_of::<f32>()
    }

    /// The memory, zeroed.
    pub(crate) fn allocate(self) -> Result<AlignedBuffer, Error> {
        Ok(AlignedBuffer::try_new(self.floats)?)
    }
}

/// The floats of several regions at once, which are given in the order in which
/// they were booked; what is empty may stand anywhere.
#[inline]
pub(crate) fn grant<const N: usize>(memory: &mut [f32], regions: [Region; N]) -> [&mut [f32]; N] {
    let (mut rest, mut at) = (memory, 0);
    // Not by `map`, which is a call for a stream of few units.
    let mut granted = [(); N].map(|()| <&mut [f32]>::default());
    for (granted, region) in granted.iter_mut().zip(regions) {
        if region.len > 0 {
            let (_, tail) = std::mem::take(&mut rest).split_at_mut(region.start - at);
            (*granted, rest) = tail.split_at_mut(region.len);
            at = region.start + region.len;
        }
    }
    granted
}

/// Makes the struct, and the grant of all of its regions, of one list.
macro_rules! regions {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// The regions of an arena, or their floats.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Regions<T> {
            $($(#[$doc])* pub $name: T,)+
        }

        impl Regions<Region> {
            /// The floats of all of them.
            #[inline]
            pub(super) fn granted(self, memory: &mut [f32]) -> Regions<&mut [f32]> {
                let Regions { $($name),+ } = self;
                let [$($name),+] = $crate::arena::grant(memory, [$($name),+]);
                Regions { $($name),+ }
            }
        }
    };
}
pub(crate) use regions;

/// The first `len` floats of what is left of a region.
#[inline]
pub(crate) fn first<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (first, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_aligned_and_disjoint() {
        let mut layout = Layout::default();
        let a = layout.book(&[3, 5]).unwrap();
        let b = layout.book(&[0]).unwrap();
        let c = layout.book(&[16]).unwrap();
        assert_eq!(layout.bytes(), 4 * 32);
        let mut memory = layout.allocate().unwrap();
        let start = memory.as_ptr() as usize;
        let [a, b, c] = grant(&mut memory, [a, b, c]);
        assert_eq!((a.len(), b.len(), c.len()), (15, 0, 16));
        assert_eq!(c.as_ptr() as usize - start, 64);
    }

    #[test]
    fn a_layout_beyond_the_address_space_is_an_error() {
        let mut layout = Layout::default();
        let error = layout.book(&[usize::MAX / 2, 4]).unwrap_err();
        assert_eq!(error, Error::TooLarge { what: "the arena" });
        layout.book(&[isize::MAX as usize / 8]).unwrap();
        assert!(layout.book(&[isize::MAX as usize / 8]).is_err());
    }
}
