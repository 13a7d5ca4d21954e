//! Where the parameters of a recurrent layer lie in the one buffer that holds them. Knows lengths;
//! must not know cells.

use crate::Error;
use crate::memory::{Layout, Region, regions};

regions! {
    /// All parameters of a layer, in their order.
    pub(super) struct All {
        /// U, `[GH, I]`.
        weight_ih,
        /// W, `[delays, GH, R]`.
        weight_hh,
        /// b, `[GH]`.
        bias,
        /// All vectors of [`Extra`], one after the other.
        extra,
        /// P, `[R, H]`.
        weight_hr,
    }
}

regions! {
    /// Vectors of H floats that only some layers have. `T` is the number of vectors of a kind, or
    /// their place within [`All::extra`].
    pub(super) struct Extra {
        /// b_hn of a GRU with its reset gate after the product.
        bias,
        /// Vectors whose gradients are sums over time of element-wise products: peepholes or ρ.
        diagonal,
        /// The gains γ of the gates, with layer normalisation.
        gain,
        /// The gain γ_hn of a normalised GRU with its reset gate after the product.
        gain_extra,
    }
}

/// Where the parameters of a recurrent layer lie in their buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    all: All<Region>,
    /// Places within the section `all.extra`.
    extra: Extra<Region>,
    len: usize,
}

impl Sections {
    /// Books a section for each parameter, with the dims in `all`. The section of the extra
    /// parameters gets a part for each kind, with as many vectors of `hidden` floats as `extra`
    /// says.
    pub(super) fn booked(
        all: All<&[usize]>,
        extra: Extra<usize>,
        hidden: usize,
    ) -> Result<Self, Error> {
        let what = "the parameters";
        let dims: Extra<&[usize]> = Extra {
            bias: &[extra.bias, hidden],
            diagonal: &[extra.diagonal, hidden],
            gain: &[extra.gain, hidden],
            gain_extra: &[extra.gain_extra, hidden],
        };
        let mut within = Layout::without_gaps(what);
        let extra = dims.booked(&mut within)?;
        let mut layout = Layout::without_gaps(what);
        let all: All<&[usize]> = All { extra: &[within.floats()], ..all };
        let all = all.booked(&mut layout)?;
        Ok(Self { all, extra, len: layout.floats() })
    }

    /// Returns the number of floats in all parameters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns all parameters, and the extra parameters once more by kind.
    pub(super) fn of<'a>(&self, memory: &'a [f32]) -> (All<&'a [f32]>, Extra<&'a [f32]>) {
        let All { weight_ih, weight_hh, bias, extra, weight_hr } = self.all;
        let all = All {
            weight_ih: weight_ih.of(memory),
            weight_hh: weight_hh.of(memory),
            bias: bias.of(memory),
            extra: extra.of(memory),
            weight_hr: weight_hr.of(memory),
        };
        let Extra { bias, diagonal, gain, gain_extra } = self.extra;
        let extra = Extra {
            bias: bias.of(all.extra),
            diagonal: diagonal.of(all.extra),
            gain: gain.of(all.extra),
            gain_extra: gain_extra.of(all.extra),
        };
        (all, extra)
    }

    /// Returns the gains of the gates, followed by γ_hn.
    pub(super) fn gains<'a>(&self, memory: &'a [f32]) -> &'a [f32] {
        let Extra { gain, gain_extra, .. } = self.extra;
        gain.through(gain_extra).of(self.all.extra.of(memory))
    }

    /// Returns all parameters and the extra parameters by kind, mutably. `All::extra` is empty,
    /// because its floats are in `Extra`.
    pub(super) fn granted<'a>(
        &self,
        memory: &'a mut [f32],
    ) -> (All<&'a mut [f32]>, Extra<&'a mut [f32]>) {
        let mut all = self.all.granted(memory);
        let extra = self.extra.granted(std::mem::take(&mut all.extra));
        (all, extra)
    }
}
