//! The list of scanned cells, and what a caller has to know of each. Must not know their equations.

use super::cell::ScanCell;
use crate::cells::Activation;

/// How a QRNN pools its candidates over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// `h = f ⊙ h₋ + (1 − f) ⊙ n`.
    Forget,
    /// `c = f ⊙ c₋ + (1 − f) ⊙ n`, `h = o ⊙ c`.
    ForgetOutput,
    /// `c = f ⊙ c₋ + i ⊙ n`, `h = o ⊙ c`.
    ForgetInputOutput,
}

/// A cell that is scanned over time. Its file in `kernels/src/scan/` has the equations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scan {
    /// The minimal GRU.
    MinGru {
        /// Whether the candidate is g of its sum instead of the sum.
        positive: bool,
    },
    /// The minimal LSTM with normalised gates.
    MinLstm {
        /// Whether the candidate is g of its sum instead of the sum.
        positive: bool,
    },
    /// The simple recurrent unit.
    Sru {
        /// Whether a fourth pre-activation passes by the cell instead of the input.
        fourth: bool,
    },
    /// The pooling of a quasi-recurrent network.
    Qrnn(Pooling),
    /// The independently recurrent unit, with its function φ.
    IndRnn(Activation),
    /// The real-gated linear recurrent unit.
    RgLru,
}

/// The sizes by which a caller allocates memory for a cell's scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanGeometry {
    /// Blocks of H pre-activations, G.
    pub gates: usize,
    /// Vectors of H parameters that a step reads.
    pub vectors: usize,
    /// Vectors of H parameters that have a gradient: the first ones.
    pub learned: usize,
    /// Whether a step reads the input beside the products. There are as many inputs as units then.
    pub input: bool,
    /// Whether there is a cell state that is not the output.
    pub cells: bool,
}

impl ScanGeometry {
    fn of<C: ScanCell>(_cell: C) -> Self {
        Self {
            gates: C::GATES,
            vectors: C::VECTORS,
            learned: C::LEARNED,
            input: C::INPUT,
            cells: C::CELLS,
        }
    }
}

/// Runs an expression on the cell's type, so that it is compiled for each of them.
macro_rules! with_scan {
    ($scan:expr, |$cell:ident| $body:expr) => {
        match $scan {
            $crate::scan::kinds::Scan::MinGru { positive } => {
                let $cell = $crate::scan::min_gru::MinGru { positive };
                $body
            }
            $crate::scan::kinds::Scan::MinLstm { positive } => {
                let $cell = $crate::scan::min_lstm::MinLstm { positive };
                $body
            }
            $crate::scan::kinds::Scan::Sru { fourth: false } => {
                let $cell = $crate::scan::sru::Sru::<false>;
                $body
            }
            $crate::scan::kinds::Scan::Sru { fourth: true } => {
                let $cell = $crate::scan::sru::Sru::<true>;
                $body
            }
            $crate::scan::kinds::Scan::Qrnn($crate::scan::kinds::Pooling::Forget) => {
                let $cell = $crate::scan::qrnn::Qrnn::<false, false>;
                $body
            }
            $crate::scan::kinds::Scan::Qrnn($crate::scan::kinds::Pooling::ForgetOutput) => {
                let $cell = $crate::scan::qrnn::Qrnn::<true, false>;
                $body
            }
            $crate::scan::kinds::Scan::Qrnn($crate::scan::kinds::Pooling::ForgetInputOutput) => {
                let $cell = $crate::scan::qrnn::Qrnn::<true, true>;
                $body
            }
            $crate::scan::kinds::Scan::IndRnn($crate::cells::Activation::Usual(phi)) => {
                let $cell = $crate::scan::ind_rnn::IndRnn { phi };
                $body
            }
            $crate::scan::kinds::Scan::IndRnn(phi) => {
                let $cell = $crate::scan::ind_rnn::IndRnn { phi };
                $body
            }
            $crate::scan::kinds::Scan::RgLru => {
                let $cell = $crate::scan::rg_lru::RgLru;
                $body
            }
        }
    };
}
pub(super) use with_scan;

impl Scan {
    /// Returns the sizes by which a caller allocates memory.
    pub fn geometry(self) -> ScanGeometry {
        with_scan!(self, |cell| ScanGeometry::of(cell))
    }
}
