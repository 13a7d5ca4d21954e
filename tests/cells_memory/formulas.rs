//! The documentation's formulas for the bytes of a workspace and of a stream, computed from the
//! kinds and options of blocks and not by the crate.

use crate::common::{Alpha, Kind, Options, Subject};
use bptt::{Isa, Reset};
use bptt_reference::cells::Cell as Equations;

/// Rounds a number of floats up to whole cache lines.
pub fn lines(floats: usize) -> usize {
    floats.next_multiple_of(16)
}

/// A block, as far as its memory depends on it.
#[derive(Debug)]
pub enum Part {
    Layer(Sizes),
    Dense { inputs: usize, outputs: usize },
    Embedding { tokens: usize, outputs: usize },
}

/// The sequences of a pass, and the machine it runs on.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The length of each sequence.
    pub lengths: &'a [usize],
    /// Whether the schedule is one of different lengths, in arrays without padding.
    pub packed: bool,
    pub isa: Isa,
    pub threads: usize,
}

impl Pass<'_> {
    fn rows(self) -> usize {
        self.lengths.iter().sum()
    }

    fn batch(self) -> usize {
        self.lengths.len()
    }

    /// Rows of the steps 0, `period`, 2 `period`, ….
    fn rows_of(self, period: usize) -> usize {
        self.lengths.iter().map(|len| len.div_ceil(period)).sum()
    }
}

/// The quantities in the formulas of layers.
#[derive(Debug)]
pub struct Sizes {
    inputs: usize,
    hidden: usize,
    outputs: usize,
    gates: usize,
    extra: usize,
    cells: usize,
    projected: bool,
    /// Floats of an input that waits.
    late: usize,
    /// How many delays there are, and the longest.
    delays: (usize, usize),
    /// Blocks of H in the lhs of a stage's backward products; each is a row of its own.
    back: Vec<usize>,
    /// Whether there is a second stage, and whether the input is part of a step.
    double: bool,
    fuses: bool,
    /// Sums that are normalised: one for each gate, and those kept apart.
    normed: bool,
    apart: usize,
    /// Units and period of each group, for a clockwork.
    groups: Vec<(usize, usize)>,
    /// Whether the cell is scanned.
    scanned: bool,
}

/// The bytes of a workspace for passes through these blocks, with ∂L/∂x if it is asked for.
pub fn workspace(parts: &[Part], pass: Pass<'_>, has_dx: bool) -> usize {
    let rows = pass.rows();
    let states: usize = parts.iter().map(|part| part.state(pass.batch())).sum();
    let of_blocks = parts.iter().map(|part| part.kept(pass) + lines(rows * part.outputs()));
    // The gradient by the last output, if the last block's backward pass reads the outputs, and the
    // gradients by the outputs before it.
    let (last, before) = parts.split_last().unwrap();
    let dy = if last.reads_output() { lines(rows * last.outputs()) } else { 0 };
    let between = dy + in_turns(before.iter().rev(), rows);
    let dx = if has_dx { lines(rows * parts[0].inputs()) } else { 0 };
    // The input in the order of the passes, and the outputs and ∂L/∂x in the caller's.
    let other = match pass.packed {
        true => lines(rows * parts[0].inputs()) + lines(rows * last.outputs()) + dx,
        false => 0,
    };
    4 * (4 * lines(states) + of_blocks.sum::<usize>() + between + dx + other)
}

/// The bytes of a stream through these blocks.
pub fn stream(parts: &[Part], batch: usize, threads: usize) -> usize {
    // An embedding and the layer after it count as one, unless the table is too large.
    let (parts, table) = match parts {
        [Part::Embedding { tokens, .. }, Part::Layer(of), ..] if of.takes_tokens(*tokens) => {
            (&parts[1..], tokens * lines(of.gates * of.hidden))
        }
        _ => (parts, 0),
    };
    let states = parts.iter().map(|part| part.state(batch)).sum();
    let own: usize = parts.iter().map(|part| part.kept_by_stream(batch, threads)).sum();
    let between = in_turns(parts[..parts.len() - 1].iter(), stretch(batch) * batch);
    4 * (lines(states) + own + table + between)
}

/// Two buffers of `rows` rows that take turns: the outputs of every second part fit the first
/// buffer, those of the other parts the second.
fn in_turns<'a>(parts: impl Iterator<Item = &'a Part> + Clone, rows: usize) -> usize {
    let widest = |turn| parts.clone().skip(turn).step_by(2).map(Part::outputs).max();
    [0, 1].map(|turn| lines(rows * widest(turn).unwrap_or(0))).iter().sum()
}

/// The steps for which the input's products are computed at once.
fn stretch(batch: usize) -> usize {
    (192 / batch).max(1)
}

/// Columns, padded to two vectors.
fn padded(columns: usize, isa: Isa) -> usize {
    columns.next_multiple_of(2 * isa.lanes())
}

