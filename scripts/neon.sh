#!/usr/bin/env bash
# Builds the tests for aarch64 and runs them under qemu: the NEON kernels, on a
# machine that has none.
#
# Needs Debian (bookworm or later), cargo, and for the packages that it installs
# where they are missing: apt-get as root and the network. Debian's own compiler
# is used because its standard library for arm64 comes as a package of the same
# version; cargo stays the one on PATH, and so do all other builds' compilers.
#
#     scripts/neon.sh            the kernels' tests, then the root crate's
#     scripts/neon.sh kernels    the kernels' tests alone
#
# An emulated instruction takes some tens of native ones. PROPTEST_CASES, here 8
# where the environment says nothing, keeps random tests short.
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
# Static: qemu's user mode need not find arm64's dynamic linker and libraries.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS BPTT_ISA
export PROPTEST_CASES=${PROPTEST_CASES:-4}
# For a test that compares times.
export EMULATED=1

# Not doc tests: rustdoc would be another compiler's. Not what starts programs: the
# machine's kernel starts none of aarch64's without qemu before it.
test=(cargo test --no-fail-fast --release --target aarch64-unknown-linux-gnu)
# With the feature that the others ask for, or the kernels would be compiled twice.
"${test[@]}" -p bptt-kernels --features baseline --lib --test '*'
[ "${1:-all}" != kernels ] || exit 0
# Nor the suites of threads, whose helpers wait awake, and of memory: minutes under qemu, for
# what knows no instruction set.
targets=(--lib)
for file in $(grep -L 'std::process' tests/*.rs tests/*/main.rs); do
    name=${file#tests/}
    name=${name%/main.rs}
    [[ $name == cells_threads.rs || $name == cells_memory.rs ]] || targets+=(--test "${name%.rs}")
done
echo "left out, since they start programs:" $(grep -l 'std::process' tests/*.rs tests/*/main.rs)
"${test[@]}" -p bptt "${targets[@]}"
