//! Drawn steps of an sLSTM, and the calls of the kernels on them.

use crate::common::filled;
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::slstm::{SlstmBackward, SlstmForget, SlstmForward, SlstmKept, SlstmSizes};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, KernelError};
use bptt_reference::sample::uniform;

/// Floats between the rows of arrays that may have gaps.
pub const GAP: usize = 3;

/// What a step is given, and where its results go.
#[derive(Clone, Debug)]
pub struct Case {
    pub sizes: SlstmSizes,
    pub forget: SlstmForget,
    pub gates: Vec<f32>,
    pub recurrent: Vec<f32>,
    /// c, n and m, `[B, H]`.
    pub state: [Vec<f32>; 3],
    pub y: Vec<f32>,
    pub h: Vec<f32>,
    /// c, n and the slopes.
    pub kept: [Vec<f32>; 3],
}

/// What a backward step is given beside a forward step, and where its results go.
#[derive(Clone, Debug)]
pub struct Back {
    pub gates: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh: Vec<f32>,
    /// ∂L/∂c and ∂L/∂n, `[B, H]`.
    pub d_state: [Vec<f32>; 2],
    pub dz: Vec<f32>,
}

impl Case {
    pub fn draw(sizes: SlstmSizes, forget: SlstmForget, seed: u64, scale: f32) -> Self {
        let SlstmSizes { batch, rows, heads, units } = sizes;
        let hidden = heads * units;
        let slopes = usize::from(forget == SlstmForget::Logistic) * rows * hidden;
        let mut n: Vec<f32> = uniform(seed + 3, batch * hidden, 1.0);
        // Every third unit or so holds nothing.
        n.iter_mut().for_each(|n| *n = if *n < -0.3 { 0.0 } else { n.abs() + 0.5 });
        let mut gates = filled(rows * (4 * hidden + GAP));
        for (row, z) in gates.chunks_mut(4 * hidden + GAP).enumerate() {
            z[..4 * hidden].copy_from_slice(&uniform(seed + 10 + row as u64, 4 * hidden, scale));
        }
        Self {
            sizes,
            forget,
            gates,
            recurrent: uniform(seed + 1, heads * batch * (4 * units + GAP), scale),
            state: [
                uniform(seed + 2, batch * hidden, 1.0),
                n,
                uniform(seed + 4, batch * hidden, 3.0),
            ],
            y: filled(rows * (hidden + GAP)),
            h: filled(batch * hidden),
            kept: [rows * hidden, rows * hidden, slopes].map(filled),
        }
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
            gates_stride: 4 * hidden + GAP,
            recurrent: &self.recurrent,
            recurrent_stride: 4 * self.sizes.units + GAP,
            c,
            n,
            m,
            y: StridedMut { values: &mut self.y, stride: hidden + GAP },
            h: &mut self.h,
            kept: keep.then_some(SlstmKept { c: kept_c, n: kept_n, slopes }),
        }
        .run(isa, pass)
    }

    /// What a backward step over this one, after it, is given.
    pub fn back(&self, seed: u64) -> Back {
        let SlstmSizes { batch, rows, .. } = self.sizes;
        let hidden = self.hidden();
        let of_row = |row: &[f32]| row[..4 * hidden].to_vec();
        Back {
            gates: self.gates.chunks(4 * hidden + GAP).flat_map(of_row).collect(),
            dy: uniform(seed, rows * (hidden + GAP), 1.0),
            dh: uniform(seed + 1, batch * hidden, 1.0),
            d_state: [2, 3].map(|nth| uniform(seed + nth, batch * hidden, 1.0)),
            dz: filled(4 * batch * hidden),
        }
    }

    /// Takes the backward step; `before` is the case before the forward step.
    pub fn backward(
        &self,
        isa: Isa,
        before: &Case,
        back: &mut Back,
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let stride = self.hidden() + GAP;
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
