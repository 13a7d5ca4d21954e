//! Where the parameters of a layer lie in their one buffer, by name. Knows lengths; must not know
//! cells.

use crate::Error;
use crate::arena::{Layout, Region, regions};

regions! {
    /// All parameters of a layer, in their order.
    pub struct All {
        /// U.
        input,
        /// W.
        recurrent,
        /// b.
        bias,
        /// The layer's own.
        own,
        /// P.
        projection,
    }
}

regions! {
    /// What a layer has of its own, in blocks of H: their numbers, or where they lie in the
    /// section of its own.
    pub struct Own {
        /// The bias of the extra block: of a GRU with its reset gate after the product.
        extra_bias,
        /// Vectors whose gradients are sums over time of element-wise products: peepholes, ρ.
        diagonal,
        /// The gains of the gates where they are normalised, and of the extra block.
        gain,
        extra_gain,
    }
}

impl Own<usize> {
    /// The blocks that the layer's cell has, without those of normalisation.
    pub(crate) fn of_the_cell(self) -> usize {
        self.extra_bias + self.diagonal
    }
}

/// Where the parameters of a layer lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    pub(crate) all: All<Region>,
    /// Within the section of the layer's own.
    own: Own<Region>,
    len: usize,
}

impl Sections {
    /// Books a section for each, of these dims, and in that of the layer's own a part for each,
    /// of so many blocks of `hidden`.
    pub(crate) fn booked(
        all: All<&[usize]>,
        own: Own<usize>,
        hidden: usize,
    ) -> Result<Self, Error> {
        let what = "the parameters";
        let dims: Own<&[usize]> = Own {
            extra_bias: &[own.extra_bias, hidden],
            diagonal: &[own.diagonal, hidden],
            gain: &[own.gain, hidden],
            extra_gain: &[own.extra_gain, hidden],
        };
        let mut within = Layout::without_gaps(what);
        let own = dims.booked(&mut within)?;
        let mut layout = Layout::without_gaps(what);
        let all: All<&[usize]> = All { own: &[within.floats()], ..all };
        let all = all.booked(&mut layout)?;
        Ok(Self { all, own, len: layout.floats() })
    }

    /// The floats of all of them.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The layer's own.
    pub(crate) fn own<'a>(&self, memory: &'a [f32]) -> Own<&'a [f32]> {
        let own = self.all.own.of(memory);
        let Own { extra_bias, diagonal, gain, extra_gain } = self.own;
        Own {
            extra_bias: extra_bias.of(own),
            diagonal: diagonal.of(own),
            gain: gain.of(own),
            extra_gain: extra_gain.of(own),
        }
    }

    /// The gains of the gates and of the extra block.
    pub(crate) fn gains<'a>(&self, memory: &'a [f32]) -> &'a [f32] {
        let Own { gain, extra_gain, .. } = self.own;
        gain.through(extra_gain).of(self.all.own.of(memory))
    }

    /// All, to be changed, and the layer's own, which are left out of them.
    pub(crate) fn granted<'a>(
        &self,
        memory: &'a mut [f32],
    ) -> (All<&'a mut [f32]>, Own<&'a mut [f32]>) {
        let mut all = self.all.granted(memory);
        let own = self.own.granted(std::mem::take(&mut all.own));
        (all, own)
    }
}
