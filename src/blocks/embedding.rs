//! An embedding layer: looks up each token's row in a table.

use super::{
    Backward, Block, Config, Forward, Next, Packed, Pass, Plan, Steps, StreamPlan, Wanted,
};
use crate::error::{check_len, check_size, product};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::Pass as Threads;
use rand_core::Rng;

/// An embedding layer: a table that holds a vector for each token. Each row of the output is a copy
/// of the token's row of `weight`.
///
/// Its parameter is `weight` `[tokens, embedding_size]`. It carries no state. The gradient of a
/// token's row is the sum of ∂L/∂y over the rows whose input was this token, from the last to the
/// first. Initial values are drawn for each row as for a matrix with one input, since only one of
/// the tokens is an input at a time: [`Init::Glorot`] draws them uniformly from ±√(6 / (1 +
/// `embedding_size`)).
///
/// ```
/// use bptt::{Embedding, Network, Runtime, Tokens};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Embedding::new(10, 4)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut y = [0.0; 4];
/// model.stream(1)?.step(Tokens(&[7]), &mut y)?;
/// assert_eq!(y, model.parameters().tensor("0.weight")?[7 * 4..8 * 4]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    tokens: usize,
    embedding_size: usize,
}

impl Embedding {
    /// Makes a layer from `tokens` tokens to `embedding_size` features.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0 or there are more than 2³² tokens; [`Error::TooLarge`] if
    /// the table does not fit the address space.
    pub fn new(tokens: usize, embedding_size: usize) -> Result<Self, Error> {
        check_size("tokens", tokens)?;
        check_size("embedding_size", embedding_size)?;
        if u32::try_from(tokens - 1).is_err() {
            let (given, expected) = (tokens.to_string(), "2³² or less".into());
            return Err(Error::Value { what: "tokens", given, expected });
        }
        product("the parameters", &[tokens, embedding_size])?;
        Ok(Self { tokens, embedding_size })
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["tokens", "embedding_size"])?;
        Self::new(config.size("tokens")?, config.size("embedding_size")?)
    }

    /// Returns the number of tokens in the table.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    fn len(&self) -> usize {
        self.tokens * self.embedding_size
    }
}

impl Block for Embedding {
    fn config(&self) -> Config {
        Config::new("Embedding")
            .with("tokens", self.tokens)
            .with("embedding_size", self.embedding_size)
    }

    fn input(&self) -> InputSize {
        InputSize::Tokens(self.tokens)
    }

    fn output_size(&self) -> usize {
        self.embedding_size
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("weight", &[self.tokens, self.embedding_size])
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        // Only one of the tokens is an input at a time, so each row is a matrix with one input.
        for row in parameters.chunks_exact_mut(self.embedding_size) {
            init.fill(row, self.embedding_size, 1, rng)?;
        }
        Ok(())
    }

    fn pack(&self, format: Format, _runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let table = AlignedBuffer::try_new(self.len())?;
        Ok(Box::new(EmbeddingPacked { embedding: *self, format, table }))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let (rows, wanted) = (plan.schedule.checked_rows()?, plan.gradients);
        if wanted.input {
            let (given, expected) = ("tokens".into(), "features".into());
            return Err(Error::Mismatch { what: "gradient of the input", given, expected });
        }
        Ok(Box::new(EmbeddingPass { embedding: *self, rows, wanted }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(EmbeddingSteps { embedding: *self, batch: plan.batch }))
    }
}

/// The table, with its values rounded to `format`.
#[derive(Debug)]
pub(crate) struct EmbeddingPacked {
    embedding: Embedding,
    format: Format,
    table: AlignedBuffer,
}

impl EmbeddingPacked {
    /// Returns the rows of all tokens, `[tokens, embedding_size]`.
    pub(crate) fn table(&self) -> &[f32] {
        &self.table
    }

    /// Copies the rows of these tokens to `y`, whose rows are `stride` floats apart.
    fn look_up(&self, tokens: &[u32], y: &mut [f32], stride: usize) {
        let size = self.embedding.embedding_size;
        for (&token, y) in tokens.iter().zip(y.chunks_mut(stride)) {
            y[..size].copy_from_slice(&self.table[token as usize * size..][..size]);
        }
    }
}

impl Packed for EmbeddingPacked {
    fn require(&mut self, _wanted: Wanted) -> Result<bool, Error> {
        if self.format == Format::F32 {
            return Ok(false);
        }
        Err(Error::Mismatch {
            what: "weights",
            given: format!("{:?}, which are for inference", self.format),
            expected: "F32, for training".into(),
        })
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.table.len())?;
        let bad = |value: &f32| self.format == Format::Int8 && !value.is_finite();
        match parameters.iter().position(bad) {
            None => Ok(()),
            Some(at) => Err(Error::Value {
                what: "weights",
                given: format!("∞ or NaN at {at}"),
                expected: "finite, for int8".into(),
            }),
        }
    }

    fn update(&mut self, parameters: &[f32], _threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        if self.format == Format::F32 {
            self.table.copy_from_slice(parameters);
            return Ok(());
        }
        let size = self.embedding.embedding_size;
        for (to, row) in self.table.chunks_exact_mut(size).zip(parameters.chunks_exact(size)) {
            let largest = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let rounded = row.iter().map(|&value| self.format.rounded(value, largest));
            to.iter_mut().zip(rounded).for_each(|(to, value)| *to = value);
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.format
    }

    fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.table)
    }
}

/// A planned pass of an embedding. It books no memory.
#[derive(Debug)]
struct EmbeddingPass {
    embedding: Embedding,
    rows: usize,
    wanted: Wanted,
}

impl Pass for EmbeddingPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let packed = forward.packed.as_form::<EmbeddingPacked>()?;
        let tokens = forward.x.tokens(self.rows, self.embedding.tokens)?;
        packed.look_up(tokens, forward.y, forward.y_stride);
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { x, dy, dy_stride, gradients, accumulate, .. } = backward;
        let Embedding { tokens, embedding_size: size } = self.embedding;
        let rows = x.tokens(self.rows, tokens)?;
        if !self.wanted.parameters {
            return Ok(());
        }
        if !accumulate {
            gradients.fill(0.0);
        }
        // All sums over time run from the last row to the first.
        for (row, &token) in rows.iter().enumerate().rev() {
            let to = &mut gradients[token as usize * size..][..size];
            to.iter_mut().zip(&dy[row * dy_stride..][..size]).for_each(|(to, dy)| *to += dy);
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        false
    }
}

/// The planned steps of an embedding.
#[derive(Debug)]
struct EmbeddingSteps {
    embedding: Embedding,
    batch: usize,
}

impl Steps for EmbeddingSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let packed = next.packed.as_form::<EmbeddingPacked>()?;
        let tokens = next.x.tokens(next.steps * self.batch, self.embedding.tokens)?;
        packed.look_up(tokens, next.y, self.embedding.embedding_size);
        Ok(())
    }
}
