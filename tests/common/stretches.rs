//! A sequence in several passes.

use super::{Data, Pass, Rig, Subject, filled};
use bptt::{Isa, State, Write};
use std::ops::Range;

/// Forward stretch by stretch with the state handed on, then backward from the
/// last stretch with its gradients handed on.
pub fn in_stretches<C: Subject>(isa: Isa, data: &Data<C>, stretches: &[Range<usize>]) -> Pass {
    let given = data.inputs.clone();
    let mut state = (given.h0, given.s0, given.x0);
    let mut first = data.first;
    let mut done: Vec<(Data<C>, Rig<C>, Pass)> = Vec::new();
    for steps in stretches {
        let mut part = data.stretch(steps.clone());
        (part.inputs.h0, part.inputs.s0, part.inputs.x0) = state;
        part.first = first;
        let mut rig = Rig::new(isa, &part);
        let forward = rig.forward(&part);
        let last = rig.arena.last().unwrap().into_parts();
        let [s, x] = [last.s, last.x].map(|part| part.unwrap_or_default().to_vec());
        state = (last.h.to_vec(), s, x);
        first = last.step.unwrap_or(0);
        done.push((part, rig, forward));
    }

    let mut parameters = data.layer.parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(&filled(data.inputs.params.len()));
    let (mut write, mut handed_on) = (Write::Overwrite, None);
    let mut passes: Vec<Pass> = Vec::new();
    for (part, rig, forward) in done.iter_mut().rev() {
        if let Some((dh, ds, dx)) = handed_on {
            (part.inputs.dh_last, part.inputs.ds_last, part.inputs.dx_last) = (dh, ds, dx);
        }
        let pass = rig.backward(part, &mut parameters, write, forward.clone());
        let initial = (pass.dh0.clone(), pass.ds0.clone(), pass.dx0.clone());
        (write, handed_on) = (Write::Accumulate, Some(initial));
        passes.insert(0, pass);
    }

    let over_time = |part: fn(&Pass) -> &Vec<f32>| passes.iter().flat_map(part).copied().collect();
    Pass {
        gates: over_time(|pass| &pass.gates),
        h: over_time(|pass| &pass.h),
        s: over_time(|pass| &pass.s),
        dz: over_time(|pass| &pass.dz),
        dx: over_time(|pass| &pass.dx),
        params: parameters.as_slice().to_vec(),
        dh0: passes[0].dh0.clone(),
        ds0: passes[0].ds0.clone(),
        dx0: passes[0].dx0.clone(),
    }
}
