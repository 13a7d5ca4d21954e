//! The most that one core can do: independent chains of multiply-adds in
//! registers, the yardstick of every fraction of peak that the project states.

use crate::Isa;
use crate::simd::{Kernel, Simd};

/// Chains in flight: latency 4 or 5 times two pipes, and as many registers as
/// every instruction set has.
const CHAINS: usize = 12;

struct Chains {
    rounds: usize,
    start: [f32; CHAINS],
    factor: f32,
}

impl Kernel for Chains {
    type Output = (f64, f32);
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f64, f32) {
        let (a, b) = (simd.splat(self.factor), simd.splat(1e-6));
        let mut chains = [simd.zero(); CHAINS];
        for i in 0..CHAINS {
            chains[i] = simd.splat(self.start[i]);
        }
        for _ in 0..self.rounds {
            for i in 0..CHAINS {
                chains[i] = simd.mul_add(chains[i], a, b);
            }
        }
        let mut total = 0.0;
        for chain in chains {
            total += simd.sum(chain);
        }
        (2.0 * self.rounds as f64 * (CHAINS * S::LANES) as f64, total)
    }
}

/// Runs `rounds` rounds of multiply-adds on the calling thread and returns the
/// floating-point operations done: two per lane and multiply-add. The caller
/// times it.
pub fn fma_chains(isa: Isa, rounds: usize) -> f64 {
    // Opaque and distinct, or the compiler makes one chain of the twelve.
    let start = std::hint::black_box(std::array::from_fn(|i| i as f32));
    let factor = std::hint::black_box(0.999_999);
    let (flops, total) = isa.enter(Chains { rounds, start, factor });
    std::hint::black_box(total);
    flops
}
