#!/usr/bin/env bash
# Builds the fuzz targets under AddressSanitizer and runs each for its share of
# the time.
#
#     scripts/fuzz.sh [seconds]        in all; 60 if not given
#
# Needs a nightly toolchain (`rustup toolchain install nightly --profile minimal`)
# and cargo-fuzz (`cargo install cargo-fuzz`), which it installs if it is
# missing. Inputs that it finds stay under fuzz/corpus and fuzz/artifacts, which
# git ignores; the last lines of a failure say how to run it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
cargo +nightly --version > /dev/null || {
    echo "fuzz.sh: needs \`rustup toolchain install nightly --profile minimal\`" >&2
    exit 1
}
cargo +nightly fuzz --version > /dev/null 2>&1 || cargo install --locked cargo-fuzz

# The entries are so large that compiling them takes longer than the run unless
# the sanitizer's checks are calls, comparisons are not traced, and debug
# assertions, which the tests have, are off.
export RUSTFLAGS="-Cllvm-args=-asan-instrumentation-with-call-threshold=0"
# An allocation of more bytes than any machine has is refused, as without the sanitizer.
export ASAN_OPTIONS=allocator_may_return_null=1
build=(-O --no-trace-compares --codegen-units 16)
cargo +nightly fuzz build "${build[@]}"
mapfile -t targets < <(cargo +nightly fuzz list)
share=$((seconds / ${#targets[@]}))
[ "$share" -gt 0 ] || share=1
# Inputs have any length from the start; if they grew from one byte, they would have four bytes
# after a minute.
for target in "${targets[@]}"; do
    echo "$target: $share s"
    cargo +nightly fuzz run "${build[@]}" "$target" -- \
        -max_total_time="$share" -max_len=1024 -len_control=0 -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1
done
