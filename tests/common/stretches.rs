//! A sequence in several passes.

use super::rig::part;
use super::{Data, Pass, Rig, filled};
use bptt::{Accumulate, Isa};
use std::ops::Range;

/// Runs forward, stretch by stretch, with the state handed on, then backward from the last stretch
/// with its gradients handed on.
pub fn in_stretches(isa: Isa, data: &Data, stretches: &[Range<usize>]) -> Pass {
    let given = data.inputs.clone();
    let mut state = (given.h0, given.c0, given.x0);
    let mut first = data.first;
    let mut done: Vec<(Data, Rig, Pass)> = Vec::new();
    for steps in stretches {
        let mut stretch = data.stretch(steps.clone());
        (stretch.inputs.h0, stretch.inputs.c0, stretch.inputs.x0) = state;
        stretch.first = first;
        let mut rig = Rig::new(isa, &stretch);
        let forward = rig.forward(&stretch);
        let last = rig.workspace.last_state().unwrap();
        state = (part(&last, "h"), part(&last, "c"), part(&last, "x"));
        first = last.step();
        done.push((stretch, rig, forward));
    }

    let mut parameters = filled(data.inputs.params.len());
    let (mut accumulate, mut handed_on) = (Accumulate::No, None);
    let mut passes: Vec<Pass> = Vec::new();
    for (stretch, rig, forward) in done.iter_mut().rev() {
        if let Some((dh, dc, dx)) = handed_on {
            let inputs = &mut stretch.inputs;
            (inputs.dh_last, inputs.dc_last, inputs.dx_last) = (dh, dc, dx);
        }
        let pass = rig.backward(stretch, &mut parameters, accumulate, forward.clone());
        let initial = (pass.dh0.clone(), pass.dc0.clone(), pass.dx0.clone());
        (accumulate, handed_on) = (Accumulate::Yes, Some(initial));
        passes.insert(0, pass);
    }

    let over_time = |part: fn(&Pass) -> &Vec<f32>| passes.iter().flat_map(part).copied().collect();
    Pass {
        gates: over_time(|pass| &pass.gates),
        h: over_time(|pass| &pass.h),
        c: over_time(|pass| &pass.c),
        dz: over_time(|pass| &pass.dz),
        dx: over_time(|pass| &pass.dx),
        params: parameters,
        dh0: passes[0].dh0.clone(),
        dc0: passes[0].dc0.clone(),
        dx0: passes[0].dx0.clone(),
    }
}
