//! One aligned allocation for many buffers. When a pass is planned it books regions of the memory;
//! when it runs it is granted these regions as disjoint slices. A table of named fields does both.

use crate::Error;
use bptt_kernels::AlignedBuffer;

/// Floats in a cache line.
const LINE: usize = bptt_kernels::ALIGNMENT / size_of::<f32>();

/// A range of the floats of some memory, booked with a [`Layout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    start: usize,
    len: usize,
}

impl Region {
    /// Returns the floats of the region in `memory`, which it was booked in.
    #[inline]
    pub fn of(self, memory: &[f32]) -> &[f32] {
        &memory[self.start..self.start + self.len]
    }

    /// Returns the floats of the region in `memory`, mutably.
    #[inline]
    pub fn of_mut(self, memory: &mut [f32]) -> &mut [f32] {
        &mut memory[self.start..self.start + self.len]
    }

    /// Returns the number of floats in the region.
    pub fn len(self) -> usize {
        self.len
    }

    /// Returns whether the region has no floats.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the region of the first `len` floats, or of all if there are fewer.
    pub(crate) fn first(self, len: usize) -> Self {
        Self { len: self.len.min(len), ..self }
    }

    /// Returns the range of the region in the memory.
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }

    /// Returns where this region of some memory lies, if that memory is the region `outer`.
    pub(crate) fn within(self, outer: Self) -> Self {
        Self { start: outer.start + self.start, ..self }
    }

    /// Returns the region from the start of this one through the end of `last`, a later one.
    pub(crate) fn through(self, last: Self) -> Self {
        Self { len: last.start + last.len - self.start, ..self }
    }
}

/// A plan of memory that has not been allocated yet: regions are booked one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The name of the memory, for messages.
    what: &'static str,
    /// Each region begins at a multiple of this many floats.
    unit: usize,
    /// Floats booked so far.
    floats: usize,
}

impl Layout {
    /// Makes an empty layout whose regions each start on a cache line.
    pub(crate) fn in_lines(what: &'static str) -> Self {
        Self { what, unit: LINE, floats: 0 }
    }

    /// Makes an empty layout whose regions follow each other without gaps.
    pub(crate) fn without_gaps(what: &'static str) -> Self {
        Self { what, unit: 1, floats: 0 }
    }

    /// Books a region whose length is the product of `dims`, or an empty one if `dims` is empty.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if all regions together do not fit the address space.
    pub fn book(&mut self, dims: &[usize]) -> Result<Region, Error> {
        let len = if dims.is_empty() { 0 } else { crate::error::product(self.what, dims)? };
        let region = Region { start: self.floats, len };
        let end = self.floats.checked_add(len.next_multiple_of(self.unit));
        let end = end.ok_or(Error::TooLarge { what: self.what })?;
        self.floats = crate::error::product(self.what, &[end])?;
        Ok(region)
    }

    /// Returns everything that has been booked since there were `start` floats.
    pub(crate) fn since(self, start: usize) -> Region {
        Region { start, len: self.floats - start }
    }

    /// Returns the floats of all regions, gaps included.
    pub(crate) fn floats(self) -> usize {
        self.floats
    }

    /// Returns the bytes of all regions, gaps included.
    pub fn bytes(self) -> usize {
        self.floats * size_of::<f32>()
    }

    /// Allocates the memory, filled with zeros.
    pub(crate) fn allocate(self) -> Result<AlignedBuffer, Error> {
        Ok(AlignedBuffer::try_new(self.floats)?)
    }
}

/// The part of some memory that has not been granted yet. Regions are granted in the order in which
/// they were booked; empty regions may come at any point.
pub(crate) struct Rest<'a> {
    memory: &'a mut [f32],
    /// Floats of the memory before this part.
    start: usize,
}

impl<'a> Rest<'a> {
    /// Begins with all of `memory`.
    #[inline]
    pub(crate) fn all(memory: &'a mut [f32]) -> Self {
        Self { memory, start: 0 }
    }

    /// Grants all remaining floats before position `end` of the memory.
    pub(crate) fn grant_up_to(&mut self, end: usize) -> &'a mut [f32] {
        let (granted, rest) = std::mem::take(&mut self.memory).split_at_mut(end - self.start);
        *self = Self { memory: rest, start: end };
        granted
    }

    /// Grants the floats of `region`. Inlined, since a single step of few units is granted six
    /// regions.
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

/// Defines a table: a struct with one field for each name, generic over what the fields hold. A
/// table of dims is `booked` to give a table of regions, and a table of regions is `granted` to
/// give a table of float slices. Both go through the fields in the order of the definition, so the
/// order in which a struct literal names them does not matter.
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
            /// Books a region for each field: its length is the product of the field's dims, or 0
            /// if there are no dims.
            pub(crate) fn booked(
                self,
                layout: &mut $crate::memory::Layout,
            ) -> Result<$table<$crate::memory::Region>, $crate::Error> {
                Ok($table { $($name: layout.book(self.$name)?,)+ })
            }
        }

        impl $table<$crate::memory::Region> {
            /// Grants the floats of all regions in `memory`.
            #[inline(always)]
            pub(crate) fn granted(self, memory: &mut [f32]) -> $table<&mut [f32]> {
                let mut rest = $crate::memory::Rest::all(memory);
                $table { $($name: rest.grant(self.$name),)+ }
            }
        }
    };
}
pub(crate) use regions;

/// Takes the first `len` floats from `rest` and leaves the others there.
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
        // The order of the literal is not the order of the table.
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
