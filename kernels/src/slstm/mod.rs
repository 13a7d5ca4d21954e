//! Steps of the sLSTM (Beck et al. 2024), whose gates are exponentials. A stabiliser m keeps them
//! finite. The equations mean a sum C for the cell state and a sum N for the normaliser; stored are
//! c = C e⁻ᵐ and n = N e⁻ᵐ. The output is a function of C / N = c / n alone, so m does not change it.
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
