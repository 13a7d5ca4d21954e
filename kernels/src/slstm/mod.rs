//! Steps of the sLSTM (Beck et al. 2024), whose gates are exponentials. A stabiliser m keeps them
//! finite: the cell state and the normaliser are stored as c = C e⁻ᵐ and n = N e⁻ᵐ of the sums C and N
//! that the equations mean, and the output is a function of C / N alone.
//!
//! The units are in heads, and a unit reads the outputs of its own head only. The products are not
//! here: a step reads what they have left. Knows rows, heads and units; must not know products or
//! time.

mod backward;
mod cell;
mod forward;
mod sizes;

pub use backward::SlstmBackward;
pub use forward::{SlstmForward, SlstmKept};
pub use sizes::{SlstmForget, SlstmSizes};
