//! How much passes allocate, and how much they say that they will.

use crate::case::{Case, Targets};
use bptt::{Accumulate, Dense, Error, Isa, Network, Runtime, Schedule};
use bptt_reference::readout::Reduction;

#[test]
fn nothing_is_allocated_in_a_pass() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (250, 300, 33), 1);
        let Case { model, workspace, x, classes, mask, .. } = &mut case;
        let allocated = allocation_counter::measure(|| {
            let targets = Targets { classes, mask: Some(mask), reduction: Reduction::Mean };
            let (x, loss) = (&*x, targets.loss());
            model.forward(workspace, x).unwrap();
            model.backward(workspace, x, &loss, Accumulate::No).unwrap();
            model.evaluate(workspace, x, &loss).unwrap();
            model.gradients(workspace, x, &loss, Accumulate::Yes).unwrap();
            model.change(|_| Ok::<(), Error>(())).unwrap();
        });
        assert_eq!(allocated.count_total, 0);
    }
}

/// One allocation for the passes and one for the gradients; the rest are the plan's few words and
/// names.
#[test]
fn a_workspace_takes_what_it_says() {
    for &isa in Isa::available() {
        let Case { mut model, .. } = Case::new(isa, (250, 300, 33), 1);
        let training = model.training(Schedule::dense(250, 1)).with_input_gradients();
        let bytes = training.bytes().unwrap();
        let mut made = None;
        let allocated = allocation_counter::measure(|| made = Some(training.workspace().unwrap()));
        let workspace = made.unwrap();
        assert_eq!(workspace.bytes(), bytes);
        let gradients = size_of_val(workspace.gradients().as_slice());
        let rest = allocated.bytes_total - (bytes + gradients) as u64;
        assert!(rest < 4096, "{rest} bytes beside");
    }
}

/// The block's scratch, the outputs, and the gradient of the input if it is asked for.
#[test]
fn a_workspace_has_the_size_that_is_documented() {
    for &isa in Isa::available() {
        for (rows, inputs, outputs) in [(13, 33, 10), (700, 900, 10)] {
            for threads in [1, 3] {
                let network = Network::new(Dense::new(inputs, outputs).unwrap());
                let runtime = Runtime::new(isa).threads(threads);
                let mut model = network.model(network.parameters().unwrap(), runtime).unwrap();
                let columns = inputs.next_multiple_of(2 * isa.lanes());
                let depth = rows.min(256);
                let gradient = depth * columns + 96 * depth.next_multiple_of(16) * threads;
                let product = rows.min(96 * threads) * inputs.next_multiple_of(16);
                let scratch = gradient.max(product).next_multiple_of(16);
                let floats = (rows * outputs).next_multiple_of(16) + scratch;
                let schedule = Schedule::dense(rows, 1);
                assert_eq!(model.training(&schedule).bytes(), Ok(4 * floats));
                let floats = floats + (rows * inputs).next_multiple_of(16);
                let training = model.training(&schedule).with_input_gradients();
                assert_eq!(training.bytes(), Ok(4 * floats));
            }
        }
    }
}
