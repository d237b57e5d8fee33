#!/usr/bin/env bash
# Stands between cargo and rustc for the packages of this repository alone, and has what libFuzzer
# steers by compiled into them. What they depend on is compiled as for every other build, and so only
# once. Needs no sanitizer, and so no nightly compiler: there is no unsafe code here.
exec "$@" --cfg fuzzing -Copt-level=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
