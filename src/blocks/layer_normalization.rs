//! Layer normalisation between layers. Knows rows; must not know recurrence.

use super::{Backward, Block, Config, Forward, Next, Pass, Plain, Plan, Steps, StreamPlan, Wanted};
use crate::error::{check_len, check_size};
use crate::memory::{Region, regions};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Isa};
use bptt_kernels::Joined;
use bptt_kernels::diagonal::Diagonal;
use bptt_kernels::rowwise::{LayerNormBackward, LayerNormForward, Strided, StridedMut};
use rand_core::Rng;

/// Rows that a step of a stream normalises at once.
const CHUNK: usize = 64;

/// Layer normalisation between layers (Ba et al. 2016): for each row `y = b + γ ⊙ (x − μ) / √(σ² + ε)`,
/// with the mean μ and the variance σ² of the row. For the gates of a layer see
/// [`LayerNorm`](crate::LayerNorm).
///
/// The parameters are `gain` γ `[size]`, which begins as 1, and `bias` b `[size]`, which begins as 0. It
/// carries no state. A pass keeps `size + 1` floats a row.
///
/// ```
/// use bptt::{LayerNormalization, Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(2, 8)?).then(LayerNormalization::new(8)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut y = [0.0; 8];
/// model.stream(1)?.step(&[0.5, -0.5], &mut y)?;
/// assert!(y.iter().sum::<f32>().abs() < 1e-5);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormalization {
    size: usize,
    epsilon: f32,
}

impl LayerNormalization {
    /// Normalises rows of `size` features, with an ε of 10⁻⁵.
    ///
    /// # Errors
    /// [`Error::Value`] if `size` is 0.
    pub fn new(size: usize) -> Result<Self, Error> {
        Ok(Self { size: check_size("size", size)?, epsilon: 1e-5 })
    }

    /// Sets ε, which keeps the deviation of equal features above 0.
    ///
    /// # Errors
    /// [`Error::Value`] unless `epsilon` is finite and above 0.
    pub fn with_epsilon(self, epsilon: f32) -> Result<Self, Error> {
        if epsilon.is_finite() && epsilon > 0.0 {
            return Ok(Self { epsilon, ..self });
        }
        let (given, expected) = (epsilon.to_string(), "finite and above 0".into());
        Err(Error::Value { what: "epsilon", given, expected })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size", "epsilon"])?;
        Self::new(config.size("size")?)?.with_epsilon(config.number("epsilon")?)
    }

    /// Returns γ and b.
    fn split<'p>(&self, packed: &'p Plain) -> (&'p [f32], &'p [f32]) {
        packed.parameters().split_at(self.size)
    }
}

impl Block for LayerNormalization {
    fn config(&self) -> Config {
        Config::new("LayerNormalization").with("size", self.size).with("epsilon", self.epsilon)
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.size)
    }

    fn output_size(&self) -> usize {
        self.size
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("gain", &[self.size])?;
        manifest.declare("bias", &[self.size])
    }

    fn initialise(&self, parameters: &mut [f32], _: Init, _: &mut dyn Rng) -> Result<(), Error> {
        check_len("parameters", parameters.len(), 2 * self.size)?;
        parameters[..self.size].fill(1.0);
        Ok(())
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let (rows, isa) = (plan.schedule.checked_rows()?, plan.runtime.isa());
        let dims: Regions<&[usize]> = Regions { normal: &[rows, self.size], inverse: &[rows] };
        let regions = dims.booked(plan.layout)?;
        Ok(Box::new(NormPass { norm: *self, rows, isa, wanted: plan.gradients, regions }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let dims: Regions<&[usize]> = Regions { normal: &[CHUNK, self.size], inverse: &[CHUNK] };
        let StreamPlan { batch, runtime, .. } = *plan;
        let regions = dims.booked(plan.layout)?;
        Ok(Box::new(NormSteps { norm: *self, batch, isa: runtime.isa(), regions }))
    }
}

regions! {
    /// The memory that a pass books.
    struct Regions {
        /// The normalised rows, x̂.
        normal,
        /// `1 / √(σ² + ε)` of each row.
        inverse,
    }
}

/// A planned pass.
#[derive(Debug)]
struct NormPass {
    norm: LayerNormalization,
    rows: usize,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

impl Pass for NormPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, y, y_stride, memory, threads, .. } = forward;
        let LayerNormalization { size, epsilon } = self.norm;
        let (gain, bias) = self.norm.split(packed.as_form::<Plain>()?);
        let (rows, x) = (self.rows, x.features(self.rows, size)?);
        let Regions { normal, inverse } = self.regions.granted(memory);
        let y = StridedMut { values: y, stride: y_stride };
        let pass = LayerNormForward { rows, x, epsilon, gain, bias, normal, inverse, y };
        Ok(pass.run(self.isa, threads)?)
    }

    /// Computes dγ = Σ dy ⊙ x̂ and db = Σ dy, each summed from the last row to the first, and dx.
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, dy, dy_stride, memory, dx, gradients, accumulate, threads, .. } =
            backward;
        let (size, rows) = (self.norm.size, self.rows);
        let (gain, _) = self.norm.split(packed.as_form::<Plain>()?);
        let Regions { normal, inverse } = self.regions.granted(memory);
        let (normal, inverse) = (&*normal, &*inverse);
        if self.wanted.parameters {
            let (of_gain, of_bias) = gradients.split_at_mut(size);
            for (b, c) in [(Some(Joined::whole(normal, size)), of_gain), (None, of_bias)] {
                Diagonal { depth: rows, a: dy, stride: dy_stride, b, c, accumulate }
                    .run(self.isa, threads)?;
            }
        }
        let Some(dx) = dx else { return Ok(()) };
        let dy = Strided { values: dy, stride: dy_stride };
        Ok(LayerNormBackward { rows, gain, normal, inverse, dy, dx }.run(self.isa, threads)?)
    }

    fn reads_output(&self) -> bool {
        false
    }
}

/// The planned steps of a stream. Their memory is that of a pass over a few rows.
#[derive(Debug)]
struct NormSteps {
    norm: LayerNormalization,
    batch: usize,
    isa: Isa,
    regions: Regions<Region>,
}

impl Steps for NormSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, steps, memory, threads, .. } = next;
        let LayerNormalization { size, epsilon } = self.norm;
        let (gain, bias) = self.norm.split(packed.as_form::<Plain>()?);
        let x = x.features(steps * self.batch, size)?;
        let Regions { normal, inverse } = self.regions.granted(memory);
        for (x, values) in x.chunks(CHUNK * size).zip(y.chunks_mut(CHUNK * size)) {
            let rows = x.len() / size;
            let (normal, inverse) = (&mut normal[..x.len()], &mut inverse[..rows]);
            let y = StridedMut { values, stride: size };
            let pass = LayerNormForward { rows, x, epsilon, gain, bias, normal, inverse, y };
            pass.run(self.isa, threads)?;
        }
        Ok(())
    }
}
