//! Checks of settings and lengths that optimisers share.

use crate::Error;
use crate::error::{check_len, check_size};
use bptt_kernels::AlignedBuffer;

/// Returns an error unless there are parameters, as many as in the first update, and as many
/// gradients. `kept` has one value for each parameter, and is empty before the first update.
pub(super) fn check_lens(kept: &[f32], parameters: usize, gradients: usize) -> Result<(), Error> {
    check_size("parameters", parameters)?;
    if !kept.is_empty() {
        check_len("parameters", parameters, kept.len())?;
    }
    check_len("gradients", gradients, parameters)
}

/// Allocates `kept`, with one zero for each parameter, at the first update.
pub(super) fn room_for(kept: &mut AlignedBuffer, parameters: usize) -> Result<(), Error> {
    if kept.is_empty() {
        *kept = AlignedBuffer::try_new(parameters)?;
    }
    Ok(())
}

/// Returns the learning rate, or an error unless it is finite and 0 or more.
pub(super) fn check_rate(learning_rate: f32) -> Result<f32, Error> {
    if learning_rate >= 0.0 && learning_rate.is_finite() {
        return Ok(learning_rate);
    }
    let (given, expected) = (learning_rate.to_string(), "finite, 0 or more".into());
    Err(Error::Value { what: "learning_rate", given, expected })
}

/// Returns an error, about the setting `what`, unless `decay` is 0 or more and below 1.
pub(super) fn check_decay(what: &'static str, decay: f32) -> Result<(), Error> {
    if (0.0..1.0).contains(&decay) {
        return Ok(());
    }
    Err(Error::Value { what, given: decay.to_string(), expected: "0 or more and below 1".into() })
}
