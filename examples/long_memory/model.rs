//! A layer with a readout, and its training.

use super::tasks::{Answers, Batch, Task};
use bptt::{
    Accumulate, Adam, AdamConfig, Arena, Error, Gradients, Isa, Layer, OutputGradients, Parameters,
    Plan, Purpose, Readout, ReadoutArena, ReadoutGradients, ReadoutParameters, ReadoutPlan,
    ReadoutWeights, Reduction, Targets, Weights, clip_global_norm,
};

/// How a model is trained.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Hidden units.
    pub hidden: usize,
    /// Sequences of an update, and of what a look takes at a time.
    pub batch: usize,
    /// Adam's.
    pub learning_rate: f64,
    /// The norm that gradients are clipped to.
    pub clip: f64,
}

/// A model of a task at a lag, what it needs to be trained, and the memory of its passes.
pub struct Model<C: Layer> {
    pub parameters: Parameters<C>,
    pub weights: Weights<C>,
    pub readout: ReadoutParameters,
    readout_weights: ReadoutWeights,
    plan: Plan<C>,
    arena: Arena<C>,
    readout_plan: ReadoutPlan,
    readout_arena: ReadoutArena,
    gradients: Parameters<C>,
    readout_gradients: ReadoutParameters,
    adam: [Adam; 2],
    clip: f32,
    /// ∂L/∂h of all steps; only the asked ones are ever not 0.
    dy: Vec<f32>,
    outputs: Vec<f32>,
}

impl<C: Layer> Model<C> {
    /// A model that begins from these parameters.
    pub fn new(
        (task, lag): (Task, usize),
        parameters: Parameters<C>,
        readout: ReadoutParameters,
        settings: Settings,
    ) -> Result<Self, Error> {
        let Settings { batch, learning_rate, clip, .. } = settings;
        let (isa, layer, head) = (Isa::best()?, parameters.layer().clone(), *readout.readout());
        let (steps, rows) = (task.steps(lag), task.asked() * batch);
        let (plan, readout_plan) = (layer.plan(steps, batch, isa)?, head.plan(rows, isa)?);
        let config = AdamConfig { learning_rate: learning_rate as f32, ..Default::default() };
        let adam = |count| Adam::new(count, config, isa);
        Ok(Self {
            weights: layer.pack(&parameters, Purpose::Training, isa)?,
            readout_weights: head.pack(&readout, Purpose::TrainingWithInputGradient, isa)?,
            arena: plan.allocate()?,
            plan,
            readout_arena: readout_plan.allocate()?,
            readout_plan,
            gradients: layer.parameters()?,
            readout_gradients: head.parameters()?,
            adam: [adam(layer.parameter_count())?, adam(head.parameter_count())?],
            clip: clip as f32,
            dy: vec![0.0; steps * batch * layer.output_size()],
            outputs: vec![0.0; rows * head.output_size()],
            parameters,
            readout,
        })
    }

    /// Where the asked steps begin in the hidden states and their gradients.
    fn asked(&self) -> usize {
        self.dy.len() - self.readout_plan.rows() * self.parameters.layer().output_size()
    }

    /// One update.
    pub fn update(&mut self, batch: &Batch) -> Result<(), Error> {
        self.plan.forward(&self.weights, &batch.x, None, &mut self.arena)?;
        let asked = self.asked();
        self.loss(&batch.targets)?;
        let to = ReadoutGradients {
            parameters: &mut self.readout_gradients,
            accumulate: Accumulate::No,
            dh: Some(&mut self.dy[asked..]),
        };
        let h = &self.arena.hidden()?[asked..];
        self.readout_plan.backward(&self.readout_weights, h, &mut self.readout_arena, to)?;
        let outputs = OutputGradients { dy: Some(&self.dy), last: None };
        let to = Gradients::of(&mut self.gradients, Accumulate::No);
        self.plan.backward(&self.weights, &batch.x, outputs, &mut self.arena, to)?;

        let (layer, head) = (&mut self.gradients, &mut self.readout_gradients);
        clip_global_norm(&mut [layer.as_mut_slice(), head.as_mut_slice()], self.clip)?;
        self.adam[0].step(self.parameters.as_mut_slice(), layer.as_slice())?;
        self.adam[1].step(self.readout.as_mut_slice(), head.as_slice())?;
        self.weights.update(&self.parameters)?;
        self.readout_weights.update(&self.readout)
    }

    /// Leaves ∂L/∂o with the readout: of the softmax cross-entropy, or of half the squared
    /// error, o − y; L is the mean.
    fn loss(&mut self, targets: &Answers) -> Result<(), Error> {
        let h = &self.arena.hidden()?[self.asked()..];
        match targets {
            Answers::Symbols(classes) => {
                let targets = Targets { classes, mask: None, reduction: Reduction::Mean };
                let weights = &self.readout_weights;
                self.readout_plan.loss(weights, h, targets, &mut self.readout_arena)?;
            }
            Answers::Sums(sums) => {
                let (weights, o) = (&self.readout_weights, &mut self.outputs[..]);
                self.readout_plan.forward(weights, h, o, &mut self.readout_arena)?;
                let room = self.readout_arena.output_gradients_mut();
                for ((d, o), sum) in room.iter_mut().zip(o).zip(sums) {
                    *d = (*o - sum) / sums.len() as f32;
                }
            }
        }
        Ok(())
    }

    /// How far the answers are off: the mean squared error, or the part of wrong symbols.
    pub fn error(&mut self, batches: &[Batch]) -> Result<f64, Error> {
        let mut sum = 0.0;
        for batch in batches {
            self.plan.forward(&self.weights, &batch.x, None, &mut self.arena)?;
            let h = &self.arena.hidden()?[self.asked()..];
            let (weights, o) = (&self.readout_weights, &mut self.outputs[..]);
            self.readout_plan.forward(weights, h, o, &mut self.readout_arena)?;
            sum += error(o, &batch.targets);
        }
        Ok(sum / batches.len() as f64)
    }
}

/// That of one batch's outputs.
fn error(o: &[f32], targets: &Answers) -> f64 {
    match targets {
        Answers::Sums(sums) => {
            let squares = o.iter().zip(sums).map(|(o, sum)| f64::from(o - sum).powi(2));
            squares.sum::<f64>() / sums.len() as f64
        }
        Answers::Symbols(classes) => {
            let rows = o.chunks_exact(o.len() / classes.len()).zip(classes);
            let best = |o: &[f32]| (0..o.len()).max_by(|&a, &b| o[a].total_cmp(&o[b]));
            let wrong = rows.filter(|(o, class)| best(o) != Some(**class as usize)).count();
            wrong as f64 / classes.len() as f64
        }
    }
}

/// The readout of a task's model.
pub fn readout(task: Task, hidden: usize) -> Result<Readout, Error> {
    Readout::new(hidden, task.outputs())
}
