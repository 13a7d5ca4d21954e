#!/usr/bin/env bash
# Runs the suites called `miri`, and the kernels' suite of sizes, under Miri. The run ends when
# memory is read before it is written, when a pointer leaves its allocation or outlives a borrow,
# and at a data race; sanitizers and guard pages miss many of these.
#
# Needs a nightly toolchain with the interpreter and the sources of the standard library:
#
#     rustup toolchain install nightly --profile minimal --component miri,rust-src
#
# Arguments name parts; without arguments all parts run, two at a time:
#
#     avx2       AVX2, on one thread
#     portable   the portable code, on one thread
#     threads    two threads, by the rules of tree borrows, since rayon's queues break the
#                stricter rules of stacked borrows, which the other parts keep
#     narrow     some of the portable code on a machine of 32 bits, i686
#     bigendian  the same on a machine with the other byte order, s390x
set -euo pipefail
cd "$(dirname "$0")/.."

cargo +nightly miri --version > /dev/null || {
    echo "miri.sh: needs \`rustup component add --toolchain nightly miri rust-src\`" >&2
    exit 1
}

export CARGO_TARGET_DIR=$PWD/target/miri
# Miri does the checks of the standard library and of arithmetic itself, except overflow, and they
# take a quarter of the time.
export CARGO_PROFILE_TEST_DEBUG_ASSERTIONS=false CARGO_PROFILE_TEST_OVERFLOW_CHECKS=true
# Miri passes the host's environment on.
export MIRIFLAGS=-Zmiri-disable-isolation

# Under Miri the compiler's target features, not a CPU, decide which instruction sets there are.
x86() {
    RUSTFLAGS=-Ctarget-feature=+avx2,+fma cargo +nightly miri test -q \
        -p bptt-kernels -p bptt --test miri "$@"
}

avx2() {
    BPTT_ISA=avx2 x86 -- alone
}

portable() {
    BPTT_ISA=portable x86 -- alone
}

# Helpers that sleep in rayon's pool are not leaks, and rayon's queues make pointers from integers.
threads() {
    local more="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance"
    MIRIFLAGS="$MIRIFLAGS $more" BPTT_ISA=avx2 x86 -- threads
}

other() {
    RUSTFLAGS="" cargo +nightly miri test -q --target "$1" \
        -p bptt-kernels --test miri --test sizes -- --skip threads --skip cells
}

narrow() {
    other i686-unknown-linux-gnu
}

bigendian() {
    other s390x-unknown-linux-gnu
}

parts=(avx2 portable threads narrow bigendian)
[ $# -eq 0 ] || parts=("$@")
for part in "${parts[@]}"; do
    declare -F "$part" > /dev/null || { echo "miri.sh: no part $part" >&2; exit 2; }
done

run() {
    local start=$SECONDS log result=passed
    log=$(mktemp)
    # Runs in the background, since `set -e` is off within a condition.
    "$1" > "$log" 2>&1 &
    wait $! || { result=FAILED; cat "$log"; }
    rm "$log"
    echo "$1: $result, $((SECONDS - start)) s"
    [ $result = passed ]
}

failed=0 running=0
for part in "${parts[@]}"; do
    [ $running -lt 2 ] || { wait -n || failed=1; running=$((running - 1)); }
    run "$part" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
