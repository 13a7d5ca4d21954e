//! The entries of the kernels with sizes and lengths of any kind: what is right succeeds, what is
//! wrong is an error that has written nothing.
#![no_main]

use bptt_fuzz::Bytes;
use bptt_fuzz::kernels::{self, Drawn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(bytes) = Bytes::new(input) else { return };
    let mut drawn = Drawn::new(bytes);
    let all = [
        kernels::forward,
        kernels::backward,
        kernels::single,
        kernels::scan_forward,
        kernels::scan_backward,
        kernels::slstm_forward,
        kernels::slstm_backward,
        kernels::attention_scores,
        kernels::attention_weights,
        kernels::attention_sums,
        kernels::attention_gradients,
        kernels::clocked_forward,
        kernels::clocked_backward,
        kernels::packing,
        kernels::gemm,
        kernels::outer,
        kernels::dense,
        kernels::softmax_rows,
        kernels::cross_entropy,
        kernels::optimisers,
        kernels::diagonal,
    ];
    all[drawn.choice(all.len())](&mut drawn);
});
