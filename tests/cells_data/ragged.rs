//! Sequences of different lengths: what the reference expects of them, and passes over them.

use crate::common::{Data, Given, Layout, part, rows_of};
use crate::{Parts, parts};
use bptt::{Accumulate, Isa};
use bptt_reference::cells::{Inputs, Layer};
use bptt_reference::noise::Masks;
use bptt_reference::{Bounded, bounds};

/// Where each row of `[τ, B, …]` is after the end of its sequence.
fn ended(data: &Data, lengths: &[usize]) -> Vec<bool> {
    (0..data.steps).flat_map(|t| lengths.iter().map(move |&len| t >= len)).collect()
}

/// What the reference computes, and its bounds. It has one length for all sequences, and zoneout: a
/// step that keeps all of both states is one that its sequence does not take. Its outputs are the
/// kept states, where those of libraries are 0 and have no gradient.
pub fn expected(data: &Data, lengths: &[usize]) -> Parts<Bounded> {
    let (hidden, outputs) = (data.layer.hidden_size(), data.layer.output_size());
    let ended = ended(data, lengths);
    let shares = |width: usize| -> Vec<f64> {
        ended.iter().flat_map(|&ended| vec![f64::from(u8::from(ended)); width]).collect()
    };
    let masks = Masks { seen: Vec::new(), kept: [outputs, hidden].map(shares) };
    let reference = Layer { masks, ..data.layer.reference() };
    let mut dy = data.inputs.dy.clone();
    clear(&mut dy, &ended, 0.0);
    let inputs = Inputs { dy, ..data.inputs.clone() };
    let pass = reference.run(&inputs.map(|values| bounds::exact(values)), None);
    let mut parts = parts(&pass, &inputs);
    clear(&mut parts[0].1, &ended, Bounded { value: 0.0, bound: 0.0 });
    parts
}

fn clear<T: Copy>(all: &mut [T], ended: &[bool], zero: T) {
    let width = all.len() / ended.len();
    for (row, _) in all.chunks_mut(width).zip(ended).filter(|(_, ended)| **ended) {
        row.fill(zero);
    }
}

/// A forward and a backward pass in a layout of the caller's arrays, with NaN for padding; the
/// results of each step in the order `[τ, B, …]`.
pub fn pass(isa: Isa, data: &Data, lengths: &[usize], layout: Layout) -> Parts<f32> {
    let mut model = data.model(isa, 1);
    let training = model.training(layout.schedule(lengths));
    let mut workspace = training.with_input_gradients().with_state_gradients().workspace().unwrap();
    let (inputs, outputs) = (data.layer.input_size(), data.layer.output_size());
    let given = |values: &[f32], width: usize| {
        let own = |(n, &len)| rows_of(values, width, data.batch, n)[..len * width].to_vec();
        let sequences: Vec<Vec<f32>> = lengths.iter().enumerate().map(own).collect();
        layout.joined(&sequences, width, f32::NAN)
    };
    let of_steps = |values: &[f32], width: usize| -> Vec<f32> {
        let rows = ended(data, lengths).into_iter().enumerate().map(|(at, ended)| {
            // Packed arrays have no such row.
            if ended && layout == Layout::Packed {
                return vec![0.0; width];
            }
            let row = layout.row(lengths, at % data.batch, at / data.batch);
            values[row * width..][..width].to_vec()
        });
        rows.flatten().collect()
    };

    let (x, dy) = (given(&data.inputs.x, inputs), given(&data.inputs.dy, outputs));
    workspace.set_state(&data.initial()).unwrap();
    let h = of_steps(model.forward(&mut workspace, &x).unwrap(), outputs);
    let last = workspace.last_state().unwrap();
    workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
    model.backward(&mut workspace, &x, &Given(&dy), Accumulate::No).unwrap();
    let first = workspace.state_gradients().unwrap();
    [
        ("h", h),
        ("h_last", part(&last, "h")),
        ("c_last", part(&last, "c")),
        ("params", workspace.gradients().as_slice().to_vec()),
        ("dx", of_steps(workspace.input_gradients().unwrap(), inputs)),
        ("dh0", part(&first, "h")),
        ("dc0", part(&first, "c")),
    ]
}
