#!/usr/bin/env bash
# Builds the tests for aarch64 and runs them under qemu, which tests the NEON
# kernels on a machine without NEON.
#
# Needs Debian (bookworm or later) and cargo. It installs missing packages, which
# needs apt-get as root and the network. Debian's own compiler is used because its
# standard library for arm64 comes as a package of the same version; cargo is the
# one on PATH, and all other builds keep their compilers.
#
#     scripts/neon.sh            the kernels' tests, then the root crate's
#     scripts/neon.sh kernels    the kernels' tests alone
#     scripts/neon.sh golden     records NEON's lines of tests/golden/hashes.txt
#
# Emulation is tens of times slower than native code. PROPTEST_CASES, 8 unless the
# environment sets it, keeps random tests short.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "neon.sh: $*" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || fail "cross-compiles from x86_64, this is $(uname -m); on aarch64 run \`cargo test --workspace\`"
command -v cargo > /dev/null || fail "no cargo on PATH"

packages=(rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
missing=()
if command -v dpkg-query > /dev/null; then
    for package in "${packages[@]}"; do
        state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null || true)
        [[ $state == ii* ]] || missing+=("$package")
    done
else
    fail "not a Debian system: install by hand rustc with an aarch64 standard library, aarch64-linux-gnu-gcc and qemu-aarch64"
fi
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || fail "missing packages: ${missing[*]}; run as root, or install them after \`dpkg --add-architecture arm64\`"
    echo "installing ${missing[*]}"
    dpkg --add-architecture arm64
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null ||
        fail "apt-get could not install ${missing[*]}"
fi

export RUSTC=/usr/bin/rustc
export CARGO_TARGET_DIR=$PWD/target/neon
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
# Static programs, so that qemu's user mode need not find arm64's dynamic linker and libraries.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
# Release-level optimisation would take longer than it saves, except for the reference.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS BPTT_ISA
export PROPTEST_CASES=${PROPTEST_CASES:-4}
# For a test that compares times.
export EMULATED=1

# Skips doc tests, since rustdoc would come from another compiler. Skips tests that start programs,
# since the machine's kernel does not start aarch64 programs without qemu. Skips suites that do not
# depend on the instruction set: those of other work beside the threads, of memory and of an
# example.
suites() {
    local file name
    for file in "$1"/*.rs "$1"/*/main.rs; do
        name=${file%/main.rs}
        name=$(basename "$name" .rs)
        case $name in
            cells_memory | long_memory | neighbours | processes) continue ;;
        esac
        if grep -Eq 'process::.*Command' "$file"; then
            echo "left out, since it starts programs: $file"
        else
            targets+=(--test "$name")
        fi
    done
}

targets=(--lib)
# Of the suite of cells, skips tests that do not depend on the instruction set, tests of threads,
# whose helpers wait awake, and tests that mostly run the reference.
skip=(--skip errors:: --skip sizes:: --skip threads:: --skip last_state::)
case ${1:-all} in
    all)
        crates=(-p bptt-kernels -p bptt)
        suites kernels/tests
        suites tests
        ;;
    kernels)
        crates=(-p bptt-kernels --features baseline)
        suites kernels/tests
        ;;
    golden)
        crates=(-p bptt)
        targets=(--test golden)
        export BPTT_GOLDEN=record
        # All cases, which takes minutes.
        unset EMULATED
        ;;
    *) fail "no part $1" ;;
esac
reference=profile.release.package.bptt-reference.opt-level=3
# In one call, since two calls would differ in the features of shared dependencies and compile the
# kernels twice.
cargo --config "$reference" test --no-fail-fast --release --target aarch64-unknown-linux-gnu \
    "${crates[@]}" "${targets[@]}" -- "${skip[@]}"
