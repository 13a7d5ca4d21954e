//! Drawn steps of an sLSTM, and the calls of the kernels on them.

use super::filled;
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::slstm::{SlstmBackward, SlstmForget, SlstmForward, SlstmKept, SlstmSizes};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, KernelError};
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

/// Floats between the rows of arrays that may have gaps.
pub const SLSTM_GAP: usize = 3;

/// What a step is given, and where its results go, in buffers of some kind.
#[derive(Clone, Debug)]
pub struct SlstmCase<B = Vec<f32>> {
    pub sizes: SlstmSizes,
    pub forget: SlstmForget,
    pub gates: B,
    pub recurrent: B,
    /// c, n and m, `[B, H]`.
    pub state: [B; 3],
    pub y: B,
    pub h: B,
    /// c, n and the slopes.
    pub kept: [B; 3],
}

/// What a backward step is given beside a forward step, and where its results go.
#[derive(Clone, Debug)]
pub struct SlstmBack<B = Vec<f32>> {
    pub gates: B,
    pub dy: B,
    pub dh: B,
    /// ∂L/∂c and ∂L/∂n, `[B, H]`.
    pub d_state: [B; 2],
    pub dz: B,
}

impl SlstmCase {
    pub fn draw(sizes: SlstmSizes, forget: SlstmForget, seed: u64, scale: f32) -> Self {
        let SlstmSizes { batch, rows, heads, units } = sizes;
        let hidden = heads * units;
        let slopes = usize::from(forget == SlstmForget::Logistic) * rows * hidden;
        let mut n: Vec<f32> = uniform(seed + 3, batch * hidden, 1.0);
        // Every third unit or so holds nothing.
        n.iter_mut().for_each(|n| *n = if *n < -0.3 { 0.0 } else { n.abs() + 0.5 });
        let mut gates = filled(rows * (4 * hidden + SLSTM_GAP));
        for (row, z) in gates.chunks_mut(4 * hidden + SLSTM_GAP).enumerate() {
            z[..4 * hidden].copy_from_slice(&uniform(seed + 10 + row as u64, 4 * hidden, scale));
        }
        Self {
            sizes,
            forget,
            gates,
            recurrent: uniform(seed + 1, heads * batch * (4 * units + SLSTM_GAP), scale),
            state: [
                uniform(seed + 2, batch * hidden, 1.0),
                n,
                uniform(seed + 4, batch * hidden, 3.0),
            ],
            y: filled(rows * (hidden + SLSTM_GAP)),
            h: filled(batch * hidden),
            kept: [rows * hidden, rows * hidden, slopes].map(filled),
        }
    }

    /// What a backward step over this one, after it, is given.
    pub fn back(&self, seed: u64) -> SlstmBack {
        let SlstmSizes { batch, rows, .. } = self.sizes;
        let hidden = self.hidden();
        let of_row = |row: &[f32]| row[..4 * hidden].to_vec();
        SlstmBack {
            gates: self.gates.chunks(4 * hidden + SLSTM_GAP).flat_map(of_row).collect(),
            dy: uniform(seed, rows * (hidden + SLSTM_GAP), 1.0),
            dh: uniform(seed + 1, batch * hidden, 1.0),
            d_state: [2, 3].map(|nth| uniform(seed + nth, batch * hidden, 1.0)),
            dz: filled(4 * batch * hidden),
        }
    }
}

impl<B: DerefMut<Target = [f32]>> SlstmCase<B> {
    /// The same values in buffers that `make` makes.
    pub fn within<C>(&self, make: impl Fn(&[f32]) -> C) -> SlstmCase<C> {
        SlstmCase {
            sizes: self.sizes,
            forget: self.forget,
            gates: make(&self.gates),
            recurrent: make(&self.recurrent),
            state: self.state.each_ref().map(|part| make(part)),
            y: make(&self.y),
            h: make(&self.h),
            kept: self.kept.each_ref().map(|part| make(part)),
        }
    }

    /// All that a step writes.
    pub fn results(&self) -> Vec<f32> {
        let [c, n, m] = &self.state;
        let [kept_c, kept_n, slopes] = &self.kept;
        let all: [&[f32]; 9] = [&self.gates, c, n, m, &self.y, &self.h, kept_c, kept_n, slopes];
        all.concat()
    }

    pub fn hidden(&self) -> usize {
        self.sizes.heads * self.sizes.units
    }

    pub fn forward(
        &mut self,
        isa: Isa,
        keep: bool,
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let hidden = self.hidden();
        let [c, n, m] = &mut self.state;
        let [kept_c, kept_n, slopes] = &mut self.kept;
        SlstmForward {
            sizes: self.sizes,
            forget: self.forget,
            gates: &mut self.gates,
            gates_stride: 4 * hidden + SLSTM_GAP,
            recurrent: &self.recurrent,
            recurrent_stride: 4 * self.sizes.units + SLSTM_GAP,
            c,
            n,
            m,
            y: StridedMut { values: &mut self.y, stride: hidden + SLSTM_GAP },
            h: &mut self.h,
            kept: keep.then_some(SlstmKept { c: kept_c, n: kept_n, slopes }),
        }
        .run(isa, pass)
    }

    /// Takes the backward step; `before` is the case before the forward step.
    pub fn backward(
        &self,
        isa: Isa,
        before: &Self,
        back: &mut SlstmBack<B>,
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let stride = self.hidden() + SLSTM_GAP;
        let [dc, dn] = &mut back.d_state;
        SlstmBackward {
            sizes: self.sizes,
            forget: self.forget,
            gates: &mut back.gates,
            slopes: &self.kept[2],
            c_before: &before.state[0],
            n_before: &before.state[1],
            n: &self.kept[1],
            y: Strided { values: &self.y, stride },
            dy: Strided { values: &back.dy, stride },
            dh: &back.dh,
            dc,
            dn,
            dz: &mut back.dz,
        }
        .run(isa, pass)
    }
}

impl SlstmBack {
    /// The same values in buffers that `make` makes.
    pub fn within<C>(&self, make: impl Fn(&[f32]) -> C) -> SlstmBack<C> {
        SlstmBack {
            gates: make(&self.gates),
            dy: make(&self.dy),
            dh: make(&self.dh),
            d_state: self.d_state.each_ref().map(|part| make(part)),
            dz: make(&self.dz),
        }
    }
}

impl<B: DerefMut<Target = [f32]>> SlstmBack<B> {
    /// All that a step writes.
    pub fn results(&self) -> Vec<f32> {
        let [dc, dn] = &self.d_state;
        [&self.gates[..], dc, dn, &self.dz].concat()
    }
}
