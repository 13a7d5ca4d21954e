//! The sLSTM layer: a product with the inputs for many rows at once, and then, step by step, a product
//! for each head of units and the kernel's cell.

mod backward;
mod layer;
mod packed;
mod pass;
mod spec;
mod steps;
mod walk;

pub use spec::{ForgetGate, Slstm};
