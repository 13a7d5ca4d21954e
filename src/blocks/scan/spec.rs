//! The description of a scanned layer: its sizes, the kernel's cell, and the parameters that only
//! some cells have.

use crate::Error;
use crate::blocks::Config;
use crate::error::{check_size, product};
use crate::memory::{Layout, Region, regions};
use crate::params::unit;
use bptt_kernels::scan::{Scan, ScanGeometry};
use rand_core::Rng;

/// The c of an RG-LRU.
const RATE: f64 = 8.0;

/// Vectors of parameters that only some cells have: a weight of each unit, beside the matrix and
/// the biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// There are none.
    None,
    /// The weights of the cell state in two gates, which begin as 0.
    OfCellState,
    /// The weight of the hidden state, which is drawn from 0 to 1.
    OfHiddenState,
    /// Λ of an RG-LRU, drawn so that the share of the state that stays at a step with r = 1, is
    /// even in [0.9, 0.999].
    Rate,
}

impl Own {
    /// Returns the name in the manifest, if there are such vectors.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::OfCellState => Some("weight_c"),
            Self::OfHiddenState => Some("weight_hh"),
            Self::Rate => Some("lambda"),
        }
    }

    /// Draws the initial values, which are all 0 when this is called.
    pub(super) fn draw(self, own: &mut [f32], rng: &mut dyn Rng) {
        for value in own {
            match self {
                Self::None | Self::OfCellState => {}
                Self::OfHiddenState => *value = unit(rng) as f32,
                Self::Rate => {
                    let stays = 0.9 + 0.099 * unit(rng);
                    // softplus(Λ) = −ln(stays) / c
                    *value = (-stays.ln() / RATE).exp_m1().ln() as f32;
                }
            }
        }
    }

    /// Computes the `vectors` that the kernel's cell reads from the parameters `own`. What is not
    /// the same is computed in f64, so that it is as exact as an f32 can be.
    pub(super) fn prepare(self, own: &[f32], vectors: &mut [f32]) {
        if self != Self::Rate {
            return vectors.copy_from_slice(own);
        }
        let (rates, slopes) = vectors.split_at_mut(own.len());
        for (&lambda, (rate, slope)) in own.iter().zip(rates.iter_mut().zip(slopes)) {
            let lambda = f64::from(lambda);
            let softplus = lambda.max(0.0) + (-lambda.abs()).exp().ln_1p();
            *rate = (-RATE * softplus) as f32;
            *slope = (-RATE / (1.0 + (-lambda).exp())) as f32;
        }
    }
}

/// The description of a scanned layer. Each layer makes its description, and everything else
/// follows from that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScanLayer {
    pub(super) config: Config,
    /// Features in a row of the input, I.
    pub(super) input: usize,
    /// Units, H.
    pub(super) hidden: usize,
    pub(super) cell: Scan,
    pub(super) own: Own,
}

regions! {
    /// The parameters, in the order in which they are declared.
    pub(super) struct Sections {
        /// `[GH, I]`.
        weight_ih,
        /// `[GH]`.
        bias,
        /// The cell's own, `[vectors, H]`.
        own,
    }
}

impl ScanLayer {
    /// Returns an error unless both sizes are 1 or more.
    pub(super) fn check_sizes(input_size: usize, hidden_size: usize) -> Result<(), Error> {
        check_size("input_size", input_size)?;
        check_size("hidden_size", hidden_size)?;
        Ok(())
    }

    /// Returns an error unless the parameters fit the address space.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.sections().map(|_| ())
    }

    /// Sizes needed to book memory.
    pub(super) fn geometry(&self) -> ScanGeometry {
        self.cell.geometry()
    }

    /// Returns GH, the number of pre-activations in a row.
    pub(super) fn gate_row(&self) -> usize {
        self.geometry().gates * self.hidden
    }

    /// Returns where each parameter lies in the buffer that holds them all.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they do not fit the address space.
    pub(super) fn sections(&self) -> Result<Sections<Region>, Error> {
        let ScanGeometry { gates, learned, .. } = self.geometry();
        let dims: Sections<&[usize]> = Sections {
            weight_ih: &[gates, self.hidden, self.input],
            bias: &[gates, self.hidden],
            own: &[learned, self.hidden],
        };
        let mut layout = Layout::without_gaps("the parameters");
        let sections = dims.booked(&mut layout)?;
        product("the parameters", &[layout.floats()])?;
        Ok(sections)
    }

    /// Returns the multiply-adds of a forward pass over `rows` rows; saturates.
    pub(super) fn multiply_adds(&self, rows: usize) -> usize {
        rows.saturating_mul(self.gate_row() * self.input)
    }
}
