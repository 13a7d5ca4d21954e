//! Equations on a tape: a cell is written forward only, and its gradients follow by the chain rule, node by node.
//!
//! A node is a vector. Its adjoint, ∂L/∂ of it, is one sum over all that it enters, each term the local derivative
//! times the adjoint of what it enters: a single [`Number::dot`], so that with [`crate::Bounded`] numbers the bound
//! holds for any order in which a pass adds them up.
//!
//! A [`Tape::pin`] is where a pass under test shows what it computed. What the tape computes there is compared with it;
//! what goes on, forward or backward, is the pass's own value, if it is given: every bound is one of the few operations
//! between two pins, however long the sequence.

use crate::{Activation, Number};

/// A node of a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(usize);

/// Rows of a matrix that lies in a node, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The node.
    pub matrix: Id,
    /// Where the first row begins.
    pub start: usize,
    /// How many there are.
    pub rows: usize,
    /// Their length.
    pub columns: usize,
}

#[derive(Clone, Debug)]
enum Op<N> {
    Leaf,
    /// Σ M v, plus a part of another node.
    Affine {
        terms: Vec<(Rows, Id)>,
        bias: Option<(Id, usize)>,
    },
    Add(Id, Id),
    Sub(Id, Id),
    Mul(Id, Id),
    Map(Activation, Id),
    /// (a − μ) / √(σ² + ε) over the elements, whose root's inverse this is.
    Norm(Id, N),
    /// Part of a node, from this element.
    Part(Id, usize),
    /// Nodes side by side.
    Join(Vec<Id>),
    Pin(Id),
}

/// The mean of a·b.
fn mean<N: Number>(pairs: impl ExactSizeIterator<Item = (N, N)>) -> N {
    let count = N::exact(1.0 / pairs.len() as f64);
    N::dot(pairs) * count
}

struct Node<N> {
    op: Op<N>,
    value: Vec<N>,
    /// What the value was before it was pinned.
    computed: Vec<N>,
    /// The adjoint to go on with instead of the one that is computed.
    pinned: Option<Vec<N>>,
    enters: Vec<Id>,
}

/// Nodes in the order in which they were computed.
pub struct Tape<N> {
    nodes: Vec<Node<N>>,
}

impl<N: Number> Default for Tape<N> {
    fn default() -> Self {
        Tape { nodes: Vec::new() }
    }
}

impl<N: Number> Tape<N> {
    fn push(&mut self, op: Op<N>, value: Vec<N>) -> Id {
        let id = Id(self.nodes.len());
        let from: Vec<Id> = match &op {
            Op::Leaf => vec![],
            Op::Affine { terms, bias } => {
                let operands = terms.iter().flat_map(|(rows, vector)| [rows.matrix, *vector]);
                operands.chain(bias.map(|(bias, _)| bias)).collect()
            }
            Op::Add(a, b) | Op::Sub(a, b) | Op::Mul(a, b) => vec![*a, *b],
            Op::Join(parts) => parts.clone(),
            Op::Map(_, a) | Op::Norm(a, _) | Op::Part(a, _) | Op::Pin(a) => vec![*a],
        };
        for from in from {
            let enters = &mut self.nodes[from.0].enters;
            if enters.last() != Some(&id) {
                enters.push(id);
            }
        }
        self.nodes.push(Node {
            op,
            computed: value.clone(),
            value,
            pinned: None,
            enters: Vec::new(),
        });
        id
    }

    /// What a node holds.
    pub fn value(&self, id: Id) -> &[N] {
        &self.nodes[id.0].value
    }

    /// What was computed for a pin.
    pub fn computed(&self, id: Id) -> &[N] {
        &self.nodes[id.0].computed
    }

    /// A value from outside.
    pub fn leaf(&mut self, value: &[N]) -> Id {
        self.push(Op::Leaf, value.to_vec())
    }

    /// Σ M v over the terms, plus the elements of `bias` from that place.
    pub fn affine(&mut self, terms: &[(Rows, Id)], bias: Option<(Id, usize)>) -> Id {
        let rows = terms[0].0.rows;
        let sums = (0..rows).map(|r| {
            let bias = bias.map(|(bias, start)| (N::one(), self.value(bias)[start + r]));
            let products = terms.iter().flat_map(|(m, v)| {
                let row = &self.value(m.matrix)[m.start + r * m.columns..][..m.columns];
                row.iter().copied().zip(self.value(*v).iter().copied())
            });
            N::dot(bias.into_iter().chain(products))
        });
        let value = sums.collect();
        self.push(Op::Affine { terms: terms.to_vec(), bias }, value)
    }

    fn pairwise(&mut self, op: Op<N>, a: Id, b: Id, of: impl Fn(N, N) -> N) -> Id {
        let value = self.value(a).iter().zip(self.value(b)).map(|(&a, &b)| of(a, b)).collect();
        self.push(op, value)
    }

