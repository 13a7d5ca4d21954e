//! Every entry on slices that end right before, or begin right after, a page that may not be
//! touched: reading one lane too far ends the program. Each case is printed before it runs, so that
//! one can see where: `-- --nocapture --test-threads=1`.

mod common;

#[cfg(not(unix))]
#[test]
fn guard_pages() {
    common::say("guard pages NOT tested: they need mmap");
}

#[cfg(unix)]
mod tests {
    use crate::common::guarded::{GuardLines, Guarded, Side};
    use crate::common::{
        Attended, AttentionCase, AttentionGradients, Case, Functions, Kept, Lengths, ScanCase,
        Scanned, Scores, SlstmCase, Variant, Which, assert_bits, by_columns, by_rows, dense,
        filled, isas, scans,
    };
    use bptt_kernels::cells::Activations;
    use bptt_kernels::diagonal::Diagonal;
    use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
    use bptt_kernels::gemm::{self, Start, gemm};
    use bptt_kernels::logistic::Logistic;
    use bptt_kernels::rowwise::{
        LayerNormBackward, LayerNormForward, Strided, StridedMut, activate, activation_gradients,
        drop_out,
    };
    use bptt_kernels::slstm::{SlstmForget, SlstmSizes};
    use bptt_kernels::softmax::CrossEntropy;
    use bptt_kernels::team::Pass;
    use bptt_kernels::vmath::{Function, map, map_in_place};
    use bptt_kernels::{Isa, Joined};
    use bptt_reference::sample::uniform;
    use std::ops::DerefMut;

    #[global_allocator]
    static ALLOCATOR: GuardLines = GuardLines;

    /// Odd sizes around the lanes of every instruction set.
    const SIZES: [usize; 9] = [1, 3, 4, 5, 8, 13, 16, 17, 35];

    /// The functions of the cells.
    const FUNCTIONS: [Functions; 2] = [Functions::Usual(Activations::Tanh), Functions::LIMITED];

    /// Asserts, for each instruction set and both sides, that `run` gives the same on guarded
    /// slices as on others.
    fn each<const N: usize>(
        what: &str,
        plain: impl Fn(Isa, &dyn Fn(&[f32]) -> Vec<f32>) -> [Vec<f32>; N],
        guarded: impl Fn(Isa, &dyn Fn(&[f32]) -> Guarded) -> [Vec<f32>; N],
    ) {
        for &isa in isas() {
            let expected = plain(isa, &|values| values.to_vec());
            for side in [Side::Begin, Side::End] {
                println!("{what} on {isa}, {side:?}");
                let given = guarded(isa, &|values| Guarded::new(values, side));
                for (given, expected) in given.iter().zip(&expected) {
                    assert_bits(what, given, expected);
                }
            }
        }
    }

