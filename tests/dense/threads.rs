//! Passes on several threads have the bits of one thread, whatever the number.

use crate::case::Case;
use bptt::Isa;
use bptt_kernels::team::set_cores;
use bptt_reference::readout::Reduction;

/// Rows, inputs and outputs: few rows, few outputs, several blocks of rows and of columns, and
/// enough work that helpers are called.
const SHAPES: [(usize, usize, usize); 7] = [
    (1, 16, 1),
    (13, 20, 33),
    (250, 300, 33),
    (700, 170, 200),
    (3, 900, 700),
    (4000, 300, 1),
    (4000, 40, 7),
];

#[test]
fn any_number_of_threads() {
    // Work is cut for this many threads if the pool has them, however many cores there are.
    set_cores(8);
    for &isa in Isa::available() {
        for shape in SHAPES {
            let mut one = Case::new(isa, shape, 5);
            let expected = (one.outputs(), one.pass(true, Reduction::Mean));
            for threads in [2, 3, 8] {
                let mut case = Case::with_threads(isa, shape, 5, threads);
                // Twice: the second pass finds the helpers of the first.
                for _ in 0..2 {
                    let given = (case.outputs(), case.pass(true, Reduction::Mean));
                    assert_eq!(given, expected, "{shape:?} on {isa}, threads {threads}");
                }
                let mut stream = case.model.stream(1).unwrap();
                let mut o = vec![f32::NAN; expected.0.len()];
                stream.forward(&case.x, &mut o).unwrap();
                assert_eq!(o, expected.0, "a stream of {shape:?} on {isa}, threads {threads}");
            }
        }
    }
}
