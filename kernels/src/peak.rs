//! The peak arithmetic rate of one core: independent chains of multiply-adds in registers.
//! Every fraction of peak that the project states is a fraction of this rate. Knows vectors;
//! must not know the other kernels.

use crate::Isa;
use crate::simd::{Kernel, Simd};

/// Number of independent chains. A multiply-add takes 4 or 5 cycles on one of two pipes, so 10
/// chains keep both busy, and every instruction set has registers for 12.
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

/// Runs `rounds` rounds of multiply-adds on the calling thread and returns the number of
/// floating-point operations: two for each lane of each multiply-add. The caller measures
/// the time.
pub fn fma_chains(isa: Isa, rounds: usize) -> f64 {
    // The starts are opaque and distinct; otherwise the compiler merges the twelve chains.
    let start = std::hint::black_box(std::array::from_fn(|i| i as f32));
    let factor = std::hint::black_box(0.999_999);
    let (flops, total) = isa.enter(Chains { rounds, start, factor });
    std::hint::black_box(total);
    flops
}
