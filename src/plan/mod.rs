//! Training passes: all activations of τ steps in an arena, and back-propagation
//! through time over them.

mod arena;
mod backward;
mod clocked;
mod forward;
mod sums;

pub use arena::Arena;

use crate::arena::{Layout, Region};
use crate::error::{check_len, check_size, check_threads, product};
use crate::layer::{Layer, Sizes};
use crate::{Error, Isa, Parameters, Weights, Write};
use arena::Holds;
use bptt_kernels::recurrence::{Dims, backward_scratch_len, forward_scratch_len};
use bptt_kernels::team::Team;
use bptt_kernels::{gemm, outer};

/// Rows of the input product computed at a time, so that they are in the cache
/// still when the steps read them.
pub(crate) const CHUNK_ROWS: usize = 192;

/// A forward and a backward pass over τ steps of B sequences, laid out once.
///
/// # Memory
///
/// For H units with G gates, whose hidden state has R features (H, where it is not
/// projected), which begin from D of them (1, where there is no longer delay), the arena
/// holds, in f32 and each rounded up to 16:
///
/// - the gates, `GτBH`, and what is kept beside them, `EτBH`;
/// - the hidden states with the initial ones, `(τ + D) BR`, and, where there is one, the
///   cell state `(τ + 1) BH`;
/// - ∂L/∂h of the initial states, `DBR`, ∂L/∂s of one step, `BH`, and with a projection all
///   of ∂L/∂h, `τBR`;
/// - where the input is [late](crate::Delayed), the ones that wait, `2BI`;
/// - scratch, the largest of
///   - `min(τB, 96 N) · max(I, GH)` for N threads: rows of a product's left operand,
///     packed, each row rounded up to 16;
///   - the same for a stage of a step, B rows of what its products are of;
///   - for the weight gradients, 256 floats for each column of U and of W, each padded
///     to two vectors, and 24 576 N floats.
///
/// | cell | G | E | floats per step and sequence |
/// | --- | --- | --- | --- |
/// | [`Vanilla`](crate::Vanilla) | 1 | 0 | 2H |
/// | [`Leaky`](crate::Leaky) | 1 | 0 | 2H, 3H with a learned α (E = 1) |
/// | [`Skip`](crate::Skip) | 1 | 0 | 2H |
/// | [`Clockwork`](crate::Clockwork) | 1 | 0 | H + Σ Hᵢ / kᵢ |
/// | [`Gru`](crate::Gru) | 3 | 1 | 5H |
/// | [`Lstm`](crate::Lstm) | 4 | 0 | 6H, 5H with coupled gates (G = 3) |
/// | … projected | | 1 | 6H + 2R, 5H + 2R |
///
/// A [`Clockwork`](crate::Clockwork) keeps, in place of the gates, `⌈τ / kᵢ⌉ B Hᵢ` of each
/// group, one after the other, and, where a period is above 1, room for m moves of the group
/// with the shortest such period k, whose first unit is f: their inputs, `mBI`, and the states
/// that they have seen, `mB (H − f)`, with `m = min(⌈τ / k⌉, max(1, ⌊192 / B⌋))`. In its
/// scratch the largest Hᵢ stands for GH, and a step is of B rows of H.
///
/// The scratch does not grow with τ.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<C> {
    pub(crate) layer: C,
    steps: usize,
    batch: usize,
    isa: Isa,
    threads: usize,
    layout: Layout,
    regions: Regions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Regions {
    gates: Region,
    extra: Region,
    h: Region,
    s: Region,
    dh: Region,
    ds: Region,
    dh_all: Region,
    /// The inputs that wait before the first step and after the last.
    x: Region,
    scratch: Region,
}

/// Where the loss's gradient enters. What is `None` is zero.
#[derive(Clone, Copy, Debug)]
pub struct OutputGradients<'a, T> {
    /// ∂L/∂h⁽ᵗ⁾ of each step, `[τ, B, R]`.
    pub dy: Option<&'a [f32]>,
    /// ∂L/∂ of the state after the last step, beside `dy`.
    pub last: Option<T>,
}

impl<T> Default for OutputGradients<'_, T> {
    fn default() -> Self {
        Self { dy: None, last: None }
    }
}

/// Where the gradients go. What is `None` is not computed.
#[derive(Debug)]
pub struct Gradients<'a, C: Layer> {
    /// Those of the parameters.
    pub parameters: &'a mut Parameters<C>,
    /// Whether `parameters` are overwritten or added to. The others are overwritten.
    pub write: Write,
    /// ∂L/∂x, `[τ, B, I]`.
    pub dx: Option<&'a mut [f32]>,
    /// ∂L/∂ of the initial state.
    pub initial: Option<C::State<&'a mut [f32]>>,
}

impl<'a, C: Layer> Gradients<'a, C> {
    /// The parameters' gradients alone.
    pub fn of(parameters: &'a mut Parameters<C>, write: Write) -> Self {
        Self { parameters, write, dx: None, initial: None }
    }
}

impl<C: Layer> Plan<C> {
    pub(crate) fn new(layer: C, steps: usize, batch: usize, isa: Isa) -> Result<Self, Error> {
        Self::laid_out(layer, steps, batch, isa, 1)
    }