/// Scratch of weight gradients over `rows` rows, with this many padded columns. Even without a row
/// there is room for one.
fn sums(rows: usize, columns: usize, threads: usize) -> usize {
    let depth = rows.clamp(1, 256);
    depth * columns + 96 * lines(depth) * threads
}

impl Part {
    fn inputs(&self) -> usize {
        match self {
            Self::Layer(sizes) => sizes.inputs,
            Self::Dense { inputs, .. } => *inputs,
            Self::Embedding { .. } => 0,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Layer(Sizes { outputs, .. })
            | Self::Dense { outputs, .. }
            | Self::Embedding { outputs, .. } => *outputs,
        }
    }

    /// Whether the backward pass reads the outputs. A scan with a cell state reads that instead.
    fn reads_output(&self) -> bool {
        matches!(self, Self::Layer(of) if !of.scanned || of.cells == 0)
    }

    fn state(&self, batch: usize) -> usize {
        let Self::Layer(of) = self else { return 0 };
        batch * (of.delays.1 * of.outputs + of.cells * of.hidden + of.late)
    }

    /// Floats that a training pass keeps, apart from outputs and states.
    fn kept(&self, pass: Pass<'_>) -> usize {
        match *self {
            Self::Layer(ref of) if of.scanned => of.kept_of_scan(pass),
            Self::Layer(ref of) if of.groups.is_empty() => of.kept(pass),
            Self::Layer(ref of) => of.kept_of_groups(pass),
            Self::Embedding { .. } => 0,
            Self::Dense { inputs, outputs } => {
                let Pass { isa, threads, .. } = pass;
                let products = pass.rows().min(96 * threads) * lines(inputs.max(outputs));
                lines(products.max(sums(pass.rows(), padded(inputs, isa), threads)))
            }
        }
    }

    /// Floats that a stream has, apart from the states.
    fn kept_by_stream(&self, batch: usize, threads: usize) -> usize {
        match *self {
            Self::Layer(ref of) if of.scanned => of.kept_by_stream_of_scan(batch, threads),
            Self::Layer(ref of) if of.groups.is_empty() => of.kept_by_stream(batch, threads),
            Self::Layer(ref of) => of.kept_by_stream_of_groups(batch, threads),
            Self::Embedding { .. } => 0,
            Self::Dense { inputs, .. } => 96 * threads * lines(inputs),
        }
    }
}

impl Sizes {
    pub fn of(layer: &Subject) -> Self {
        let (inputs, hidden, outputs) = (layer.input_size(), layer.hidden, layer.output_size());
        let equations = layer.equations();
        let gates = equations.gates();
        let kind = layer.kind.plain();
        let projected = matches!(kind, Kind::Lstm(Options { projected: true, .. }))
            || matches!(kind, Kind::LateLstm(Options { projected: true, .. }));
        let (extra, double, fuses, back) = match kind {
            Kind::Gru(Reset::After, _)
            | Kind::HardGru(Reset::After, ..)
            | Kind::LateGru(Reset::After, _) => (1, false, false, vec![2, 1]),
            Kind::Gru(Reset::Before, _)
            | Kind::HardGru(Reset::Before, ..)
            | Kind::LateGru(Reset::Before, _) => (1, true, false, vec![2]),
            Kind::Leaky(_, Alpha::Learned) => (1, false, true, vec![1]),
            _ => (usize::from(projected), projected, true, vec![gates]),
        };
        let delays = match kind {
            Kind::Skip(_, delays) => (delays.len(), *delays.iter().max().unwrap()),
            _ => (1, equations.history()),
        };
        let apart = equations.norms() - gates;
        let cells = usize::from(equations.has_state());
        let groups = match equations {
            Equations::Clockwork(_, groups) => groups,
            _ => Vec::new(),
        };
        Self {
            inputs,
            hidden,
            outputs,
            gates,
            extra,
            cells,
            projected,
            late: if layer.is_late() { inputs } else { 0 },
            delays,
            back,
            double,
            fuses,
            normed: layer.epsilon().is_some(),
            apart,
            groups,
            scanned: kind.is_scan(),
        }
    }

    /// Whether a stream's steps use a table of the input's part of each token's gates.
    fn takes_tokens(&self, tokens: usize) -> bool {
        let terms = self.inputs + self.delays.0 * self.outputs;
        self.groups.is_empty() && !self.scanned && self.late == 0 && tokens <= 4 * terms
    }

    /// Memory for several rows, each with a copy of some floats and then the deviations.
    fn norm(&self, rows: usize, copies: usize) -> usize {
        if !self.normed {
            return 0;
        }
        let each = lines(self.gates * rows * self.hidden) + lines(self.apart * rows * self.hidden);
        copies * each + lines(rows * (self.gates + self.apart))
    }

