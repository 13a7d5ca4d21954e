//! A sequence in several passes.

use super::{Data, Pass, Rig, Subject, filled};
use bptt::{Accumulate, Isa, State};
use std::ops::Range;

/// Forward stretch by stretch with the state handed on, then backward from the
/// last stretch with its gradients handed on.
pub fn in_stretches<C: Subject>(isa: Isa, data: &Data<C>, stretches: &[Range<usize>]) -> Pass {
    let given = data.inputs.clone();
    let mut state = (given.h0, given.c0, given.x0);
    let mut first = data.first;
    let mut done: Vec<(Data<C>, Rig<C>, Pass)> = Vec::new();
    for steps in stretches {
        let mut part = data.stretch(steps.clone());
        (part.inputs.h0, part.inputs.c0, part.inputs.x0) = state;
        part.first = first;
        let mut rig = Rig::new(isa, &part);
        let forward = rig.forward(&part);
        let last = rig.arena.last().unwrap().into_parts();
        let [c, x] = [last.c, last.x].map(|part| part.unwrap_or_default().to_vec());
        state = (last.h.to_vec(), c, x);
        first = last.step.unwrap_or(0);
        done.push((part, rig, forward));
    }

    let mut parameters = data.layer.parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(&filled(data.inputs.params.len()));
    let (mut accumulate, mut handed_on) = (Accumulate::No, None);
    let mut passes: Vec<Pass> = Vec::new();
    for (part, rig, forward) in done.iter_mut().rev() {
        if let Some((dh, dc, dx)) = handed_on {
            (part.inputs.dh_last, part.inputs.dc_last, part.inputs.dx_last) = (dh, dc, dx);
        }
        let pass = rig.backward(part, &mut parameters, accumulate, forward.clone());
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
        params: parameters.as_slice().to_vec(),
        dh0: passes[0].dh0.clone(),
        dc0: passes[0].dc0.clone(),
        dx0: passes[0].dx0.clone(),
    }
}