    fn vmath<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        function: Function,
        values: &[f32],
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 2] {
        let (mut x, mut out) = (make(values), make(&filled(values.len())));
        map(isa, function, &x, &mut out).unwrap();
        map_in_place(isa, function, &mut x);
        [x.to_vec(), out.to_vec()]
    }

    #[test]
    fn vmath_stays_in_its_slices() {
        for function in [Function::Exp, Function::Logistic, Function::Tanh] {
            for len in (1..=36).chain([63, 64, 65, 1024, 1025]) {
                let x = uniform(1, len, 5.0);
                each(
                    &format!("{function:?} of {len}"),
                    |isa, make| vmath(isa, function, &x, make),
                    |isa, make| vmath(isa, function, &x, make),
                );
            }
        }
    }

    /// The losses of two rows, whose gradients replace the logits.
    fn losses<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        logits: &[f32],
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 2] {
        let classes = logits.len() / 2;
        let shares: Vec<f32> = uniform(2, logits.len(), 0.5).iter().map(|t| t + 0.5).collect();
        let (mut yes, shares) = (make(logits), make(&shares));
        Logistic::default().gradient(isa, 1.0, &mut yes, &shares).unwrap();
        let (mut softmax, weights) = (make(logits), make(&uniform(3, classes, 1.0)));
        let targets = [0, classes as u32 - 1];
        let entropy = CrossEntropy::new(classes, &targets, None).unwrap();
        let entropy = entropy.with_smoothing(0.1).with_weights(&weights).unwrap();
        entropy.gradient(isa, 1.0, &mut softmax).unwrap();
        [yes.to_vec(), softmax.to_vec()]
    }

    #[test]
    fn losses_stay_in_their_slices() {
        for classes in (1..=36).chain([63, 64, 65]) {
            let logits = uniform(1, 2 * classes, 5.0);
            each(
                &format!("losses of {classes} classes"),
                |isa, make| losses(isa, &logits, make),
                |isa, make| losses(isa, &logits, make),
            );
        }
    }

    /// An activation function and its gradient, dropout, and layer normalisation of three rows.
    fn rows_alone<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        width: usize,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 6] {
        let (rows, stride, pass) = (3, width + 2, &mut Pass::serial());
        let (size, strided, dense) = ((rows, width), 2 * stride + width, rows * width);
        let draw = |seed, len| make(&uniform(seed, len, 2.0));
        let mut y = draw(1, strided);
        let to = StridedMut { values: &mut y, stride };
        activate(isa, Activations::Tanh.into(), size, to, pass).unwrap();
        let (dy, mut dz) = (draw(2, strided), make(&filled(strided)));
        let of = |values| Strided { values, stride };
        let to = StridedMut { values: &mut dz, stride };
        let phi = Activations::Tanh.into();
        activation_gradients(isa, phi, size, (of(&y), of(&dy)), to, pass).unwrap();
        let mut dropped = make(&filled(strided));
        let to = StridedMut { values: &mut dropped, stride };
        drop_out(isa, (0.5, &[1, 2, 3, 4, 5, 6]), size, of(&dy), to, pass).unwrap();
        let (x, gain, bias) = (draw(3, dense), draw(4, width), draw(5, width));
        let (mut normal, mut inverse) = (make(&filled(dense)), make(&filled(rows)));
        let mut normed = make(&filled(strided));
        LayerNormForward {
            rows,
            x: &x,
            epsilon: 0.1,
            gain: &gain,
            bias: &bias,
            normal: &mut normal,
            inverse: &mut inverse,
            y: StridedMut { values: &mut normed, stride },
        }
        .run(isa, pass)
        .unwrap();
        let mut dx = make(&filled(dense));
        let (gain, normal, inverse) = (&gain[..], &normal[..], &inverse[..]);
        LayerNormBackward { rows, gain, normal, inverse, dy: of(&dy), dx: &mut dx }
            .run(isa, pass)
            .unwrap();
        [y.to_vec(), dz.to_vec(), dropped.to_vec(), normed.to_vec(), normal.to_vec(), dx.to_vec()]
    }

    #[test]
    fn rows_alone_stay_in_their_slices() {
        for width in (1..=36).chain([63, 64, 65]) {
            each(
                &format!("rows of {width}"),
                |isa, make| rows_alone(isa, width, make),
                |isa, make| rows_alone(isa, width, make),
            );
        }
    }

    /// From each start, with weights packed by rows and, for one gate, by columns.
    fn products<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        (rows, gates, units, depth): (usize, usize, usize, usize),
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 4] {
        let outputs = gates * units;
        let (a, bias) = (make(&uniform(1, rows * depth, 1.0)), make(&uniform(2, outputs, 1.0)));
        let weights = make(&uniform(3, outputs * depth, 1.0));
        let packed = by_rows(isa, gates, depth, &weights);
        let mut scratch = make(&filled(gemm::scratch_len(rows, depth).unwrap()));
        let starts = [Start::Zero, Start::Accumulate, Start::Bias(&bias)];
        let [zero, accumulate, bias] = starts.map(|start| {
            let mut c = make(&uniform(4, rows * outputs, 1.0));
            gemm(isa, rows, &a, &packed, start, &mut c, &mut scratch).unwrap();
            c.to_vec()
        });
        let mut c = make(&filled(rows * outputs));
        let packed = by_columns(isa, depth, &weights);
        gemm(isa, rows, &a, &packed, Start::Zero, &mut c, &mut scratch).unwrap();
        [zero, accumulate, bias, c.to_vec()]
    }

    #[test]
    fn gemm_and_packing_stay_in_their_slices() {
        for units in SIZES {
            for (rows, gates, depth) in [(1, 4, 3), (5, 1, 17), (13, 4, 1), (98, 1, 5), (2, 1, 259)]
            {
                let sizes = (rows, gates, units, depth);
                each(
                    &format!("rows, gates, units, depth = {sizes:?}"),
                    |isa, make| products(isa, sizes, make),
                    |isa, make| products(isa, sizes, make),
                );
            }
        }
    }

    fn layer<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        (rows, outputs, depth): (usize, usize, usize),
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 1] {
        let (a, bias) = (make(&uniform(1, rows * depth, 1.0)), make(&uniform(2, outputs, 1.0)));
        let layer = dense(isa, depth, &make(&uniform(3, outputs * depth, 1.0)), &bias);
        let mut scratch = make(&filled(gemm::scratch_len(rows, depth).unwrap()));
        let mut c = make(&filled(rows * outputs));
        layer.run(rows, &a, &mut c, outputs, &mut scratch, &mut Pass::serial()).unwrap();
        [c.to_vec()]
    }

    #[test]
    fn dense_layers_stay_in_their_slices() {
        for depth in SIZES.into_iter().chain([63, 64, 65, 130]) {
            for (rows, outputs) in [(1, 1), (3, 2), (65, 1), (2, 9)] {
                let sizes = (rows, outputs, depth);
                each(
                    &format!("rows, outputs, depth = {sizes:?}"),
                    |isa, make| layer(isa, sizes, make),
                    |isa, make| layer(isa, sizes, make),
                );
            }
        }
    }

    #[test]
    fn single_steps_stay_in_their_slices() {
        for which in Which::all() {
            for hidden in SIZES {
                for (inputs, outputs) in [(1, 1), (3, 5), (17, 18)] {
                    let drawn = Case::draw(which, inputs, which.dims(2, 1, hidden), 1, 0.5);
                    let case = Case { noisy: inputs == 3, ..drawn };
                    let features = case.dims.outputs;
                    let (weights, bias) = (uniform(2, outputs * features, 1.0), filled(outputs));
                    for functions in FUNCTIONS {
                        each(
                            &format!("{which:?}, single steps, {inputs}, {hidden}, {outputs}"),
                            |isa, make| {
                                let dense = dense(isa, features, &weights, &bias);
                                case.singly(isa, functions, &dense, outputs, make)
                            },
                            |isa, make| {
                                let dense = dense(isa, features, &weights, &bias);
                                case.singly(isa, functions, &dense, outputs, make)
                            },
                        );
                    }
                }
            }
        }
    }

    fn outer<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        (depth, rows, columns): (usize, usize, usize),
        accumulate: bool,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 2] {
        let (a, b) = (uniform(1, depth * rows, 1.0), uniform(2, depth * columns, 1.0));
        let (a, b, mut c) = (make(&a), make(&b), make(&uniform(3, rows * columns, 1.0)));
        let mut scratch = make(&filled(scratch_len(isa, 1, depth, &[columns]).unwrap()));
        let mut sums = make(&uniform(4, rows, 1.0));
        let (c, sums, scratch) = (&mut c, &mut sums, &mut scratch);
        let products = [Rhs::new(&b, c, columns)];
        let outer = WeightGradients {
            depth,
            a: &a,
            stride: rows,
            rows,
            products,
            sums: Some(sums),
            accumulate,
            scratch,
        };
        outer.run(isa, &mut Pass::serial()).unwrap();
        [c.to_vec(), sums.to_vec()]
    }

    #[test]
    fn outer_products_stay_in_their_slices() {
        for columns in SIZES {
            for (depth, rows) in [(1, 5), (7, 1), (3, 13), (2, 99), (259, 4)] {
                for accumulate in [false, true] {
                    let sizes = (depth, rows, columns);
                    each(
                        &format!(
                            "depth, rows, columns = {sizes:?}, onto what is there: {accumulate}"
                        ),
                        |isa, make| outer(isa, sizes, accumulate, make),
                        |isa, make| outer(isa, sizes, accumulate, make),
                    );
                }
            }
        }
    }

    fn diagonal<B: DerefMut<Target = [f32]>>(
        isa: Isa,
        (depth, columns, stride): (usize, usize, usize),
        (with_b, accumulate): (bool, bool),
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 1] {
        let a = make(&uniform(1, (depth - 1) * stride + columns, 1.0));
        let (b, mut c) = (make(&uniform(2, depth * columns, 1.0)), make(&uniform(3, columns, 1.0)));
        let b = with_b.then(|| Joined::whole(&b, columns));
        let sums = Diagonal { depth, a: &a, stride, b, c: &mut c, accumulate };
        sums.run(isa, &mut Pass::serial()).unwrap();
        [c.to_vec()]
    }

    #[test]
    fn diagonals_stay_in_their_slices() {
        for columns in SIZES.into_iter().chain([64, 130]) {
            for (depth, spread) in [(1, 0), (3, 5), (7, 0)] {
                for options in [(false, false), (false, true), (true, false), (true, true)] {
                    let sizes = (depth, columns, columns + spread);
                    each(
                        &format!("diagonal of {sizes:?}, {options:?}"),
                        |isa, make| diagonal(isa, sizes, options, make),
                        |isa, make| diagonal(isa, sizes, options, make),
                    );
                }
            }
        }
    }

    /// Passes over a case with all functions, forward in each of the variants, and backward.
    fn passes(case: &Case, variants: &[Variant]) {
        for functions in FUNCTIONS {
            passes_with(functions, case, variants);
        }
    }

    fn passes_with(act: Functions, case: &Case, variants: &[Variant]) {
        let Case { which, inputs, dims, noisy, .. } = *case;
        let (rows, geometry) = (case.rows(), which.geometry());
        let parts = |kept: Kept| {
            let Kept { gates, extra, h, c, seen, normal } = kept;
            [gates, extra, h, c, seen, normal.concat()]
        };
        for &variant in variants {
            each(
                &format!("{which:?} forward, {variant:?}, {inputs} inputs, {dims:?}"),
                |isa, make| parts(case.forward(isa, act, variant, make)),
                |isa, make| parts(case.forward(isa, act, variant, make)),
            );
        }
        let cells = if geometry.cells { rows * dims.hidden } else { 0 };
        let kept = Kept {
            gates: uniform(2, rows * geometry.gates * dims.hidden, 1.0),
            extra: uniform(3, rows * geometry.extra * dims.hidden, 1.0),
            h: uniform(4, rows * dims.outputs, 1.0),
            c: uniform(5, cells, 1.0),
            normal: case.norm_lens(rows).map(|len| uniform(14, len, 1.0)),
            seen: uniform(6, if noisy { rows * dims.outputs } else { 0 }, 1.0),
        };
        each(
            &format!("{which:?} backward, {dims:?}"),
            |isa, make| case.backward(isa, act, &kept, make),
            |isa, make| case.backward(isa, act, &kept, make),
        );
    }

    #[test]
    fn passes_stay_in_their_slices() {
        for which in Which::all() {
            for hidden in SIZES {
                for (inputs, batch, steps) in [(1, 1, 3), (3, 5, 2), (17, 2, 1), (2, 67, 2)] {
                    let dims = which.dims(steps, batch, hidden);
                    let noisy = steps != 2;
                    let gap = inputs % 2;
                    let case = Case { noisy, gap, ..Case::draw(which, inputs, dims, 1, 0.5) };
                    passes(&case, Variant::of(which));
                }
            }
        }
    }

    #[test]
    fn passes_over_different_lengths_stay_in_their_slices() {
        for which in Which::all() {
            for hidden in SIZES {
                for (lengths, noisy) in [(&[3, 2, 2, 0][..], true), (&[5, 1], false)] {
                    let part = |&len: &usize| Case {
                        noisy,
                        ..Case::draw(which, 2, which.dims(len, 1, hidden), 1, 0.5)
                    };
                    let parts: Vec<_> = lengths.iter().map(part).collect();
                    passes(&Case::joined_with(&parts), &[Variant::Keep]);
                }
            }
        }
    }

    #[test]
    fn attention_stays_in_its_slices() {
        let forward = |Attended { scores, weights, contexts }| [scores, weights, contexts];
        let backward = |gradients| {
            let AttentionGradients { dweights, dscores, dqueries, dkeys, dvalues, dvector } =
                gradients;
            [dweights, dscores, dqueries, dkeys, dvalues, dvector]
        };
        let batches = [&[[1, 1]][..], &[[5, 1], [0, 2], [8, 1]], &[[13, 4], [3, 0], [10, 9]]];
        for scores in [Scores::Dot, Scores::Additive] {
            for width in SIZES.into_iter().chain([64, 67, 130]) {
                for (gap, batch) in batches.into_iter().enumerate() {
                    let lengths: Vec<_> = batch
                        .iter()
                        .map(|&[source, queries]| Lengths { source, queries })
                        .collect();
                    let drawn = AttentionCase::draw(scores, &lengths, width, 1);
                    let case = AttentionCase { gap, ..drawn };
                    each(
                        &format!("{scores:?} attention of {batch:?}, {width}"),
                        |isa, make| forward(case.forward(isa, make)),
                        |isa, make| forward(case.forward(isa, make)),
                    );
                    let weights = case.forward(isas()[0], |values| values.to_vec()).weights;
                    each(
                        &format!("{scores:?} attention of {batch:?}, {width}, backward"),
                        |isa, make| backward(case.backward(isa, &weights, make)),
                        |isa, make| backward(case.backward(isa, &weights, make)),
                    );
                }
            }
        }
    }

    #[test]
    fn slstms_stay_in_their_slices() {
        for forget in [SlstmForget::Exponential, SlstmForget::Logistic] {
            for units in SIZES {
                for (batch, rows, heads) in [(1, 1, 1), (3, 2, 2), (4, 4, 3)] {
                    let sizes = SlstmSizes { batch, rows, heads, units };
                    let before = SlstmCase::draw(sizes, forget, 1, 2.0);
                    for keep in [true, false] {
                        each(
                            &format!("{sizes:?}, {forget:?}, kept: {keep}"),
                            |isa, make| [slstm_step(&before, isa, keep, make)],
                            |isa, make| [slstm_step(&before, isa, keep, make)],
                        );
                    }
                    each(
                        &format!("{sizes:?}, {forget:?}, backward"),
                        |isa, make| [slstm_back(&before, isa, make)],
                        |isa, make| [slstm_back(&before, isa, make)],
                    );
                }
            }
        }
    }

    /// What a step leaves in buffers that `make` makes.
    fn slstm_step<B: DerefMut<Target = [f32]>>(
        before: &SlstmCase,
        isa: Isa,
        keep: bool,
        make: impl Fn(&[f32]) -> B,
    ) -> Vec<f32> {
        let mut case = before.within(make);
        case.forward(isa, keep, &mut Pass::serial()).unwrap();
        case.results()
    }

    /// What a backward step leaves in buffers that `make` makes.
    fn slstm_back<B: DerefMut<Target = [f32]>>(
        before: &SlstmCase,
        isa: Isa,
        make: impl Fn(&[f32]) -> B,
    ) -> Vec<f32> {
        let mut after = before.clone();
        after.forward(isa, true, &mut Pass::serial()).unwrap();
        let mut back = after.back(2).within(&make);
        let (before, after) = (before.within(&make), after.within(&make));
        after.backward(isa, &before, &mut back, &mut Pass::serial()).unwrap();
        back.results()
    }

    #[test]
    fn scans_stay_in_their_slices() {
        let parts = |Scanned { gates, state, c, h }| [gates, state, c, h];
        for cell in scans() {
            for hidden in SIZES {
                for (lengths, gap) in [(vec![3], 0), (vec![3, 2, 2, 0], 1), (vec![1; 5], 2)] {
                    let schedule = ScanCase::schedule(lengths);
                    let drawn = ScanCase::draw(cell, schedule, hidden, 1, 2.0);
                    let case = ScanCase { gap, ..drawn };
                    for keep in [true, false] {
                        each(
                            &format!("{cell:?} forward, {hidden} units, kept: {keep}"),
                            |isa, make| parts(case.forward(isa, keep, make)),
                            |isa, make| parts(case.forward(isa, keep, make)),
                        );
                    }
                    let kept = case.forward(isas()[0], true, |values| values.to_vec());
                    each(
                        &format!("{cell:?} backward, {hidden} units"),
                        |isa, make| case.backward(isa, &kept, make),
                        |isa, make| case.backward(isa, &kept, make),
                    );
                }
            }
        }
    }
}
