//! Every cell with every option: passes, streams and weights in fewer bits.

use super::Log;
use super::hash::{Hash, Hashes};
use crate::common::{
    Alpha, Data, Hard, Kind, Options, Pass, Rig, Shape, filled, in_stretches, is_slow, shared_out,
};
use crate::with_layer;
use bptt::{Dense, Format, GateActivation, Isa, Model, Runtime, Stream};
use bptt_reference::sample::uniform;

/// I, H, B and τ for every kind: units that do not fill a vector, and a batch.
const EVERY: [(usize, usize, usize, usize); 2] = [(3, 3, 1, 7), (2, 16, 13, 5)];

/// Shapes for every kernel: single rows, edges of vectors, more than 96 rows.
const KERNELS: [(usize, usize, usize, usize); 4] =
    [(1, 16, 1, 9), (5, 20, 13, 6), (3, 40, 1, 5), (4, 40, 100, 3)];

/// Shapes that are distributed over the kernels: groups of units, blocks of a sum's depth over
/// units, inputs and time, a batch of several blocks of rows, and enough work that helpers are
/// called.
const LARGE: [(usize, usize, usize, usize); 5] =
    [(20, 150, 13, 3), (3, 270, 5, 2), (300, 17, 2, 3), (2, 9, 3, 150), (40, 100, 200, 2)];

/// A seed with which there is noise of each kind.
const NOISE: u64 = 7 << 17;

pub fn run(isa: Isa, log: &mut Log) {
    let mut cases: Vec<(Kind, (usize, usize, usize, usize))> = Vec::new();
    cases.extend(Kind::all().into_iter().flat_map(|kind| EVERY.map(|shape| (kind, shape))));
    cases.extend(Kind::kernels().into_iter().flat_map(|kind| KERNELS.map(|shape| (kind, shape))));
    // Where everything would take minutes, only small cases run, on one thread.
    if !is_slow() {
        cases.extend(shared_out(&LARGE, 2));
    }
    for (kind, (inputs, hidden, batch, steps)) in cases {
        let case = format!("{}/I{inputs}-H{hidden}-B{batch}-T{steps}", name(kind));
        with_layer!(kind, (inputs, hidden), |layer| {
            let shape = Shape::new(inputs, hidden, batch, steps);
            // Sums of about the same size, however many terms there are.
            let weights = 1.5 / ((inputs + hidden) as f32).sqrt();
            let data = Data::of(layer, shape, 1, weights).begun(3);
            let mut hashes = passes(isa, &data, &case, log);
            hashes.extend(streams(isa, &data, &case, log));
            log.add(&case, isa, &hashes);
            if has_noise(kind) && (batch > 1 || hidden < 16) {
                let case = format!("{case}-noise");
                let data = data.noisy(NOISE);
                let mut hashes = passes(isa, &data, &case, log);
                hashes.push(("zoneout", Hash::of(&[&kept(isa, &data)])));
                log.add(&case, isa, &hashes);
            }
        });
    }
}

/// Noise does not depend on the non-linearity, so one kind of each kernel is enough.
fn has_noise(kind: Kind) -> bool {
    kind.takes_noise() && Kind::kernels().contains(&kind)
}

/// A name without spaces, for a kind and its options.
fn name(kind: Kind) -> String {
    let list = |numbers: &[usize]| {
        let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
        words.join(",")
    };
    let of = |Options { candidate, peepholes, coupled, projected, hard }: Options| {
        let options = [(peepholes, "-peepholes"), (coupled, "-coupled"), (projected, "-projected")];
        let names: String = options.iter().filter(|o| o.0).map(|o| o.1).collect();
        let Hard { gates, cell_clip, projection_clip } = hard;
        let gates = match gates {
            GateActivation::Logistic => String::new(),
            hard => format!("-{hard:?}"),
        };
        let limit = |name: &str, limit: Option<f32>| match limit {
            Some(limit) => format!("-{name}{limit}"),
            None => String::new(),
        };
        let limits = limit("cell", cell_clip) + &limit("projection", projection_clip);
        format!("{candidate:?}{names}{gates}{limits}")
    };
    let name = match kind {
        Kind::Vanilla(phi) => format!("vanilla-{phi:?}"),
        Kind::Leaky(phi, alpha) => {
            let alpha = match alpha {
                Alpha::Layer => "layer",
                Alpha::Units => "units",
                Alpha::Learned => "learned",
            };
            format!("leaky-{phi:?}-{alpha}")
        }
        Kind::Skip(phi, delays) => format!("skip-{phi:?}-{}", list(delays)),
        Kind::Clockwork(phi, periods) => format!("clockwork-{phi:?}-{}", list(periods)),
        Kind::Gru(reset, candidate) => format!("gru-{reset:?}-{candidate:?}"),
        Kind::HardGru(reset, candidate, gates) => format!("gru-{reset:?}-{candidate:?}-{gates:?}"),
        Kind::LateGru(reset, candidate) => format!("late-gru-{reset:?}-{candidate:?}"),
        Kind::LateLstm(options) => format!("late-lstm-{}", of(options)),
        Kind::Lstm(options) => format!("lstm-{}", of(options)),
        Kind::MinGru { positive } => format!("min-gru{}", if positive { "-positive" } else { "" }),
        Kind::MinLstm { positive } => {
            format!("min-lstm{}", if positive { "-positive" } else { "" })
        }
        Kind::Sru { square } => format!("sru{}", if square { "-square" } else { "" }),
        Kind::Qrnn(pooling) => format!("qrnn-{pooling:?}"),
        Kind::IndRnn(phi) => format!("ind-rnn-{phi:?}"),
        Kind::RgLru => "rg-lru".into(),
        normed => format!("norm-{}", name(normed.plain())),
    };
    name.to_lowercase()
}

