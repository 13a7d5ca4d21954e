//! A dense layer: each row of its output is an affine map of the row of its input.

use super::recurrent::Activation;
use super::{
    Backward, Block, Config, Forward, Next, Packed, Pass, Plan, Steps, StreamPlan, Wanted,
};
use crate::error::{check_len, check_size, product};
use crate::memory::{Region, regions};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Isa, Runtime};
use bptt_kernels::gemm::weight_gradients::{self, Rhs, WeightGradients};
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::rowwise::{Strided, StridedMut, activate, activation_gradients};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{PackedMatrix, gemm::Dense as Kernel};
use rand_core::Rng;

/// A dense layer, `y = φ(b + W x)` for each row (the book's `o = c + V h`, equation 10.10). Without an
/// [activation function](Self::with_activation) it is `y = b + W x`.
///
/// Its parameters are `weight` `[output_size, input_size]` and `bias` `[output_size]`, which
/// begins as 0. It carries no state. With an activation function a pass keeps `output_size` floats a
/// row.
///
/// ```
/// use bptt::{Dense, Network};
///
/// let network = Network::new(Dense::new(3, 2)?);
/// assert_eq!(network.manifest()?.to_string(), "0.weight [2, 3], 0.bias [2]");
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    input_size: usize,
    output_size: usize,
    activation: Activation,
}

impl Dense {
    /// Makes a layer from `input_size` (I) features to `output_size` (O) features.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, output_size: usize) -> Result<Self, Error> {
        check_size("input_size", input_size)?;
        check_size("output_size", output_size)?;
        let inputs = input_size.checked_add(1).ok_or(Error::TooLarge { what: "the parameters" })?;
        product("the parameters", &[output_size, inputs])?;
        Ok(Self { input_size, output_size, activation: Activation::Identity })
    }

    /// Sets φ, for layers between others: deep inputs, deep transitions and deep outputs (section 10.5
    /// of *Deep Learning*).
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Returns whether φ(a) = a, so that the layer is a product alone.
    pub(crate) fn is_linear(&self) -> bool {
        self.activation == Activation::Identity
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "output_size", "activation"])?;
        let dense = Self::new(config.size("input_size")?, config.size("output_size")?)?;
        Ok(match config.get("activation") {
            Some(_) => dense.with_activation(Activation::of(config, "activation")?),
            None => dense,
        })
    }

    /// Replaces the sums in `y`, whose `rows` rows are `stride` floats apart, by φ of them.
    fn activate(
        &self,
        isa: Isa,
        rows: usize,
        y: &mut [f32],
        stride: usize,
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        if self.is_linear() {
            return Ok(());
        }
        let (rows, y) = ((rows, self.output_size), StridedMut { values: y, stride });
        Ok(activate(isa, self.activation.into(), rows, y, threads)?)
    }

    /// Returns the number of floats in W.
    fn weights(&self) -> usize {
        self.input_size * self.output_size
    }
}

impl Block for Dense {
    fn config(&self) -> Config {
        let Self { input_size, output_size, activation } = *self;
        let sizes = Config::new("Dense").with("input_size", input_size);
        let sizes = sizes.with("output_size", output_size);
        match self.is_linear() {
            true => sizes,
            false => sizes.with("activation", activation.name()),
        }
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.input_size)
    }

    fn output_size(&self) -> usize {
        self.output_size
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("weight", &[self.output_size, self.input_size])?;
        manifest.declare("bias", &[self.output_size])
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.weights() + self.output_size)?;
        init.fill(&mut parameters[..self.weights()], self.output_size, self.input_size, rng)
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let isa = runtime.isa();
        let forward = Kernel::zeros_as(format, isa, self.output_size, self.input_size)?;
        Ok(Box::new(DensePacked { dense: *self, isa, format, forward, back: None }))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let (rows, isa) = (plan.schedule.checked_rows()?, plan.runtime.isa());
        let threads = plan.runtime.checked_threads()?;
        let widest = self.input_size.max(self.output_size);
        let product = gemm::team_scratch_len(threads, rows, widest)?;
        let gradient = weight_gradients::scratch_len(isa, threads, rows, &[self.input_size])?;
        let dims: Regions<&[usize]> = Regions {
            dz: &[usize::from(!self.is_linear()), rows, self.output_size],
            scratch: &[product.max(gradient)],
        };
        let regions = dims.booked(plan.layout)?;
        Ok(Box::new(DensePass { dense: *self, rows, isa, wanted: plan.gradients, regions }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        let threads = runtime.checked_threads()?;
        // All threads together pack at most this many rows at once, however many rows come.
        let rows = product("the stream", &[96, threads])?.max(batch);
        let len = gemm::team_scratch_len(threads, rows, self.input_size)?;
        let scratch = plan.layout.book(&[len])?;
        Ok(Box::new(DenseSteps { dense: *self, batch, scratch }))
    }
}

/// A dense layer's parameters, packed for one instruction set.
#[derive(Debug)]
pub(crate) struct DensePacked {
    dense: Dense,
    isa: Isa,
    format: Format,
    /// W by rows and b, for `b + W x`.
    pub forward: Kernel,
    /// W by columns, for `dy W`. Present only if the gradient of the input is wanted.
    back: Option<PackedMatrix>,
}

