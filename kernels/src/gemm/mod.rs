//! Matrix products whose rhs is packed beforehand: the packed layouts of both operands, the
//! register tile that multiplies them, and the loops around the tile. Knows blocking for the
//! caches; must not know cells.

mod dense;
mod dots;
pub(crate) mod layout;
pub(crate) mod lhs;
mod multiply;
pub(crate) mod prefetch;
mod product;
mod quantised;
pub(crate) mod rhs;
pub(crate) mod scratch;
pub(crate) mod tile;
pub mod weight_gradients;

pub use dense::Dense;
pub(crate) use product::row;
pub use product::{Gemm, Start, gemm, scratch_len, spread, team_scratch_len};
pub use rhs::PackedMatrix;
