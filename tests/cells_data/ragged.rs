//! Sequences of different lengths: what the reference expects of them, and passes over them.

use crate::Parts;
use crate::common::{Data, Given, Layout, part, rows_of};
use bptt::{Accumulate, Isa};
use bptt_reference::cells::{Inputs, List, Outcome};
use bptt_reference::{Bounded, bounds};

/// Where each row of `[τ, B, …]` is after the end of its sequence.
fn ended(data: &Data, lengths: &[usize]) -> Vec<bool> {
    (0..data.steps).flat_map(|t| lengths.iter().map(move |&len| t >= len)).collect()
}

/// The rows of all sequences in the order `[τ, B, …]`, each with zeros after its end.
fn padded(sequences: &[Vec<Bounded>], width: usize, steps: usize) -> Vec<Bounded> {
    let row = |t: usize| {
        sequences.iter().flat_map(move |own| {
            let zeros = vec![Bounded { value: 0.0, bound: 0.0 }; width];
            own.get(t * width..(t + 1) * width).map_or(zeros, <[Bounded]>::to_vec)
        })
    };
    (0..steps).flat_map(row).collect()
}

/// What the reference computes of the list of sequences, and its bounds.
pub fn expected(data: &Data, lengths: &[usize]) -> Parts<Bounded> {
    let (outputs, layer) = (data.layer.output_size(), data.layer.reference());
    let sequence = |(n, &len)| {
        let inputs = data.sequence(n).stretch(0..len).inputs;
        Inputs { params: Vec::new(), ..inputs }.map(|values| bounds::exact(values))
    };
    let list: Vec<_> = lengths.iter().enumerate().map(sequence).collect();
    let List { params, sequences } = layer.run_list(&bounds::exact(&data.inputs.params), &list);
    let last: Vec<_> =
        list.iter().zip(&sequences).map(|(given, own)| layer.last_state(given, own)).collect();
    let of = |part: fn(&Outcome<Vec<Bounded>>) -> &Vec<Bounded>| -> Vec<Vec<Bounded>> {
        sequences.iter().map(|own| part(own).clone()).collect()
    };
    let last = |which: usize| last.iter().flat_map(|own| own[which].clone()).collect();
    [
        ("h", padded(&of(|own| &own.h), outputs, data.steps)),
        ("h_last", last(0)),
        ("c_last", last(1)),
        ("params", params),
        ("dx", padded(&of(|own| &own.dx), data.layer.input_size(), data.steps)),
        ("dh0", of(|own| &own.dh0).concat()),
        ("dc0", of(|own| &own.dc0).concat()),
    ]
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
