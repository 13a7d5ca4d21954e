#!/usr/bin/env bash
# Runs the tests of the kernels and of the root crate under AddressSanitizer: a
# read or write beyond an allocation, which a test of values cannot see, ends the
# run.
#
# Needs a nightly toolchain (`rustup toolchain install nightly --profile minimal`)
# on x86_64 Linux. Arguments go to `cargo test`. PROPTEST_CASES, here 8 where the
# environment says nothing, keeps random tests short.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo +nightly --version > /dev/null || {
    echo "asan.sh: needs \`rustup toolchain install nightly --profile minimal\`" >&2
    exit 1
}

export CARGO_TARGET_DIR=$PWD/target/asan
# Checks as calls, not in line: they see the same, and the entries are so large
# that compiling takes longer than running.
export RUSTFLAGS="-Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0"
# Instrumented code takes longer to optimise than to run.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
# Tests ask for more memory than there is, and want an error for it.
export ASAN_OPTIONS=allocator_may_return_null=1
export PROPTEST_CASES=${PROPTEST_CASES:-8}
# For a test that compares times.
export EMULATED=1

# Not the comparisons with the reference: that computes for minutes here, and the kernels do
# nothing in it that they do not do in the suites of bits. Nor what limits the address space, of
# which the sanitizer takes most.
skip=(--skip reference:: --skip last_state:: --skip refused::)

# --target: the sanitizer is for the tests, not for build scripts. The tests that are crates of
# their own, since the kernels compile once for all of them then, and in one call: in two the
# features of what both depend on differ.
cargo +nightly test --release --no-fail-fast --target x86_64-unknown-linux-gnu \
    -p bptt-kernels -p bptt --test '*' "$@" -- "${skip[@]}"