    /// The same passes on up to `threads` threads: the one that calls and helpers
    /// from the rayon pool that it calls in, as many as come. One, which is what a
    /// plan has from the start, never touches rayon. The results have the same bits
    /// for any number, and none is waited for that has not come: a busy pool makes
    /// a pass slower and does not stop it. A pass of less than 2²¹ multiply-adds, `GτBH(I + R)`
    /// forward, stays with its caller, since it is done before helpers could be there; so
    /// does a forward pass of less than 2²⁰ in each of its stretches of some 192 rows.
    /// Helpers stay awake for the length of a pass; calling each allocates a job of rayon's,
    /// where a pass on one thread allocates nothing.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256, [`Error::TooLarge`] where
    /// the scratch of so many does not fit the address space.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        let threads = check_threads(threads)?;
        Self::laid_out(self.layer, self.steps, self.batch, self.isa, threads)
    }

    fn laid_out(
        layer: C,
        steps: usize,
        batch: usize,
        isa: Isa,
        threads: usize,
    ) -> Result<Self, Error> {
        check_size("steps", steps)?;
        check_size("batch", batch)?;
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        if C::CLOCKED {
            return Self::laid_out_clocked(layer, steps, batch, isa, threads);
        }
        let history = layer.delays()[0];
        let states =
            |before: usize| steps.checked_add(before).ok_or(Error::TooLarge { what: "the arena" });
        let (hidden_states, cell_states) = (states(history)?, states(1)?);
        let (cells, projected) = (usize::from(geometry.cells), usize::from(geometry.projects));
        product("the inputs", &[steps, batch, input])?;
        let mut layout = Layout::default();
        let regions = Regions {
            gates: layout.book(&[steps, batch, geometry.gates, hidden])?,
            extra: layout.book(&[steps, batch, geometry.extra, hidden])?,
            h: layout.book(&[hidden_states, batch, output])?,
            s: layout.book(&[cells, cell_states, batch, hidden])?,
            dh: layout.book(&[history, batch, output])?,
            ds: layout.book(&[cells, batch, hidden])?,
            dh_all: layout.book(&[projected, steps, batch, output])?,
            x: layout.book(&[2 * usize::from(C::LATE), batch, input])?,
            scratch: layout.book(&[scratch_len(&layer, (steps, batch), isa, threads)?])?,
        };
        Ok(Self { layer, steps, batch, isa, threads, layout, regions })
    }

    /// τ.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The instruction set of the passes.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The most threads of a pass.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The arena's size in bytes, to the byte.
    pub fn arena_bytes(&self) -> usize {
        self.layout.bytes()
    }

    /// The arena: the one allocation of all passes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn allocate(&self) -> Result<Arena<C>, Error> {
        let memory = self.layout.allocate()?;
        let team = Team::new(self.threads)?;
        Ok(Arena { plan: self.clone(), memory, team, holds: Holds::Nothing, step: 0 })
    }

    fn input_len(&self) -> usize {
        self.steps * self.batch * self.layer.sizes().input
    }

    /// Floats of the hidden states that a pass begins from.
    fn before_len(&self) -> usize {
        self.layer.delays()[0] * self.batch * self.layer.sizes().output
    }

    /// Floats of a cell state, 0 where there is none.
    fn cell_len(&self) -> usize {
        if self.layer.geometry().cells { self.batch * self.layer.sizes().hidden } else { 0 }
    }

    /// Floats of an input that waits, 0 where none does.
    fn late_len(&self) -> usize {
        if C::LATE { self.batch * self.layer.sizes().input } else { 0 }
    }

    /// The sizes of a pass over so many of the steps.
    fn dims(&self, steps: usize) -> Dims {
        let Sizes { hidden, output, .. } = self.layer.sizes();
        Dims { steps, batch: self.batch, hidden, outputs: output }
    }

    fn check(&self, weights: &Weights<C>, x: &[f32], arena: &Arena<C>) -> Result<(), Error> {
        weights.check(&self.layer, self.isa)?;
        check_len("x", x.len(), self.input_len())?;
        if *self == arena.plan {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "arena",
            given: arena.plan.describe(),
            expected: self.describe(),
        })
    }

    fn describe(&self) -> String {
        let (layer, steps, batch, isa) = (self.layer.describe(), self.steps, self.batch, self.isa);
        format!("{layer}, {steps} steps, batch {batch} on {isa}, threads {}", self.threads)
    }
}

/// What the most demanding of a pass's products needs.
fn scratch_len<C: Layer>(
    layer: &C,
    (steps, batch): (usize, usize),
    isa: Isa,
    threads: usize,
) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
    let dims = Dims { steps, batch, hidden, outputs: output };
    let (rows, delays) = (product("the inputs", &[steps, batch])?, layer.delays().len());
    let recurrent = if geometry.is_double() { hidden.max(output) } else { output };
    let needs = [
        gemm::team_scratch_len(threads, rows, input)?,
        forward_scratch_len(&geometry, dims, delays, 0)?,
        backward_scratch_len(&geometry, dims, delays)?,
        outer::scratch_len(isa, threads, &[input, recurrent])?,
        gemm::team_scratch_len(threads, rows, geometry.gates * hidden)?,
    ];
    Ok(needs.into_iter().fold(0, usize::max))
}