    /// a + b.
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.pairwise(Op::Add(a, b), a, b, |a, b| a + b)
    }

    /// a − b.
    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.pairwise(Op::Sub(a, b), a, b, |a, b| a - b)
    }

    /// a ⊙ b.
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.pairwise(Op::Mul(a, b), a, b, |a, b| a * b)
    }

    /// φ(a).
    pub fn map(&mut self, activation: Activation, a: Id) -> Id {
        let value = self.value(a).iter().map(|&a| activation.apply(a)).collect();
        self.push(Op::Map(activation, a), value)
    }

    /// (a − μ) / √(σ² + ε), with the mean μ and the variance σ² of the elements.
    pub fn norm(&mut self, a: Id, epsilon: f64) -> Id {
        let a_values = self.value(a);
        // Of the distances from the first value: an error bound is of what is added up.
        let first = a_values[0];
        let distances: Vec<N> = a_values.iter().map(|&a| a - first).collect();
        let mean = mean(distances.iter().map(|&distance| (distance, N::one())));
        let off: Vec<N> = distances.iter().map(|&distance| distance - mean).collect();
        let variance = self::mean(off.iter().map(|&off| (off, off)));
        let inverse = (variance + N::exact(epsilon)).inverse_root(epsilon);
        let value = off.into_iter().map(|off| off * inverse).collect();
        self.push(Op::Norm(a, inverse), value)
    }

    /// `len` elements from `start`.
    pub fn part(&mut self, a: Id, start: usize, len: usize) -> Id {
        let value = self.value(a)[start..start + len].to_vec();
        self.push(Op::Part(a, start), value)
    }

    /// Nodes side by side, each of which is there once.
    pub fn join(&mut self, parts: &[Id]) -> Id {
        let value = parts.iter().flat_map(|&part| self.value(part).to_vec()).collect();
        self.push(Op::Join(parts.to_vec()), value)
    }

    /// A place that a pass shows: it goes on with `value` forward and `adjoint` backward, where they are given.
    pub fn pin(&mut self, a: Id, value: Option<Vec<N>>, adjoint: Option<Vec<N>>) -> Id {
        let computed = self.value(a).to_vec();
        let id = self.push(Op::Pin(a), computed);
        let node = &mut self.nodes[id.0];
        if let Some(value) = value {
            assert_eq!(value.len(), node.value.len(), "a pin's value");
            node.value = value;
        }
        node.pinned = adjoint;
        id
    }

    /// The adjoints of all nodes, where the loss has these gradients by these nodes directly. Those of pins are as
    /// computed.
    pub fn backward(&self, seeds: &[(Id, Vec<N>)]) -> Adjoints<N> {
        let mut direct: Vec<Vec<&[N]>> = vec![Vec::new(); self.nodes.len()];
        seeds.iter().for_each(|(id, seed)| direct[id.0].push(seed));
        let mut computed: Vec<Vec<N>> = vec![Vec::new(); self.nodes.len()];
        let mut adjoint = computed.clone();
        for (id, node) in self.nodes.iter().enumerate().rev() {
            computed[id] = (0..node.value.len())
                .map(|j| {
                    let mut terms: Vec<(N, N)> =
                        direct[id].iter().map(|seed| (N::one(), seed[j])).collect();
                    for &by in &node.enters {
                        self.through(Id(id), j, by, &adjoint[by.0], &mut terms);
                    }
                    N::dot(terms)
                })
                .collect();
            adjoint[id] = node.pinned.clone().unwrap_or_else(|| computed[id].clone());
        }
        Adjoints { computed }
    }

    /// What comes to element `j` of a node through one that it enters.
    fn through(&self, id: Id, j: usize, by: Id, adjoint: &[N], terms: &mut Vec<(N, N)>) {
        let node = &self.nodes[by.0];
        match &node.op {
            Op::Leaf => unreachable!("nothing enters a leaf"),
            Op::Affine { terms: products, bias } => {
                for (m, vector) in products {
                    if m.matrix == id
                        && let Some(at) = j.checked_sub(m.start)
                        && at < m.rows * m.columns
                    {
                        let factor = self.value(*vector)[at % m.columns];
                        terms.push((factor, adjoint[at / m.columns]));
                    }
                    if *vector == id {
                        let matrix = &self.value(m.matrix)[m.start..];
                        let column = (0..m.rows).map(|r| (matrix[r * m.columns + j], adjoint[r]));
                        terms.extend(column);
                    }
                }
                if let Some((bias, start)) = *bias
                    && bias == id
                    && let Some(r) = j.checked_sub(start)
                    && r < adjoint.len()
                {
                    terms.push((N::one(), adjoint[r]));
                }
            }
            Op::Add(a, b) => {
                let times = usize::from(*a == id) + usize::from(*b == id);
                terms.extend((0..times).map(|_| (N::one(), adjoint[j])));
            }
            Op::Sub(a, b) => {
                if *a == id {
                    terms.push((N::one(), adjoint[j]));
                }
                if *b == id {
                    terms.push((N::exact(-1.0), adjoint[j]));
                }
            }
            Op::Mul(a, b) => {
                for (own, other) in [(a, b), (b, a)] {
                    if *own == id {
                        terms.push((self.value(*other)[j], adjoint[j]));
                    }
                }
            }
            Op::Map(activation, _) => terms.push((activation.slope(node.value[j]), adjoint[j])),
            // (d − mean(d) − y mean(d ⊙ y)) / √(σ² + ε), with y the node and d its adjoint.
            Op::Norm(_, inverse) => {
                let even = mean(adjoint.iter().map(|&d| (d, N::one())));
                let along = mean(adjoint.iter().copied().zip(node.value.iter().copied()));
                terms.push((*inverse, (adjoint[j] - even) - node.value[j] * along));
            }
            Op::Part(_, start) => {
                if let Some(at) = j.checked_sub(*start)
                    && at < adjoint.len()
                {
                    terms.push((N::one(), adjoint[at]));
                }
            }
            Op::Join(parts) => {
                let before = parts.iter().take_while(|&&part| part != id);
                let start: usize = before.map(|&part| self.value(part).len()).sum();
                terms.push((N::one(), adjoint[start + j]));
            }
            Op::Pin(_) => terms.push((N::one(), adjoint[j])),
        }
    }
}

/// ∂L/∂ of each node.
pub struct Adjoints<N> {
    computed: Vec<Vec<N>>,
}

impl<N> Adjoints<N> {
    /// That of a node.
    pub fn of(&self, id: Id) -> &[N] {
        &self.computed[id.0]
    }
}
