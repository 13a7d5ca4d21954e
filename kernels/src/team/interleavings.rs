//! Lets loom explore every order in which a caller and one helper can take their steps, with every
//! value that their loads may see. Checks that all work is done once and in its phases, and that
//! nobody looks at the work after it has ended.
//!
//! ```text
//! scripts/loom.py             # explores
//! scripts/loom.py --mutants   # shows that faults in the orderings are found
//! ```

use super::sync::UnsafeCell;
use super::{Busy, On, Pass, Phases, Shared};
use crate::Isa;
use crate::simd::Simd;
use loom::sync::Arc;
use std::cell::Cell;

loom::thread_local! {
    /// The pass that this helper has a seat in.
    static SEAT: Cell<u64> = Cell::new(0);
}

/// Work in phases, with one cell for each task. Each task writes its own cell once; tasks of later
/// phases read the cells of the phase before. loom panics if two threads use one cell at the same
/// time.
struct Watched {
    /// The number of its pass.
    pass: u64,
    cells: Vec<Vec<UnsafeCell<usize>>>,
}

impl Watched {
    fn new(pass: u64, tasks: &[usize]) -> Self {
        let cell = |_| UnsafeCell::new(0);
        Self { pass, cells: tasks.iter().map(|&count| (0..count).map(cell).collect()).collect() }
    }

    /// Panics unless each task has been done exactly once.
    fn assert_done(&self) {
        for cell in self.cells.iter().flatten() {
            // SAFETY: loom panics if another thread uses the cell at this time.
            cell.with(|done| assert_eq!(unsafe { *done }, 1));
        }
    }
}

// SAFETY: loom panics if two threads use one cell at the same time, which is what this tests.
unsafe impl Sync for Watched {}

// SAFETY: the numbers do not change, and a task writes its own cell.
unsafe impl Phases for Watched {
    fn phases(&self) -> usize {
        self.cells.len()
    }

    fn tasks(&self, phase: usize) -> usize {
        self.cells[phase].len()
    }

    unsafe fn run<S: Simd>(&self, _simd: S, thread: usize, phase: usize, task: usize) {
        if thread > 0 {
            // If there were another helper in this pass, two threads would have the same number.
            assert_eq!(SEAT.with(Cell::get), self.pass, "a seat of another pass");
        }
        if phase > 0 {
            for cell in &self.cells[phase - 1] {
                // SAFETY: as above.
                cell.with(|done| assert_eq!(unsafe { *done }, 1));
            }
        }
        // SAFETY: as above.
        self.cells[phase][task].with_mut(|done| unsafe { *done += 1 });
    }
}

/// Runs `passes` one after another, each with its list of works, while a helper looks for a seat as
/// many times as there are passes.
fn explore(passes: &'static [&'static [&'static [usize]]], preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let isa = Isa::named("portable").unwrap();
        let shared = Arc::new(Shared::new(2));
        let helper = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                for _ in 0..passes.len() {
                    if let Some(seat) = shared.take_seat() {
                        assert_eq!(seat.id, 1);
                        SEAT.with(|pass| pass.set(seat.pass));
                        shared.help(seat);
                    }
                }
            })
        };
        for (number, works) in passes.iter().enumerate() {
            let number = number as u64 + 1;
            let _on = On::new(&shared, number, 2);
            let _busy = Busy::new();
            let mut pass = Pass { shared: Some(&shared) };
            for tasks in *works {
                let work = Watched::new(number, tasks);
                // SAFETY: the work is borrowed for the call.
                unsafe { pass.run(isa, &work) };
                work.assert_done();
            }
        }
        helper.join().unwrap();
    });
}

#[test]
fn a_work_of_two_phases() {
    explore(&[&[&[2, 1]]], 3);
}

#[test]
fn two_works_in_a_pass() {
    explore(&[&[&[2], &[2]]], 3);
}

#[test]
fn a_pass_after_another() {
    explore(&[&[&[2]], &[&[2]]], 3);
}
