//! Sequences in one batch and in two, and a stream in blocks of any sizes.

use crate::common::{
    Kind, Layout, Own, Sequence, Subject, assert_bits, draw_list, drawn_model, drawn_state, filled,
    isas, run_list,
};
use crate::list::inputs;
use bptt::{Accumulate, Dense, Lstm, Model, Runtime, Schedule, State};
use bptt_reference::Bounded;
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::sample::uniform;

/// Runs over batches of sequences of `steps` steps, one batch after the other, whose gradients are
/// added up.
fn run(model: &mut Model, batches: &[&[Sequence]], steps: usize) -> (Vec<Own>, Vec<f32>) {
    let (mut all, mut accumulate) = (Vec::new(), Accumulate::No);
    let mut gradients = filled(model.manifest().len());
    for batch in batches {
        let training = model.training(Schedule::dense(steps, batch.len()));
        let training = training.with_input_gradients().with_state_gradients();
        let mut workspace = training.workspace().unwrap();
        workspace.gradients_mut().as_mut_slice().copy_from_slice(&gradients);
        let layout = Layout::TimeMajor(steps);
        all.extend(run_list((model, &mut workspace), layout, batch, accumulate));
        gradients.copy_from_slice(workspace.gradients().as_slice());
        accumulate = Accumulate::Yes;
    }
    (all, gradients)
}

/// ∂L/∂ of the parameters over all sequences, in `f64`, with the bounds of a sum in any order.
fn expected(subject: &Subject, parameters: &[f32], sequences: &[Sequence]) -> Vec<Bounded> {
    let inputs: Vec<_> = sequences.iter().map(inputs).collect();
    subject.reference().run_list(&exact(parameters), &inputs).params
}

/// All results of a sequence have the same bits. Gradients of parameters are sums over all rows from
/// the last step to the first, and within a step from the last sequence to the first. So over one
/// step they have the same bits too, if the batch of the last sequences comes first; and over more
/// steps they are sums of the same terms in another order, both within the bounds of any order.
#[test]
fn two_batches_of_50_and_one_of_100() {
    for (nth, kind) in Kind::all().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let parameters = uniform(1, subject.parameter_count(), 0.1);
        for steps in [1, 3] {
            let sequences = draw_list(&subject, &[steps; 100], nth as u64, 0);
            let (first, last) = sequences.split_at(50);
            let bounds = expected(&subject, &parameters, &sequences);
            for &isa in isas() {
                let mut model = subject.model(isa, &parameters);
                let (one, of_one) = run(&mut model, &[&sequences], steps);
                let (mut two, of_two) = run(&mut model, &[last, first], steps);
                two.rotate_left(50);
                let what = format!("{subject:?} on {isa}, {steps} steps");
                for (n, (two, one)) in two.iter().zip(&one).enumerate() {
                    two.assert_same(&format!("sequence {n}, {what}"), one);
                }
                if steps == 1 {
                    assert_bits(&format!("params, {what}"), &of_two, &of_one);
                }
                assert_within(&format!("params of one, {what}"), &of_one, &bounds);
                assert_within(&format!("params of two, {what}"), &of_two, &bounds);
            }
        }
    }
}

/// The outputs of a stream of 3 sequences that is given blocks of steps, one after the other, and
/// the state after the last block.
fn in_blocks(model: &Model, x: &[f32], blocks: &[usize]) -> (Vec<f32>, State) {
    let steps: usize = blocks.iter().sum();
    let mut stream = model.stream(3).unwrap();
    stream.set_state(&drawn_state(model, 3, 2)).unwrap();
    let mut y = filled(steps * 3 * model.output_size());
    let (mut x, mut rest, input) = (x, &mut y[..], x.len() / steps);
    for &steps in blocks {
        let (block, later) = x.split_at(steps * input);
        let (to, after) = rest.split_at_mut(steps * 3 * model.output_size());
        stream.forward(block, to).unwrap();
        (x, rest) = (later, after);
    }
    assert!(x.is_empty() && rest.is_empty(), "blocks of all steps");
    (y, stream.state().unwrap())
}

/// Of each cell, alone and in a network, whose blocks take turns.
#[test]
fn blocks_of_1_2_64_and_480_of_a_stream_of_3_sequences() {
    let steps = 1 + 2 + 64 + 480;
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let (layer, outputs) = (subject.network(), subject.output_size());
        let network = layer.clone().then(Lstm::new(outputs, 6).unwrap());
        let network = network.then(Dense::new(6, 4).unwrap());
        let x = uniform(3, steps * 3 * subject.input_size(), 1.0);
        for network in [layer, network] {
            for &isa in isas() {
                let mut model = drawn_model(&network, Runtime::new(isa));
                let mut pass = model.training_workspace(Schedule::dense(steps, 3)).unwrap();
                pass.set_state(&drawn_state(&model, 3, 2)).unwrap();
                let whole = model.forward(&mut pass, &x).unwrap().to_vec();
                for blocks in [&[steps][..], &[1, 2, 64, 480], &[480, 64, 2, 1]] {
                    let what = format!("{subject:?} on {isa}, {blocks:?}");
                    let (y, last) = in_blocks(&model, &x, blocks);
                    assert_bits(&format!("y, {what}"), &y, &whole);
                    assert_eq!(last, pass.last_state().unwrap(), "{what}");
                }
            }
        }
    }
}
