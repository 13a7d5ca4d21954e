//! Saving and loading models. Knows names, shapes and configurations; must not know passes.

mod json;
mod kinds;
mod safetensors;

pub use kinds::Loader;
