//! Saving and loading models and states. Knows names, shapes and configurations; must not know passes.

mod json;
mod kinds;
mod safetensors;
mod state;
mod tensors;

pub use kinds::Loader;
