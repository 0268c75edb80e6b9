#!/bin/sh
# Runs what of the tests of gc and fs needs no mount and no worker under the address sanitizer, and looks for leaks at the end of each program:
#   sh xtests/sanitized.sh [filters and options of the test programs]
# Mounts and workers are left out since they lock their memory and limit their address space, and the sanitizer's shadow is 16 TiB of it. The standard
# library is not instrumented, so what it alone would do is not seen; and loom changes stacks, which the sanitizer takes amiss.
set -eu
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}"
host=x86_64-unknown-linux-gnu
cargo test --locked --no-fail-fast --target "$host" -p gleanfs-gc --lib -- --skip races "$@"
cargo test --locked --no-fail-fast --target "$host" -p gleanfs --lib --test real --test crash --test full --test grow --test fsck \
    --test faults --test scrub --test nothing_shows --test background -- --skip races "$@"
