//! What does not fit is refused before anything is written.

use bptt_kernels::attention::{
    AdditiveGradients, AdditiveScores, Alignment, Contexts, DotScores, Softmax, SoftmaxGradients,
    SourceGradients,
};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, KernelError};

/// What was refused, and why.
fn refused<T: std::fmt::Debug>(result: Result<T, KernelError>) -> (&'static str, &'static str) {
    match result.unwrap_err() {
        KernelError::Short { what, .. } => ("short", what),
        KernelError::Length { what, .. } => ("length", what),
        KernelError::Dimension { what, .. } => ("dimension", what),
        KernelError::TooLarge { what } => ("large", what),
        other => panic!("{other}"),
    }
}

#[test]
fn alignments_are_checked() {
    let of = |source: &[usize], queries: &[usize], rows: &[usize]| {
        refused(Alignment::new(source.to_vec(), queries.to_vec(), rows.to_vec()))
    };
    assert_eq!(of(&[], &[0], &[]), ("dimension", "source"));
    assert_eq!(of(&[1, 2], &[0, 0], &[]), ("dimension", "source"));
    assert_eq!(of(&[0, 2, 1], &[0, 0, 0], &[]), ("dimension", "source"));
    assert_eq!(of(&[0, 1], &[], &[]), ("dimension", "queries"));
    assert_eq!(of(&[0, 1, 2], &[0, 2, 1], &[5]), ("dimension", "queries"));
    assert_eq!(of(&[0, 1], &[0, 1, 2], &[5, 6]), ("length", "queries"));
    assert_eq!(of(&[0, 1], &[0, 1], &[5, 6]), ("length", "rows"));
    assert_eq!(of(&[0, 1, 2], &[0, 1, 3], &[5, 6, 5]), ("dimension", "rows"));
    assert_eq!(of(&[0, 1], &[0, 1], &[usize::MAX]), ("large", "rows"));
    let alignment = Alignment::new(vec![0, 4, 7], vec![0, 1, 3], vec![5, 2, 9]).unwrap();
    assert_eq!((alignment.sequences(), alignment.source_rows()), (2, 7));
    assert_eq!((alignment.query_rows(), alignment.longest(), alignment.steps()), (10, 4, 2));
    assert_eq!(refused(alignment.stretch(1..3)), ("dimension", "stretch"));
    #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
    let reversed = alignment.stretch(2..1);
    assert_eq!(refused(reversed), ("dimension", "stretch"));
    assert!(alignment.stretch(2..2).is_ok());
}

/// Runs each entry with buffers of these lengths and strides, and says what was refused. Nothing is
/// written then.
#[derive(Clone, Copy)]
struct Given {
    source: usize,
    queries: usize,
    stride: usize,
    weights: usize,
    weights_stride: usize,
    /// As `source`, of what is written.
    gradients: usize,
    dvector: usize,
}

impl Given {
    /// Sizes that fit: query rows 0 to 2 of two floats, four source rows, of which three are one
    /// sequence's.
    const FITS: Self = Self {
        source: 8,
        queries: 8,
        stride: 3,
        weights: 12,
        weights_stride: 4,
        gradients: 8,
        dvector: 2,
    };

    /// What each of the seven entries refuses, or nothing.
    fn refused(self) -> [Option<(&'static str, &'static str)>; 7] {
        let alignment = Alignment::new(vec![0, 3, 4], vec![0, 2, 3], vec![1, 2, 0]).unwrap();
        let (isa, stretch, pass) = (Isa::available()[0], alignment.whole(), &mut Pass::serial());
        let (source, queries) = (vec![1.0; self.source], vec![1.0; self.queries]);
        let weights = vec![1.0; self.weights];
        let keys = Strided { values: &source, stride: 2 };
        let queries = Strided { values: &queries, stride: self.stride };
        let weights = Strided { values: &weights, stride: self.weights_stride };
        let vector = &[1.0; 2];
        let mut scores = vec![7.0; self.weights];
        let mut contexts = vec![7.0; self.queries];
        let mut gradients = vec![7.0; self.gradients];
        let mut dvector = vec![7.0; self.dvector];
        let mut of = |entry| {
            let to = StridedMut { values: &mut scores, stride: self.weights_stride };
            let rows = StridedMut { values: &mut contexts, stride: self.stride };
            let dkeys = StridedMut { values: &mut gradients, stride: 2 };
            let result = match entry {
                0 => DotScores { stretch, width: 2, queries, keys, scores: to }.run(isa, pass),
                1 => AdditiveScores { stretch, vector, queries, keys, scores: to }.run(isa, pass),
                2 => Softmax { stretch, scores: to }.run(isa, pass),
                3 => SoftmaxGradients { stretch, weights, gradients: to }.run(isa, pass),
                4 => {
                    let (values, contexts, accumulate) = (keys, rows, true);
                    Contexts { stretch, width: 2, weights, values, contexts, accumulate }
                        .run(isa, pass)
                }
                5 => {
                    SourceGradients { stretch, width: 2, weights, rows: queries, gradients: dkeys }
                        .run(isa, pass)
                }
                _ => AdditiveGradients {
                    stretch,
                    vector,
                    queries,
                    keys,
                    dscores: weights,
                    dvector: &mut dvector,
                    dqueries: rows,
                    dkeys,
                }
                .run(isa, pass),
            };
            let all = [&scores[..], &contexts, &gradients, &dvector].concat();
            let refused = result.is_err().then(|| refused(result));
            assert!(refused.is_none() || all.iter().all(|x| *x == 7.0), "entry {entry} wrote");
            scores.fill(7.0);
            contexts.fill(7.0);
            gradients.fill(7.0);
            dvector.fill(7.0);
            refused
        };
        std::array::from_fn(&mut of)
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let fits = Given::FITS;
    assert_eq!(fits.refused(), [None; 7]);
    let [short, length] = [|what| Some(("short", what)), |what| Some(("length", what))];
    let expected = [short("keys"), short("keys"), None, None, short("values"), None, short("keys")];
    assert_eq!(Given { source: 7, ..fits }.refused(), expected);
    let expected = [None, None, None, None, None, short("gradients"), short("dkeys")];
    assert_eq!(Given { gradients: 7, ..fits }.refused(), expected);
    for dvector in [1, 3] {
        let expected = [None, None, None, None, None, None, length("dvector")];
        assert_eq!(Given { dvector, ..fits }.refused(), expected);
    }
    let stride = short("stride");
    let expected = [stride, stride, None, None, stride, stride, stride];
    assert_eq!(Given { stride: 1, ..fits }.refused(), expected);
    let (queries, rows) = (short("queries"), short("rows"));
    let expected = [queries, queries, None, None, short("contexts"), rows, queries];
    assert_eq!(Given { queries: 7, ..fits }.refused(), expected);
    assert_eq!(Given { weights_stride: 2, ..fits }.refused(), [stride; 7]);
    let (scores, weights) = (short("scores"), short("weights"));
    let expected = [scores, scores, scores, weights, weights, weights, short("dscores")];
    assert_eq!(Given { weights: 11, ..fits }.refused(), expected);
    let large = |what| Some(("large", what));
    let all = Given { stride: usize::MAX, ..fits }.refused();
    assert_eq!(all[0], large("queries"));
    let all = Given { weights_stride: usize::MAX, ..fits }.refused();
    assert_eq!(all[2], large("scores"));
}
