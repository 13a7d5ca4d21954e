//! Attention of query rows to source rows: scores by dot products (Luong et al. 2015, *Effective
//! Approaches to Attention-based Neural Machine Translation*) or by a small network (Bahdanau et
//! al. 2015, *Neural Machine Translation by Jointly Learning to Align and Translate*), their
//! softmax, sums of values, and the gradients of all of these.
//!
//! For each query row r and the source rows s of its sequence:
//!
//! - scores: `e[r][s] = Q[r] · K[s]`, or `e[r][s] = Σ_a v[a] tanh(Q[r][a] + K[s][a])`
//! - weights: `α[r][s] = exp e[r][s] / Σ exp e[r]`
//! - contexts: `c[r] = Σ_s α[r][s] V[s]`
//!
//! and backward, from dc = ∂L/∂c:
//!
//! - `dα[r][s] = dc[r] · V[s]` ([`DotScores`]), and `dV[s] += Σ_r α[r][s] dc[r]`
//!   ([`SourceGradients`])
//! - `de = α ⊙ (dα − Σ α ⊙ dα)` ([`SoftmaxGradients`])
//! - for dot products, `dQ[r] = Σ_s de[r][s] K[s]` ([`Contexts`]) and `dK[s] += Σ_r de[r][s] Q[r]`
//!   ([`SourceGradients`])
//! - for additive scores, all gradients together ([`AdditiveGradients`])
//!
//! An [`Alignment`] says which rows these are, and a [`Stretch`] of it which of them a call
//! computes: all, or those of some steps of a recurrent layer. Query rows outside the stretch are
//! neither read nor written.
//!
//! No bit depends on the number of threads. Nor does it depend on the other sequences of the call; only
//! the gradient by v is a sum over all of them. Time may be divided among several calls, if those of a
//! backward pass go from the last stretch to the first: the bits stay. Knows rows; must not know
//! layers.
//!
//! ```
//! use bptt_kernels::attention::{Alignment, Contexts, DotScores, Softmax};
//! use bptt_kernels::rowwise::{Strided, StridedMut};
//! use bptt_kernels::{Isa, team::Pass};
//!
//! // Sequence 0 has the source rows 0..2 and the query row 1, sequence 1 the source row 2 and the
//! // query row 0.
//! let alignment = Alignment::new(vec![0, 2, 3], vec![0, 1, 2], vec![1, 0])?;
//! let (isa, stretch, pass) = (Isa::best()?, alignment.whole(), &mut Pass::serial());
//! let keys = Strided { values: &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], stride: 2 };
//! let queries = Strided { values: &[5.0, 6.0, 100.0, -100.0], stride: 2 };
//! let (mut weights, mut contexts) = ([0.0; 4], [0.0; 4]);
//! let scores = StridedMut { values: &mut weights, stride: 2 };
//! DotScores { stretch, width: 2, queries, keys, scores }.run(isa, pass)?;
//! assert_eq!(weights, [11.0, 0.0, 100.0, -100.0]);
//! let scores = StridedMut { values: &mut weights, stride: 2 };
//! Softmax { stretch, scores }.run(isa, pass)?;
//! assert_eq!(weights, [1.0, 0.0, 1.0, 0.0]);
//! Contexts {
//!     stretch,
//!     width: 2,
//!     weights: Strided { values: &weights, stride: 2 },
//!     values: keys,
//!     contexts: StridedMut { values: &mut contexts, stride: 2 },
//!     accumulate: false,
//! }
//! .run(isa, pass)?;
//! assert_eq!(contexts, [1.0, 1.0, 1.0, 0.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod additive;
mod alignment;
mod scores;
mod sums;
mod tasks;
mod weights;

pub use additive::AdditiveGradients;
pub use alignment::{Alignment, Stretch};
pub use scores::{AdditiveScores, DotScores};
pub use sums::{Contexts, SourceGradients};
pub use weights::{Softmax, SoftmaxGradients};