fn hashes_of(pass: &Pass) -> Hashes {
    let Pass { gates, h, c, dz, params, dx, dh0, dc0, dx0 } = pass;
    vec![
        ("forward", Hash::of(&[gates, h, c])),
        ("backward", Hash::of(&[dz, dx, dh0, dc0, dx0])),
        ("weights", Hash::of(&[params])),
    ]
}

/// Forward and backward, in every way that gives the same bits.
fn passes(isa: Isa, data: &Data, case: &str, log: &mut Log) -> Hashes {
    let hashes = hashes_of(&Rig::new(isa, data).run(data));
    if !is_slow() {
        let threaded = hashes_of(&Rig::with_threads(isa, data, 3).run(data));
        log.expect(threaded == hashes, case, isa, "on three threads");
    }
    // With several masked products, stretches are not promised to have the bits of the whole.
    let masked_delays =
        data.layer.equations().delays()[0] > 1 && data.regularisation.dropout() > 0.0;
    if !masked_delays {
        let cut = (data.steps / 2).max(1);
        let all = [0..1, 1..cut, cut..data.steps];
        let parts =
            in_stretches(isa, data, &all.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>());
        log.expect(hashes_of(&parts) == hashes, case, isa, "in several passes");
    }
    hashes
}

/// The outputs of a pass, of a stream at once and of its single steps.
fn outputs(data: &Data, model: &mut Model) -> [Vec<f32>; 3] {
    let mut whole = filled(data.steps * data.state());
    stream(data, model).forward(&data.inputs.x, &mut whole).unwrap();
    let (mut stepped, mut stream) = (filled(whole.len()), stream(data, model));
    for (x, y) in data.inputs.x.chunks(data.input()).zip(stepped.chunks_mut(data.state())) {
        stream.step(x, y).unwrap();
    }
    // Only f32 has passes.
    if model.format() != Format::F32 {
        return [whole.clone(), whole, stepped];
    }
    let mut workspace = model.training_workspace(data.schedule()).unwrap();
    workspace.set_state(&data.initial()).unwrap();
    [model.forward(&mut workspace, &data.inputs.x).unwrap().to_vec(), whole, stepped]
}

fn stream(data: &Data, model: &Model) -> Stream {
    let mut stream = model.stream(data.batch).unwrap();
    stream.set_state(&data.initial()).unwrap();
    stream
}

/// Inference in each format, and with a layer after it that has few outputs, or more.
fn streams(isa: Isa, data: &Data, case: &str, log: &mut Log) -> Hashes {
    let mut hashes = Hashes::new();
    let model = data.model(isa, 1);
    for (part, format) in [("stream", Format::F32), ("bf16", Format::Bf16), ("int8", Format::Int8)]
    {
        let mut model = model.quantised(format).unwrap();
        let [pass, whole, stepped] = outputs(data, &mut model).map(|y| Hash::of(&[&y]));
        log.expect(pass == whole && pass == stepped, case, isa, &format!("in a stream, {part}"));
        hashes.push((part, pass));
    }
    for (part, outputs) in [("few", 2), ("more", 20)] {
        let dense = Dense::new(data.layer.output_size(), outputs).unwrap();
        let network = data.layer.network().then(dense);
        let mut parameters = network.parameters().unwrap();
        let (layer, dense) = parameters.as_mut_slice().split_at_mut(data.inputs.params.len());
        layer.copy_from_slice(&data.inputs.params);
        dense.copy_from_slice(&uniform(2, dense.len(), 0.25));
        let model = network.model(parameters, Runtime::new(isa)).unwrap();
        let mut stream = model.stream(data.batch).unwrap();
        let mut state = stream.state().unwrap();
        state.as_mut_slice().copy_from_slice(data.initial().as_slice());
        state.set_step(data.first).unwrap();
        stream.set_state(&state).unwrap();
        let mut all = Vec::new();
        for x in data.inputs.x.chunks(data.input()) {
            let mut o = filled(data.batch * outputs);
            stream.step(x, &mut o).unwrap();
            all.extend(o);
        }
        hashes.push((part, Hash::of(&[&all])));
    }
    hashes
}

/// The outputs of a stream that keeps the shares of its states that training keeps on average.
fn kept(isa: Isa, data: &Data) -> Vec<f32> {
    let mut y = filled(data.steps * data.state());
    stream(data, &data.model(isa, 1)).forward(&data.inputs.x, &mut y).unwrap();
    y
}
