//! Training passes: all activations of τ steps in an arena, and back-propagation
//! through time over them.

mod arena;
mod backward;
mod clocked;
mod forward;
mod regions;
mod sums;

pub use arena::Arena;

use crate::arena::{Layout, Region};
use crate::error::{check_size, check_threads, product};
use crate::spec::{Sizes, Spec};
use crate::{Accumulate, Error, Isa, Parameters, Regularisation};
use bptt_kernels::recurrence::{Dims, Schedule};
use regions::Regions;

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
/// - ∂L/∂h of the initial states, `DBR`, ∂L/∂c of one step, `BH`, and with a projection all
///   of ∂L/∂h, `τBR`;
/// - where the input is [late](crate::Delayed), the ones that wait, `2BI`;
/// - with [dropout](Regularisation), what the products see of the hidden states,
///   `(τ + D) BR`, and the masks, `BR`; with zoneout its keys, `2τB`, what it carries of
///   ∂L/∂h, `BR`, and of ∂L/∂c, `BH`, and, with zoneout of c in a cell whose output gate sees
///   c ([peepholes](crate::Lstm::with_peepholes)), `τBH`;
/// - with [layer normalisation](crate::LayerNorm) of N sums (G, or one more of a GRU with its
///   reset gate after the product), what is normalised, `NτBH`, its gradients, `NτBH`, and the
///   deviations, `NτB`;
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
    regularisation: Regularisation,
    layout: Layout,
    regions: Regions<Region>,
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
pub struct Gradients<'a, C: Spec> {
    /// Those of the parameters.
    pub parameters: &'a mut Parameters<C>,
    /// Whether `parameters` are overwritten or added to. The others are overwritten.
    pub accumulate: Accumulate,
    /// ∂L/∂x, `[τ, B, I]`.
    pub dx: Option<&'a mut [f32]>,
    /// ∂L/∂ of the initial state.
    pub initial: Option<C::State<&'a mut [f32]>>,
}

impl<'a, C: Spec> Gradients<'a, C> {
    /// The parameters' gradients alone.
    pub fn of(parameters: &'a mut Parameters<C>, accumulate: Accumulate) -> Self {
        Self { parameters, accumulate, dx: None, initial: None }
    }
}

impl<C: Spec> Plan<C> {
    pub(crate) fn new(layer: C, steps: usize, batch: usize, isa: Isa) -> Result<Self, Error> {
        Self::laid_out(layer, (steps, batch), isa, 1, Regularisation::none())
    }

    /// The same passes on up to `threads` threads: the one that calls and helpers
    /// from the rayon pool that it calls in, as many as come. One, which is what a
    /// plan has from the start, never touches rayon. The results have the same bits
    /// for any number, and none is waited for that has not come: a busy pool makes
    /// a pass slower and does not stop it. More threads than the machine has cores, or the pool
    /// threads, are not used and cost nothing but their scratch.
    ///
    /// A pass goes without helpers where they would not be there in time: below 2²⁰
    /// multiply-adds, `GτBH(I + R)` forward, or 2¹⁹ where one is still awake; so does a forward
    /// pass of less than 2²⁰ in each of its stretches of some 192 rows. It also goes without
    /// them while passes of that size have been slower with helpers than alone, as they are
    /// where another process has the cores; to know that, three of some five hundred passes
    /// are taken alone, or one where a pass takes 10 ms.
    ///
    /// Helpers stay awake for the length of a pass and some tens of microseconds longer, and
    /// leave the pool's thread to other jobs after 2 ms, at the end of a pass. Calling one
    /// allocates a job of rayon's, where a pass on one thread allocates nothing. A thread of the
    /// pool that waits for something of its own, in `rayon::join` say, may become a helper
    /// meanwhile, and then goes on some milliseconds, or one pass, later. A process that was
    /// forked from one whose passes had helpers has no such threads, and its passes go without.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256, [`Error::TooLarge`] where
    /// the scratch of so many does not fit the address space.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        let threads = check_threads(threads)?;
        let shape = (self.steps, self.batch);
        Self::laid_out(self.layer, shape, self.isa, threads, self.regularisation)
    }

    /// The same passes with noise in the recurrence, which [`forward_with`](Self::forward_with)
    /// draws. Memory: see above; without it nothing is booked and nothing computed for it.
    ///
    /// # Errors
    /// [`Error::Value`] where the cell has no cell state and there is zoneout of it, or is a
    /// [`Clockwork`](crate::Clockwork),
    /// [`Error::TooLarge`].
    pub fn with_regularisation(self, regularisation: Regularisation) -> Result<Self, Error> {
        regularisation.check(&self.layer)?;
        let shape = (self.steps, self.batch);
        Self::laid_out(self.layer, shape, self.isa, self.threads, regularisation)
    }

    fn laid_out(
        layer: C,
        (steps, batch): (usize, usize),
        isa: Isa,
        threads: usize,
        regularisation: Regularisation,
    ) -> Result<Self, Error> {
        check_size("steps", steps)?;
        check_size("batch", batch)?;
        let (mut layout, shape) = (Layout::in_lines("the arena"), (steps, batch));
        let regions = match layer.clocked() {
            Some(clocked) => {
                let sizes = layer.sizes();
                Regions::book_clocked(clocked, sizes, shape, isa, threads, &mut layout)?
            }
            None => Regions::book(&layer, shape, isa, threads, regularisation, &mut layout)?,
        };
        // The input is not the arena's.
        product("the input", &[steps, batch, layer.sizes().input])?;
        Ok(Self { layer, steps, batch, isa, threads, regularisation, layout, regions })
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

    /// The noise in the recurrence.
    pub fn regularisation(&self) -> Regularisation {
        self.regularisation
    }

    /// The arena's size in bytes, to the byte.
    pub fn arena_bytes(&self) -> usize {
        self.layout.bytes()
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

    /// The rows of the steps.
    fn schedule(&self) -> Schedule {
        Schedule::dense(self.steps, self.batch)
    }

    /// The sizes of a pass.
    fn dims(&self) -> Dims {
        let Sizes { hidden, output, .. } = self.layer.sizes();
        Dims { schedule: self.schedule(), hidden, outputs: output }
    }

    /// Whether both run the same passes in the same memory: all that is laid out follows from
    /// what is compared here. What parameters begin from is not part of it.
    #[inline]
    fn passes_are_those_of(&self, other: &Self) -> bool {
        (self.steps, self.batch, self.isa, self.threads)
            == (other.steps, other.batch, other.isa, other.threads)
            && self.regularisation == other.regularisation
            && self.layer.computes_as(&other.layer)
    }

    /// The plan for a message that names `other` as well, which it has to tell it from.
    fn describe_beside(&self, other: &Self) -> String {
        let (layer, isa) = (self.layer.describe_beside(&other.layer), self.isa);
        let Self { steps, batch, threads, regularisation, .. } = self;
        let plan = format!("{layer}, {steps} steps, batch {batch} on {isa}, threads {threads}");
        match *regularisation == Regularisation::none() {
            true => plan,
            false => format!("{plan}, {}", regularisation.describe()),
        }
    }
}
