//! Packing, and products with what was packed.

use super::Drawn;
use super::drawn::BEFORE;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::gemm::{Gemm, Start, team_scratch_len};
use bptt_kernels::team::Pass;
use bptt_kernels::{Dense, Format, Isa, PackedMatrix};

/// A matrix of small sizes, if all sizes that it is told of are such, and its gates.
fn matrix(drawn: &mut Drawn<'_>, format: Format) -> Option<(PackedMatrix, usize)> {
    let sizes = [drawn.size(4), drawn.size(40), drawn.size(40)];
    let [gates, units, depth] = sizes.map(|size| drawn.near(size));
    let values = drawn.product(&[gates, units, depth]);
    drawn.demand_alone(values.is_some_and(|values| values > 0));
    // Not one that is merely large: that might be allocated.
    let most = [gates, units, depth].into_iter().max()?;
    if values.is_none() && most < usize::MAX >> 3 {
        return None;
    }
    let made = PackedMatrix::zeros_as(format, drawn.isa, gates, units, depth);
    Some((drawn.check(made, &[])?, gates))
}

fn any_format(drawn: &mut Drawn<'_>) -> Format {
    [Format::F32, Format::Bf16, Format::Int8][drawn.choice(3)]
}

/// The products of a matrix with the rows of an identity: all of its values.
fn values(isa: Isa, matrix: &PackedMatrix) -> Vec<u32> {
    let rows = matrix.depth();
    let mut a = vec![0.0; rows * rows];
    a.iter_mut().step_by(rows + 1).for_each(|one| *one = 1.0);
    let mut c = vec![0.0; rows * matrix.outputs()];
    let mut scratch = vec![0.0; team_scratch_len(1, rows, rows).unwrap()];
    let stride = matrix.outputs();
    let product = Gemm {
        rows,
        a: &a,
        weights: matrix,
        start: Start::Zero,
        c: &mut c,
        stride,
        scratch: &mut scratch,
    };
    product.run(isa, &mut Pass::serial()).unwrap();
    c.iter().map(|value| value.to_bits()).collect()
}

/// Packing by rows and by columns: what is refused leaves the matrix as it was.
pub fn packing(drawn: &mut Drawn<'_>) {
    let format = any_format(drawn);
    let Some((mut matrix, gates)) = matrix(drawn, format) else { return };
    let (isa, pass) = (drawn.isa, &mut Pass::serial());
    matrix.pack_rows(&vec![0.5; matrix.outputs() * matrix.depth()], pass).unwrap();
    let before = values(isa, &matrix);

    drawn.anew();
    let mut weights = drawn.floats(&[matrix.outputs(), matrix.depth()]);
    let finite = !drawn.seldom() || weights.is_empty();
    if !finite {
        let at = drawn.choice(weights.len());
        weights[at] = [f32::NAN, f32::INFINITY][drawn.choice(2)];
    }
    drawn.demand(finite || format != Format::Int8);
    let checked = matrix.check_rows(&weights);
    let packed = matrix.pack_rows(&weights, pass);
    assert_eq!(checked.is_ok(), packed.is_ok());
    if drawn.check(packed, &[]).is_none() {
        assert_eq!(values(isa, &matrix), before, "written before it was refused");
    }

    drawn.anew();
    matrix.pack_rows(&vec![0.5; matrix.outputs() * matrix.depth()], pass).unwrap();
    let weights = drawn.floats(&[matrix.outputs(), matrix.depth()]);
    drawn.demand(format == Format::F32 && gates == 1);
    if drawn.check(matrix.pack_columns(&weights, pass), &[]).is_none() {
        assert_eq!(values(isa, &matrix), before, "written before it was refused");
    }
}

/// `C = start + A · B`, which writes no float between its rows.
pub fn gemm(drawn: &mut Drawn<'_>) {
    let format = any_format(drawn);
    let Some((weights, _)) = matrix(drawn, format) else { return };
    drawn.anew();
    let size = drawn.size(100);
    let rows = drawn.near(size);
    let (outputs, depth) = (weights.outputs(), weights.depth());
    let wider = outputs + drawn.choice(4);
    let stride = drawn.near(wider);
    drawn.demand(stride >= outputs);
    let a = drawn.floats(&[rows, depth]);
    let mut c = drawn.floats(&[rows, stride]);
    let bias = drawn.choice(3);
    let bias = (bias == 0).then(|| drawn.floats(&[outputs]));
    let start = match &bias {
        Some(bias) => Start::Bias(bias),
        None => [Start::Zero, Start::Accumulate][drawn.choice(2)],
    };
    let least = team_scratch_len(1, rows, depth).ok();
    let mut scratch = drawn.room(least);
    let other = Isa::available()[drawn.choice(Isa::available().len())];
    let isa = if drawn.seldom() { other } else { drawn.isa };
    drawn.demand(isa == drawn.isa);
    let scratch = &mut scratch[..];
    let product = Gemm { rows, a: &a, weights: &weights, start, c: &mut c, stride, scratch };
    let result = product.run(isa, &mut Pass::serial());
    if drawn.check(result, &[&c, scratch]).is_some() && !c.is_empty() {
        let between = c.chunks(stride).flat_map(|row| &row[outputs..]);
        assert!(between.into_iter().all(|&v| v == BEFORE), "between the rows");
    }
}