impl Packed for DensePacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        if self.format != Format::F32 {
            return Err(Error::Mismatch {
                what: "weights",
                given: format!("{:?}, which are for inference", self.format),
                expected: "F32, for training".into(),
            });
        }
        if !wanted.input || self.back.is_some() {
            return Ok(false);
        }
        let Dense { input_size, output_size, .. } = self.dense;
        self.back = Some(PackedMatrix::zeros(self.isa, 1, input_size, output_size)?);
        Ok(true)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let expected = self.dense.weights() + self.dense.output_size;
        check_len("parameters", parameters.len(), expected)?;
        Ok(self.forward.check_weights(&parameters[..self.dense.weights()])?)
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let (weights, bias) = parameters.split_at(self.dense.weights());
        self.forward.pack(weights, bias, threads)?;
        if let Some(back) = &mut self.back {
            back.pack_columns(weights, threads)?;
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.format
    }

    fn bytes(&self) -> usize {
        self.forward.bytes() + self.back.as_ref().map_or(0, PackedMatrix::bytes)
    }
}

regions! {
    /// The memory that a pass books.
    struct Regions {
        /// ∂L/∂(b + W x), `[rows, output_size]`, if there is an activation function.
        dz,
        scratch,
    }
}

/// A planned pass of a dense layer. Beside dz its memory is scratch, in f32: the larger of the needs of its
/// products and of its weight gradients. The products need `min(rows, 96 N) · max(I, O)` for N
/// threads: packed rows of an lhs, each rounded up to 16. The weight gradients need `min(rows, 256)`
/// floats for each column of W, whose columns are padded to a multiple of two vectors, and 96 N times
/// as many, rounded up to 16.
#[derive(Debug)]
struct DensePass {
    dense: Dense,
    rows: usize,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

impl Pass for DensePass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, y, y_stride, memory, threads, .. } = forward;
        let packed = packed.as_form::<DensePacked>()?;
        let x = x.features(self.rows, self.dense.input_size)?;
        let Regions { scratch, .. } = self.regions.granted(memory);
        packed.forward.run(self.rows, x, y, y_stride, scratch, threads)?;
        self.dense.activate(self.isa, self.rows, y, y_stride, threads)
    }

    /// Computes dz = dy ⊙ φ', dW = Σ dz xᵀ and db = Σ dz, each summed from the last row to the first,
    /// and dx = Wᵀ dz for each row (equations 10.24, 10.22 and 10.19).
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, x, y, y_stride, mut dy, mut dy_stride, memory, dx, .. } = backward;
        let Backward { gradients, accumulate, threads, .. } = backward;
        let packed = packed.as_form::<DensePacked>()?;
        let Dense { input_size, output_size, activation } = self.dense;
        let x = x.features(self.rows, input_size)?;
        let Regions { dz, scratch } = self.regions.granted(memory);
        if !self.dense.is_linear() {
            let (y, outer) = (
                Strided { values: y, stride: y_stride },
                Strided { values: dy, stride: dy_stride },
            );
            let to = StridedMut { values: &mut *dz, stride: output_size };
            let rows = (self.rows, output_size);
            activation_gradients(self.isa, activation.into(), rows, (y, outer), to, threads)?;
            (dy, dy_stride) = (dz, output_size);
        }
        if self.wanted.parameters {
            let (dw, db) = gradients.split_at_mut(self.dense.weights());
            WeightGradients {
                depth: self.rows,
                a: dy,
                stride: dy_stride,
                rows: output_size,
                products: [Rhs::new(x, dw, input_size)],
                sums: Some(db),
                accumulate,
                scratch: &mut *scratch,
            }
            .run(self.isa, threads)?;
        }
        let Some(dx) = dx else { return Ok(()) };
        let weights = packed.back.as_ref().ok_or_else(|| Error::Mismatch {
            what: "packed parameters",
            given: "forward passes only".into(),
            expected: "the gradient of the input too".into(),
        })?;
        // The product takes no stride for its lhs: the rows of `dy` must lie without gaps.
        check_len("dy", dy.len(), self.rows * output_size)?;
        let (rows, start, stride) = (self.rows, Start::Zero, input_size);
        Gemm { rows, a: dy, weights, start, c: dx, stride, scratch }.run(self.isa, threads)?;
        Ok(())
    }

    fn reads_output(&self) -> bool {
        !self.dense.is_linear()
    }

    fn work(&self) -> [usize; 2] {
        let forward = self.rows.saturating_mul(self.dense.weights());
        [forward, forward.saturating_mul(2)]
    }
}

/// The planned steps of a dense layer, for any number of rows at a time. For N threads their memory
/// is 96 N packed rows of a product's lhs, each of I floats rounded up to 16.
#[derive(Debug)]
struct DenseSteps {
    dense: Dense,
    batch: usize,
    scratch: Region,
}

impl Steps for DenseSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, steps, memory, threads, .. } = next;
        let packed = packed.as_form::<DensePacked>()?;
        let rows = steps * self.batch;
        let x = x.features(rows, self.dense.input_size)?;
        let (scratch, stride) = (self.scratch.of_mut(memory), self.dense.output_size);
        packed.forward.run(rows, x, y, stride, scratch, threads)?;
        self.dense.activate(packed.isa, rows, y, stride, threads)
    }

    fn work(&self, steps: usize) -> usize {
        (steps * self.batch).saturating_mul(self.dense.weights())
    }
}
