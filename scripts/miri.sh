#!/usr/bin/env bash
# Runs the suites called `miri`, and that of sizes, under Miri: memory that is read before it
# is written, pointers that leave their allocation or outlive a borrow, and races end the
# run, where sanitizers and guard pages see nothing.
#
# Needs a nightly toolchain with the interpreter and the sources of the standard library:
#
#     rustup toolchain install nightly --profile minimal --component miri,rust-src
#
# Arguments are parts, without any all of them, two at a time:
#
#     avx2       AVX2, on one thread
#     portable   the portable code, on one thread
#     threads    two threads, by the rules of tree borrows: rayon's queues break those of
#                stacked borrows, to which the other parts are held
#     narrow     some of the portable code on a machine of 32 bits, i686
#     bigendian  and on one of the other order of bytes, s390x
set -euo pipefail
cd "$(dirname "$0")/.."

cargo +nightly miri --version > /dev/null || {
    echo "miri.sh: needs \`rustup component add --toolchain nightly miri rust-src\`" >&2
    exit 1
}

export CARGO_TARGET_DIR=$PWD/target/miri
# The checks of the standard library and of arithmetic are Miri's too, and take a quarter of
# the time; those of overflow are not.
export CARGO_PROFILE_TEST_DEBUG_ASSERTIONS=false CARGO_PROFILE_TEST_OVERFLOW_CHECKS=true
# The environment is the host's.
export MIRIFLAGS=-Zmiri-disable-isolation

# Miri asks the compiler for the instruction sets that there are, not a CPU.
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

# Helpers that sleep in rayon's pool are no leak, and its queues make pointers of integers.
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
    # In the background, since `set -e` is off within a condition.
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
