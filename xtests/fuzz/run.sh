#!/bin/sh
# Runs a target under libFuzzer and the address sanitizer: sh xtests/fuzz/run.sh TARGET SECONDS [libFuzzer options].
# New inputs go to corpus/TARGET. To keep few of them afterwards: run.sh TARGET 0 -merge=1 SMALL corpus/TARGET.
set -eu
cd "$(dirname "$0")"
target=$1 seconds=$2
shift 2
export RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 --cfg fuzzing"
cargo +nightly build --release --target x86_64-unknown-linux-gnu --bin "$target"
case " $*" in *" -merge"*) ;; *) set -- "$@" "corpus/$target" ;; esac
mkdir -p "corpus/$target"
exec "${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/$target" \
    -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -detect_leaks=0 -print_final_stats=1 "$@"