    /// The formula for a layer's pass.
    fn kept(&self, pass: Pass<'_>) -> usize {
        let Pass { isa, threads, packed, .. } = pass;
        let &Self { inputs, hidden, outputs, gates, extra, cells, projected, .. } = self;
        // The rhs of weight gradients are x, h and, with a second product, the extra block.
        let recurrent = if self.double { hidden.max(outputs) } else { outputs };
        let columns = padded(inputs, isa) + padded(recurrent, isa);
        let (rows, batch) = (pass.rows(), pass.batch());
        let late = if packed { lines(rows * self.late) } else { 0 };
        let regions = late
            + lines(gates * rows * hidden)
            + lines(extra * rows * hidden)
            + cells * lines(rows * hidden)
            + if projected { lines(rows * outputs) } else { 0 }
            + self.norm(rows, 2);
        let products = rows.min(96 * threads) * lines(inputs.max(gates * hidden));
        let back: usize = self.back.iter().map(|blocks| lines(blocks * hidden)).sum();
        let first = self.delays.0 * lines(outputs).max(back);
        let second = match (self.double, projected) {
            (false, _) => 0,
            (true, false) => lines(hidden),
            (true, true) => lines(hidden).max(lines(outputs)),
        };
        let scratch = products.max(batch * first.max(second));
        regions + lines(scratch.max(sums(rows, columns, threads)))
    }

    /// The formula for a layer's steps.
    fn kept_by_stream(&self, batch: usize, threads: usize) -> usize {
        let &Self { inputs, hidden, outputs, gates, extra, .. } = self;
        let rows = stretch(batch) * batch;
        let input = if self.fuses { lines(inputs) } else { 0 };
        let second = if self.double { lines(hidden) } else { 0 };
        let step = (self.delays.0 * lines(outputs) + input).max(second);
        let scratch = (rows.min(96 * threads) * lines(inputs)).max(batch * step);
        let spread = if (gates * hidden) % 256 == 0 { 16 } else { 0 };
        let beside = if self.double { lines(extra * batch * hidden) } else { 0 };
        lines(batch * outputs)
            + beside
            + lines(rows * (gates * hidden + spread))
            + self.norm(batch, 1)
            + lines(scratch)
    }

    /// The formula for a scanned layer's pass.
    fn kept_of_scan(&self, pass: Pass<'_>) -> usize {
        let Pass { isa, threads, .. } = pass;
        let (&Self { inputs, hidden, gates, cells, .. }, rows) = (self, pass.rows());
        let products = rows.min(96 * threads) * lines(inputs.max(gates * hidden));
        let scratch = products.max(sums(rows, padded(inputs, isa), threads));
        lines(gates * rows * hidden) + lines(cells * rows * hidden) + lines(scratch)
    }

    /// The formula for a scanned layer's steps.
    fn kept_by_stream_of_scan(&self, batch: usize, threads: usize) -> usize {
        let &Self { inputs, hidden, gates, .. } = self;
        let rows = (192 * threads / batch).max(1) * batch;
        let spread = if (gates * hidden) % 256 == 0 { 16 } else { 0 };
        lines(rows * (gates * hidden + spread)) + lines(rows.min(96 * threads) * lines(inputs))
    }

    /// Floats that groups keep of their moves' rows, and the shortest period above 1 with the
    /// number of units from its group on.
    fn moves(&self, rows_of: impl Fn(usize) -> usize) -> (usize, Option<(usize, usize)>) {
        let kept = self.groups.iter().map(|&(units, period)| rows_of(period) * units);
        let slow = self.groups.iter().position(|&(_, period)| period > 1);
        let read = |at: usize| self.groups[at..].iter().map(|&(units, _)| units).sum();
        (kept.sum(), slow.map(|at| (self.groups[at].1, read(at))))
    }

    /// The formula for a clockwork's pass.
    fn kept_of_groups(&self, pass: Pass<'_>) -> usize {
        let (Pass { isa, threads, .. }, batch) = (pass, pass.batch());
        let &Self { inputs, hidden, .. } = self;
        let (kept, slow) = self.moves(|period| pass.rows_of(period));
        let gathered = slow.map_or(0, |(period, read)| {
            let rows = pass.rows_of(period).min(stretch(batch) * batch);
            lines(rows * inputs) + lines(rows * read)
        });
        let widest = self.groups.iter().map(|group| group.0).max().unwrap();
        let products = pass.rows().min(96 * threads) * lines(inputs.max(widest));
        let columns = padded(inputs, isa) + padded(hidden, isa);
        let sums = sums(pass.rows(), columns, threads);
        lines(kept) + gathered + lines(products.max(batch * lines(hidden)).max(sums))
    }

    /// The formula for a clockwork's steps.
    fn kept_by_stream_of_groups(&self, batch: usize, threads: usize) -> usize {
        let (&Self { inputs, hidden, .. }, steps) = (self, stretch(batch));
        let (kept, slow) = self.moves(|period| steps.div_ceil(period) * batch);
        let gathered = slow.filter(|_| batch < 16);
        let gathered = gathered.map_or(0, |(period, _)| steps.div_ceil(period) * batch * inputs);
        let products = (steps * batch).min(96 * threads) * lines(inputs);
        lines(kept) + lines(gathered) + lines(products.max(batch * lines(hidden)))
    }
}
