//! Clipping of gradients, against the cliffs of a recurrent network's loss
//! (Goodfellow et al., section 10.11.1).

use crate::{Error, Isa};
use bptt_kernels::optim;

/// Clips each element to ±`limit` (Mikolov 2012). A NaN stays; ∞ as the limit clips
/// nothing. Denormals count as zero, as in a pass.
///
/// # Errors
/// [`Error::Value`] where `limit` is not above 0, [`Error::Isa`] where `BPTT_ISA`
/// names an instruction set that is not here; nothing is written then.
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

/// Scales the gradients of all parameters together to the norm `limit` where theirs
/// is larger, g ← g · `limit` / ‖g‖ (Pascanu et al. 2013; equations 10.48 and
/// 10.49), and gives the norm from before. ∞ as the limit clips nothing: the norm
/// alone.
///
/// Norm and factor are f64: no finite gradient is too large for them, and the result
/// has the same bits on every instruction set. Denormals count as zero, as in a pass.
///
/// # Errors
/// [`Error::Value`] where `limit` is not above 0 or an element is not finite,
/// [`Error::Isa`] where `BPTT_ISA` names an instruction set that is not here;
/// nothing is written then.
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
