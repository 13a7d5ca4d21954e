//! One aligned allocation, divided into regions when a pass is planned and granted to it,
//! disjoint, when it runs: both by a table, which is one list of names. Knows lengths; must not
//! know cells.

use crate::Error;
use bptt_kernels::AlignedBuffer;

/// Floats of a cache line.
const LINE: usize = bptt_kernels::ALIGNMENT / size_of::<f32>();

/// A stretch of an allocation.
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

    /// This region, a later one, and all between them.
    pub(crate) fn through(self, last: Self) -> Self {
        Self { len: last.start + last.len - self.start, ..self }
    }
}

/// The regions booked so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What is laid out, for messages.
    what: &'static str,
    /// Each region begins at a multiple of so many floats.
    unit: usize,
    floats: usize,
}

impl Layout {
    /// For regions that each start on a cache line.
    pub(crate) fn in_lines(what: &'static str) -> Self {
        Self { what, unit: LINE, floats: 0 }
    }

    /// For regions that follow each other without gaps.
    pub(crate) fn without_gaps(what: &'static str) -> Self {
        Self { what, unit: 1, floats: 0 }
    }

    /// Books a region of the product of `dims` floats, or an empty one where there are no
    /// dims.
    pub(crate) fn book(&mut self, dims: &[usize]) -> Result<Region, Error> {
        let len = if dims.is_empty() { 0 } else { crate::error::product(self.what, dims)? };
        let region = Region { start: self.floats, len };
        let end = self.floats.checked_add(len.next_multiple_of(self.unit));
        let end = end.ok_or(Error::TooLarge { what: self.what })?;
        self.floats = crate::error::product(self.what, &[end])?;
        Ok(region)
    }

    /// Floats of all regions.
    pub(crate) fn floats(self) -> usize {
        self.floats
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

/// What is left of some memory of which regions are granted in the order in which they were
/// booked; what is empty may stand anywhere.
pub(crate) struct Rest<'a> {
    memory: &'a mut [f32],
    /// Floats of the whole before it.
    start: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    pub(crate) fn all(memory: &'a mut [f32]) -> Self {
        Self { memory, start: 0 }
    }

    /// The floats of the next region. Inlined: a single step of few units is granted six.
    #[inline(always)]
    pub(crate) fn grant(&mut self, region: Region) -> &'a mut [f32] {
        if region.len == 0 {
            return &mut [];
        }
        let (_, rest) = std::mem::take(&mut self.memory).split_at_mut(region.start - self.start);
        let (granted, rest) = rest.split_at_mut(region.len);
        *self = Self { memory: rest, start: region.start + region.len };
        granted
    }
}

/// Makes a table of regions of one list of names. A table of their dims is booked and becomes one
/// of regions, and that is granted and becomes one of floats, both in the order of the list:
/// in which order a table is written down elsewhere does not matter.
macro_rules! regions {
    (
        $(#[$about:meta])*
        $vis:vis struct $table:ident { $($(#[$doc:meta])* $name:ident,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $table<T> {
            $($(#[$doc])* pub $name: T,)+
        }

        impl $table<&[usize]> {
            /// Books a region for each, of the product of its dims; one without dims is empty.
            pub(crate) fn booked(
                self,
                layout: &mut $crate::arena::Layout,
            ) -> Result<$table<$crate::arena::Region>, $crate::Error> {
                Ok($table { $($name: layout.book(self.$name)?,)+ })
            }
        }

        impl $table<$crate::arena::Region> {
            /// The floats of all of them.
            #[inline(always)]
            pub(crate) fn granted(self, memory: &mut [f32]) -> $table<&mut [f32]> {
                let mut rest = $crate::arena::Rest::all(memory);
                $table { $($name: rest.grant(self.$name),)+ }
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

    regions! {
        /// Three regions.
        struct Table {
            a,
            b,
            c,
        }
    }

    #[test]
    fn regions_are_aligned_and_disjoint() {
        let mut layout = Layout::in_lines("the arena");
        // Not in the table's order.
        let dims: Table<&[usize]> = Table { c: &[16], a: &[3, 2], b: &[0] };
        let table = dims.booked(&mut layout).unwrap();
        assert_eq!(layout.bytes(), 4 * 32);
        let mut memory = layout.allocate().unwrap();
        let start = memory.as_ptr() as usize;
        let Table { a, b, c } = table.granted(&mut memory);
        assert_eq!((a.len(), b.len(), c.len()), (6, 0, 16));
        assert_eq!((a.as_ptr() as usize - start, c.as_ptr() as usize - start), (0, 64));
        c.fill(1.0);
        assert_eq!(table.c.of(&memory), [1.0; 16]);
        assert_eq!(table.a.of(&memory), [0.0; 6]);
    }

    #[test]
    fn regions_without_gaps_are_one_stretch() {
        let mut layout = Layout::without_gaps("the parameters");
        let dims: Table<&[usize]> = Table { c: &[1, 2], b: &[3], ..Table::default() };
        let table = dims.booked(&mut layout).unwrap();
        let mut memory = layout.allocate().unwrap();
        assert_eq!((layout.floats(), memory.len()), (5, 5));
        let Table { a, b, c } = table.granted(&mut memory);
        assert_eq!((a.len(), b.len(), c.len()), (0, 3, 2));
        c.copy_from_slice(&[1.0, 2.0]);
        assert_eq!(table.a.through(table.b).of(&memory), [0.0; 3]);
        assert_eq!(table.b.through(table.c).of(&memory), [0.0, 0.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn a_layout_beyond_the_address_space_is_an_error() {
        let mut layout = Layout::in_lines("the arena");
        let error = layout.book(&[usize::MAX / 2, 4]).unwrap_err();
        assert_eq!(error, Error::TooLarge { what: "the arena" });
        layout.book(&[isize::MAX as usize / 8]).unwrap();
        assert!(layout.book(&[isize::MAX as usize / 8]).is_err());
    }
}
