//! The error that an `f32` pass with `f = 1 − i` may have. It is not that of a pass with `i = 1 −
//! f`, since a gate near zero keeps its digits only where it is computed itself. Logistic and tanh
//! are assumed to be as accurate as ours.

use crate::common::Data;
use bptt_reference::{Bounded, Number, bounds};

/// Bounds of h of all steps, h of the last step, and c of the last step. The weights that are ours
/// for f are, with the opposite sign, the weights for i.
pub fn errors(data: &Data) -> Vec<Vec<f64>> {
    let (hidden, inputs) = (data.layer.hidden_size(), data.layer.input_size());
    let [u, w, b, p, _] = data.layer.reference().sections();
    let given = data.inputs.map(|values| bounds::exact(values));
    let (u, rest) = given.params.split_at(u);
    let (w, rest) = rest.split_at(w);
    let (b, p) = (rest.split_at(b).0, &rest[b..][..p]);
    let (mut h, mut c, mut all) = (given.h0, given.c0, Vec::new());
    for x in given.x.chunks(data.batch * inputs) {
        let before = h.clone();
        for n in 0..data.batch {
            let (x, h_before) = (&x[n * inputs..][..inputs], &before[n * hidden..][..hidden]);
            for j in 0..hidden {
                let z = |gate: usize| {
                    let row = gate * hidden + j;
                    let (u, w) = (&u[row * inputs..][..inputs], &w[row * hidden..][..hidden]);
                    let products = u.iter().zip(x).chain(w.iter().zip(h_before));
                    let products = products.map(|(&a, &b)| (a, b));
                    Bounded::dot([(Bounded::one(), b[row])].into_iter().chain(products))
                };
                let sees = |z: Bounded, block: usize, c: Bounded| match p.get(block * hidden + j) {
                    Some(&p) => z + p * c,
                    None => z,
                };
                let c = &mut c[n * hidden + j];
                let z_f = sees(z(0), 0, *c);
                let i = Bounded { value: -z_f.value, ..z_f }.logistic();
                *c = (Bounded::one() - i) * *c + i * z(1).tanh();
                h[n * hidden + j] = sees(z(2), 1, *c).logistic() * c.tanh();
            }
        }
        all.extend_from_slice(&h);
    }
    [all, h, c].iter().map(|part| part.iter().map(|value| value.bound).collect()).collect()
}
