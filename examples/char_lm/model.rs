//! The network: byte, embedding, LSTM layer, readout over the 256 bytes.

use bptt::{
    Error, Init, Isa, Layer, Lstm, Parameters as LayerParameters, Purpose, Readout,
    ReadoutParameters, ReadoutWeights, Reduction, Targets, Weights,
};
use rand::{RngExt, rngs::StdRng};

/// The classes: all bytes.
pub const BYTES: usize = 256;

/// Steps of an evaluation's passes.
const STEPS: usize = 64;

/// The network's parameters, and the layouts of them that passes read.
pub struct Model {
    /// The instruction set of all passes.
    pub isa: Isa,
    /// The recurrent layer.
    pub lstm: Lstm,
    /// The layer on top of it.
    pub readout: Readout,
    /// The parameters; [`Model::pack`] has to follow their changes.
    pub parameters: Parameters,
    /// The parameters as the passes of the LSTM read them.
    pub lstm_weights: Weights<Lstm>,
    /// The parameters as the passes of the readout read them.
    pub readout_weights: ReadoutWeights,
}

/// The parameters, or their gradients.
pub struct Parameters {
    /// One row for each byte, `[256, I]`.
    pub embedding: Vec<f32>,
    /// The recurrent layer's.
    pub lstm: LayerParameters<Lstm>,
    /// The readout's.
    pub readout: ReadoutParameters,
}

impl Parameters {
    /// All of them, in three slices.
    pub fn parts(&self) -> [&[f32]; 3] {
        [&self.embedding, self.lstm.as_slice(), self.readout.as_slice()]
    }

    /// All of them, in three slices, to be changed.
    pub fn parts_mut(&mut self) -> [&mut [f32]; 3] {
        [&mut self.embedding, self.lstm.as_mut_slice(), self.readout.as_mut_slice()]
    }
}

impl Model {
    /// A network before any training.
    pub fn new(embedding: usize, hidden: usize, rng: &mut StdRng) -> Result<Self, Error> {
        let mut model = Self::zeros(Lstm::new(embedding, hidden)?)?;
        model.parameters.lstm = model.lstm.init(Init::Glorot, rng)?;
        model.parameters.readout = model.readout.init(Init::Glorot, rng)?;
        for x in &mut model.parameters.embedding {
            *x = rng.random_range(-0.5..0.5);
        }
        model.pack()?;
        Ok(model)
    }

    /// A network whose parameters are zero, to be filled and [packed](Self::pack).
    pub fn zeros(lstm: Lstm) -> Result<Self, Error> {
        let isa = Isa::best()?;
        let readout = Readout::new(lstm.hidden_size(), BYTES)?;
        let parameters = Parameters {
            embedding: vec![0.0; BYTES * lstm.input_size()],
            lstm: lstm.parameters()?,
            readout: readout.parameters()?,
        };
        let purpose = Purpose::TrainingWithInputGradient;
        let lstm_weights = lstm.pack(&parameters.lstm, purpose, isa)?;
        let readout_weights = readout.pack(&parameters.readout, purpose, isa)?;
        Ok(Self { isa, lstm, readout, parameters, lstm_weights, readout_weights })
    }

    /// Lets the passes see changed parameters.
    pub fn pack(&mut self) -> Result<(), Error> {
        self.lstm_weights.update(&self.parameters.lstm)?;
        self.readout_weights.update(&self.parameters.readout)
    }

    /// H.
    pub fn hidden_size(&self) -> usize {
        self.lstm.hidden_size()
    }

    /// I.
    pub fn embedding_size(&self) -> usize {
        self.lstm.input_size()
    }

    /// All parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters.parts().iter().map(|part| part.len()).sum()
    }

    /// The floating-point operations of the products of one byte's forward pass.
    pub fn forward_flops_per_byte(&self) -> f64 {
        let (i, h) = (self.embedding_size(), self.hidden_size());
        2.0 * (4 * h * (i + h) + h * BYTES) as f64
    }

    /// Writes the embeddings of bytes, one after another, to `x`.
    pub fn embed(&self, bytes: impl Iterator<Item = u8>, x: &mut [f32]) {
        let size = self.embedding_size();
        for (byte, x) in bytes.zip(x.chunks_exact_mut(size)) {
            x.copy_from_slice(&self.parameters.embedding[usize::from(byte) * size..][..size]);
        }
    }

    /// Bits per byte over blocks of one length, side by side, each by itself from
    /// the zero state, its first byte not scored.
    pub fn bits_per_byte(&self, blocks: &[Vec<u8>]) -> Result<f64, Error> {
        let batch = blocks.len();
        let predictions = blocks[0].len() - 1;
        let rows = STEPS * batch;
        let mut stream = self.lstm.stream(batch, self.isa)?;
        let plan = self.readout.plan(rows, self.isa)?;
        let mut arena = plan.allocate()?;
        let mut x = vec![0.0; rows * self.embedding_size()];
        let mut h = vec![0.0; rows * self.hidden_size()];
        let (mut classes, mut mask) = (vec![0; rows], vec![true; rows]);
        let mut nats = 0.0;
        for start in (0..predictions).step_by(STEPS) {
            let steps = STEPS.min(predictions - start);
            let given = (start..start + steps).flat_map(|at| blocks.iter().map(move |b| b[at]));
            self.embed(given, &mut x);
            for step in 0..steps {
                for (sequence, block) in blocks.iter().enumerate() {
                    classes[step * batch + sequence] = u32::from(block[start + step + 1]);
                }
            }
            // The last stretch may be shorter than the plan.
            let rows = steps * batch;
            let x = &x[..rows * self.embedding_size()];
            stream.forward(&self.lstm_weights, x, &mut h[..rows * self.hidden_size()])?;
            mask[rows..].fill(false);
            let targets =
                Targets { classes: &classes, mask: Some(&mask), reduction: Reduction::Sum };
            nats += plan.evaluate(&self.readout_weights, &h, targets, &mut arena)?;
        }
        Ok(nats / std::f64::consts::LN_2 / (predictions * batch) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn blocks_side_by_side_do_not_touch() {
        let model = Model::new(3, 9, &mut StdRng::seed_from_u64(5)).unwrap();
        for len in [2, STEPS + 1, 2 * STEPS + 17] {
            let block = |from: u8| (0..len).map(|i| from.wrapping_mul(i as u8)).collect();
            let blocks: Vec<Vec<u8>> = [3, 7, 190].map(block).into();
            let together = model.bits_per_byte(&blocks).unwrap();
            let alone: f64 =
                blocks.iter().map(|b| model.bits_per_byte(std::slice::from_ref(b)).unwrap()).sum();
            assert!((together - alone / 3.0).abs() < 1e-9, "{len}");
        }
    }

    #[test]
    fn an_indifferent_model_needs_eight_bits() {
        let model = Model::zeros(Lstm::new(3, 9).unwrap()).unwrap();
        let bits = model.bits_per_byte(&[b"whatever it is".to_vec()]).unwrap();
        assert!((bits - 8.0).abs() < 1e-6);
    }
}
