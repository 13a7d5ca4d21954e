#!/usr/bin/env bash
# Runs the tests with several threads under ThreadSanitizer: the kernels' own tests of teams, and
# the root crate's suite of passes and streams on several threads. A data race (two accesses to the
# same memory in no order, one of them a write) ends the run, whatever was computed.
#
# Needs a nightly toolchain and the standard library's source, which is compiled for it too
# (`rustup toolchain install nightly --profile minimal --component rust-src`), on x86_64
# Linux. Arguments go to the test programs. PROPTEST_CASES, 4 unless the environment sets it,
# keeps random tests short. It takes some ten minutes, most of them to compile, and is therefore
# not part of CI.
set -euo pipefail
cd "$(dirname "$0")/.."

src=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library
[ -d "$src" ] || {
    echo "tsan.sh: needs \`rustup toolchain install nightly --profile minimal --component rust-src\`" >&2
    exit 1
}

export CARGO_TARGET_DIR=$PWD/target/tsan
# rayon's queues use fences, which the sanitizer does not know; this cfg is rayon's own way around
# that.
export RUSTFLAGS="-Zsanitizer=thread --cfg crossbeam_sanitize_thread"
# Instrumented code takes longer to optimise than to run.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
export PROPTEST_CASES=${PROPTEST_CASES:-4}
# The sanitizer sees accesses of at most 16 bytes. It misses the vectors of AVX2 and AVX-512, but
# sees everything in the portable code. Which thread does what is the same for all of them.
export BPTT_ISA=${BPTT_ISA:-portable}

# Both packages in both calls: otherwise the features of shared dependencies differ, and everything
# is compiled twice.
test=(cargo +nightly test --release -Zbuild-std --target x86_64-unknown-linux-gnu
    -p bptt-kernels -p bptt)
"${test[@]}" --lib team -- "$@"
"${test[@]}" --test cells -- threads:: "$@"