/// One A with two, one or no B.
pub fn outer(drawn: &mut Drawn<'_>) {
    let (small, wide) = (drawn.size(40), drawn.size(120));
    let depth = if drawn.flip() { small } else { small * 20 };
    let (depth, rows) = (drawn.near(depth), drawn.near(wide));
    let wider = wide + drawn.choice(4);
    let stride = drawn.near(wider);
    drawn.demand(stride >= rows);
    let columns = [drawn.size(40), drawn.size(40)].map(|size| drawn.near(size));
    let count = drawn.choice(3);
    let others = if depth == 0 { Some(0) } else { drawn.product(&[depth - 1, stride]) };
    let last = if depth == 0 { 0 } else { rows };
    let a = drawn.room(others.and_then(|others| others.checked_add(last)));
    let mut sums = drawn.flip().then(|| drawn.floats(&[rows]));
    let mut operands = Vec::new();
    for &columns in &columns[..count] {
        operands.push((drawn.floats(&[depth, columns]), drawn.floats(&[rows, columns]), columns));
    }
    let least = scratch_len(drawn.isa, 1, depth, &columns[..count]).ok();
    let mut scratch = drawn.room(least);
    let (accumulate, isa) = (drawn.flip(), drawn.isa);
    let mut products = operands.iter_mut().map(|(b, c, columns)| Rhs::new(b, c, *columns));
    // As many as a product's type says.
    macro_rules! run {
        ($($right:ident)*) => {{
            $(let Some($right) = products.next() else { return };)*
            let products = [$($right),*];
            let (a, sums, scratch) = (&a[..], sums.as_deref_mut(), &mut scratch[..]);
            WeightGradients { depth, a, stride, rows, products, sums, accumulate, scratch }
                .run(isa, &mut Pass::serial())
        }};
    }
    let result = match count {
        0 => run!(),
        1 => run!(first),
        _ => run!(first second),
    };
    drop(products);
    let mut written = vec![&scratch[..], sums.as_deref().unwrap_or_default()];
    written.extend(operands.iter().map(|(_, c, _)| &c[..]));
    drawn.check(result, &written);
}

/// A dense layer: made, packed and run.
pub fn dense(drawn: &mut Drawn<'_>) {
    let (outputs, depth) = (drawn.size(20), drawn.size(40));
    let Ok(mut dense) = Dense::zeros(drawn.isa, outputs, depth) else { return };
    let (isa, pass) = (drawn.isa, &mut Pass::serial());
    let values = |dense: &Dense| {
        let (a, mut c) = (vec![1.0; depth], vec![0.0; outputs]);
        let mut scratch = vec![0.0; team_scratch_len(1, 1, depth).unwrap()];
        dense.run(1, &a, &mut c, outputs, &mut scratch, &mut Pass::serial()).unwrap();
        c
    };
    let (weights, bias) = (drawn.floats(&[outputs, depth]), drawn.floats(&[outputs]));
    if drawn.check(dense.pack(&weights, &bias, pass), &[]).is_none() {
        assert_eq!(values(&dense), vec![0.0; outputs], "written before it was refused");
    }

    drawn.anew();
    let size = drawn.size(40);
    let rows = drawn.near(size);
    let wider = outputs + drawn.choice(4);
    let stride = drawn.near(wider);
    drawn.demand(stride >= outputs);
    let (a, mut c) = (drawn.floats(&[rows, depth]), drawn.floats(&[rows, stride]));
    let mut scratch = vec![BEFORE; team_scratch_len(1, size + 1, depth).unwrap()];
    let result = dense.run(rows, &a, &mut c, stride, &mut scratch, pass);
    if drawn.check(result, &[&c, &scratch]).is_some() && !c.is_empty() {
        let between = c.chunks(stride).flat_map(|row| &row[outputs..]);
        assert!(between.into_iter().all(|&v| v == BEFORE), "between the rows");
    }

    drawn.anew();
    let sizes = [drawn.near(outputs), drawn.near(depth)];
    let values = drawn.product(&sizes);
    drawn.demand_alone(values.is_some_and(|values| values > 0));
    // Not one that is merely large: that might be allocated.
    if values.is_some() || sizes.iter().any(|&size| size >= usize::MAX >> 3) {
        drawn.check(Dense::zeros(isa, sizes[0], sizes[1]), &[]);
    }
}
