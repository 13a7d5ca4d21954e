//! Workspaces in memory that the caller hands in: they have the bits of workspaces with memory of their
//! own, whatever the memory contained, and memory that does not do is refused.

mod common;

use bptt::{
    Accumulate, Error, Lstm, Memory, Model, Network, Runtime, Schedule, SquaredError, Training,
    Workspace,
};
use bptt_reference::sample::uniform;
use common::{Kind, Subject, assert_bits, drawn_model, drawn_state, features_of, isas};

const INPUTS: usize = 3;

/// Bytes that begin at a chosen place in a cache line.
struct Bytes {
    all: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// `len` bytes that are all 255, so that each f32 in them is NaN. They begin `beyond` bytes beyond
    /// a multiple of 64.
    fn new(len: usize, beyond: usize) -> Self {
        let all = vec![255; len + beyond + 64];
        let start = all.as_ptr().align_offset(64) + beyond;
        Self { all, start, len }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.all[self.start..][..self.len]
    }
}

impl AsMut<[u8]> for Bytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..][..self.len]
    }
}

/// A plan with all gradients, within a budget for which the pass has to be divided if there is one.
fn plan<'m>(model: &'m mut Model, schedule: &Schedule, budget: bool) -> Training<'m> {
    let training = model.training(schedule).with_input_gradients().with_state_gradients();
    let bytes = training.bytes().unwrap();
    if budget { training.with_budget(bytes - 1) } else { training }
}

/// All results of a pass from the state before the first step, or from one that is given.
fn results(model: &Model, workspace: &mut Workspace, begins: bool) -> [Vec<f32>; 5] {
    let schedule = workspace.schedule();
    let (rows, sequences) = (schedule.given_rows(), schedule.sequences());
    let x = uniform(2, rows * features_of(model), 1.0);
    let targets = uniform(3, rows * model.output_size(), 1.0);
    if !begins {
        workspace.set_state(&drawn_state(model, sequences, 4)).unwrap();
        workspace.set_last_gradient(Some(&drawn_state(model, sequences, 5))).unwrap();
    }
    let loss = SquaredError::sum(&targets);
    let value = model.gradients(workspace, &x, &loss, Accumulate::No).unwrap();
    [
        vec![value as f32],
        workspace.gradients().as_slice().to_vec(),
        workspace.input_gradients().unwrap().to_vec(),
        workspace.state_gradients().unwrap().as_slice().to_vec(),
        workspace.last_state().unwrap().as_slice().to_vec(),
    ]
}

fn assert_same(what: &str, given: &[Vec<f32>; 5], expected: &[Vec<f32>; 5]) {
    given.iter().zip(expected).for_each(|(given, expected)| assert_bits(what, given, expected));
}

/// Whole passes and divided ones, over sequences of one length, of different lengths, and with resets,
/// in memory of exactly the bytes that are needed, full of NaN.
#[test]
fn the_bits_are_those_of_memory_of_its_own() {
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: INPUTS, hidden: 5 + 7 * (nth % 3) };
        let mut schedules =
            vec![Schedule::dense(40, 3), Schedule::packed(&[14, 0, 49, 31]).unwrap()];
        if !matches!(kind, Kind::Clockwork(..)) {
            schedules.push(Schedule::dense(50, 2).with_resets(&[(0, 33), (1, 0)]).unwrap());
        }
        for &isa in isas() {
            let mut model = drawn_model(&subject.network(), Runtime::new(isa));
            for schedule in &schedules {
                for budget in [false, true] {
                    let bytes = plan(&mut model, schedule, budget).bytes().unwrap();
                    let memory = Memory::of(Bytes::new(bytes, 0)).unwrap();
                    assert_eq!(memory.bytes(), bytes);
                    let training = plan(&mut model, schedule, budget);
                    let mut given = training.workspace_in(memory).unwrap();
                    let mut own = plan(&mut model, schedule, budget).workspace().unwrap();
                    assert_eq!(given.bytes(), bytes);
                    let what = format!("{kind:?} on {isa}, budget: {budget}, {schedule:?}");
                    for begins in [true, false] {
                        let expected = results(&model, &mut own, begins);
                        assert_same(&what, &results(&model, &mut given, begins), &expected);
                    }
                }
            }
        }
    }
}

/// One memory serves one model after another, and what is more than one needs serves longer sequences.
#[test]
fn memory_is_used_again() {
    let of = |hidden| Network::new(Lstm::new(INPUTS, hidden).unwrap());
    let mut memory = Memory::of(Bytes::new((1 << 18) + 3, 0)).unwrap();
    assert_eq!(memory.bytes(), 1 << 18, "whole numbers only");
    assert_eq!(format!("{memory:?}"), "Memory(262144 bytes, given)");
    for hidden in [5, 20, 3] {
        let mut model = drawn_model(&of(hidden), Runtime::best().unwrap());
        let short = Schedule::dense(4, 2);
        let mut workspace = plan(&mut model, &short, false).workspace_in(memory).unwrap();
        let mut own = plan(&mut model, &short, false).workspace().unwrap();
        let expected = results(&model, &mut own, false);
        assert_same("first", &results(&model, &mut workspace, false), &expected);
        let long = Schedule::dense(60, 3);
        workspace.replan(&long).unwrap();
        let mut own = plan(&mut model, &long, false).workspace().unwrap();
        let expected = results(&model, &mut own, true);
        assert_same("longer", &results(&model, &mut workspace, true), &expected);
        assert!(workspace.replan(Schedule::dense(90_000, 3)).is_err());
        memory = workspace.into_memory();
    }
    // Memory that a workspace has allocated can be used again, too.
    let mut model = drawn_model(&of(20), Runtime::best().unwrap());
    let allocated = model.training_workspace(Schedule::dense(9, 1)).unwrap().into_memory();
    assert_eq!(format!("{allocated:?}"), format!("Memory({} bytes, allocated)", allocated.bytes()));
    let mut smaller = drawn_model(&of(10), Runtime::best().unwrap());
    smaller.training(Schedule::dense(9, 1)).workspace_in(allocated).unwrap();
}

#[test]
fn memory_that_does_not_do_is_refused() {
    for beyond in [1, 4, 16, 32, 63] {
        let error = Memory::of(Bytes::new(4096, beyond)).unwrap_err().to_string();
        let expected = format!(
            "the address of the memory is {beyond} bytes beyond a multiple of 64, expected a multiple \
             of 64"
        );
        assert_eq!(error, expected);
    }
    let network = Network::new(Lstm::new(INPUTS, 8).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let schedule = Schedule::dense(5, 2);
    let needed = plan(&mut model, &schedule, false).bytes().unwrap();
    for less in [1, 4, needed] {
        let memory = Memory::of(Bytes::new(needed - less, 0)).unwrap();
        let room = memory.bytes();
        let error = plan(&mut model, &schedule, false).workspace_in(memory).unwrap_err();
        let text = format!("the workspace is {needed} bytes, expected at most {room}, its memory");
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, Error::Value { what: "the workspace", .. }));
    }
}
