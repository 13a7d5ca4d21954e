#!/usr/bin/env bash
# Runs the tests of the kernels and of the root crate under AddressSanitizer: a
# read or write beyond an allocation, which no comparison of results would show,
# ends the run.
#
# Needs a nightly toolchain (`rustup toolchain install nightly --profile minimal`)
# on x86_64 Linux. Arguments go to `cargo test`. PROPTEST_CASES, 8 unless the
# environment sets it, keeps random tests short.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo +nightly --version > /dev/null || {
    echo "asan.sh: needs \`rustup toolchain install nightly --profile minimal\`" >&2
    exit 1
}

export CARGO_TARGET_DIR=$PWD/target/asan
# Makes the checks calls instead of inline code: they find the same faults, and the entries are so
# large that compiling inline checks takes longer than running.
export RUSTFLAGS="-Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0"
# Instrumented code takes longer to optimise than to run.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
# Some tests ask for more memory than there is, and expect an error.
export ASAN_OPTIONS=allocator_may_return_null=1
export PROPTEST_CASES=${PROPTEST_CASES:-8}
# For a test that compares times.
export EMULATED=1

# Skips the comparisons with the reference, which takes minutes here; the suites of bits call the
# same kernels. Also skips tests that limit the address space, since the sanitizer takes most of it.
skip=(--skip reference:: --skip last_state:: --skip refused::)

# With --target only the tests are instrumented, not build scripts. Only tests that are crates of
# their own run, since the kernels then compile once for all of them. All run in one call, since two
# calls would differ in the features of shared dependencies.
cargo +nightly test --release --no-fail-fast --target x86_64-unknown-linux-gnu \
    -p bptt-kernels -p bptt --test '*' "$@" -- "${skip[@]}"
