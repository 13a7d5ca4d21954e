//! Clipping of gradients, against the steep cliffs in the loss of a recurrent network
//! (Goodfellow et al., section 10.11.1).

use crate::{Error, Isa};
use bptt_kernels::optim;

/// Clips each element to ±`limit` (Mikolov 2012). A NaN stays NaN, and a limit of ∞ clips nothing.
/// Denormals count as zero, as in a pass.
///
/// # Errors
/// [`Error::Value`] if `limit` is not above 0, [`Error::Isa`] if `BPTT_ISA` names an instruction
/// set that is unknown or that the CPU does not have. Nothing is written then.
///
/// # Example
/// ```
/// let mut gradients = [0.5, -3.0, f32::INFINITY];
/// bptt::clip_elements(&mut gradients, 1.0)?;
/// assert_eq!(gradients, [0.5, -1.0, 1.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn clip_elements(gradients: &mut [f32], limit: f32) -> Result<(), Error> {
    check_limit(limit)?;
    optim::clamp(Isa::best()?, gradients, limit);
    Ok(())
}

/// Clips the global norm of `gradients`, a list of slices that are taken together: if their norm is
/// above `limit`, it scales all of them, g ← g · `limit` / ‖g‖ (Pascanu et al. 2013; equations
/// 10.48 and 10.49). Returns the norm before clipping. A limit of ∞ clips nothing, so that the call
/// only measures the norm.
///
/// Norm and factor are computed in f64: no finite gradient is too large for them, and the result
/// has the same bits on every instruction set. Denormals count as zero, as in a pass.
///
/// # Errors
/// [`Error::Value`] if `limit` is not above 0 or an element is not finite, [`Error::Isa`] if
/// `BPTT_ISA` names an instruction set that is unknown or that the CPU does not have. Nothing is
/// written then.
///
/// # Example
/// ```
/// let (mut layer, mut readout) = ([3.0, 0.0], [-4.0]);
/// let norm = bptt::clip_global_norm(&mut [&mut layer, &mut readout], 1.0)?;
/// assert_eq!(norm, 5.0);
/// assert_eq!((layer, readout), ([0.6, 0.0], [-0.8]));
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn clip_global_norm(gradients: &mut [&mut [f32]], limit: f32) -> Result<f64, Error> {
    check_limit(limit)?;
    let isa = Isa::best()?;
    let squares: f64 = gradients.iter().map(|part| optim::sum_of_squares(isa, part)).sum();
    let norm = squares.sqrt();
    if !norm.is_finite() {
        let (what, given) = ("the gradients' norm", norm.to_string());
        return Err(Error::Value { what, given, expected: "finite".into() });
    }
    let limit = f64::from(limit);
    if norm > limit {
        for part in gradients {
            optim::scale(isa, part, limit / norm);
        }
    }
    Ok(norm)
}

fn check_limit(limit: f32) -> Result<(), Error> {
    if limit > 0.0 {
        return Ok(());
    }
    Err(Error::Value { what: "limit", given: limit.to_string(), expected: "above 0".into() })
}
