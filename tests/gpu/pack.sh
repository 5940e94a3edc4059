#!/usr/bin/env bash
# Collects what tests/gpu/run.sh --prebuilt needs into one archive, for a machine that cannot build.
#
#   tests/gpu/pack.sh BUILD DIR        DIR/tendril-gpu.tar.gz from a build folder made with -DTENDRIL_CUDA=ON
#
# The archive holds the test program and the benchmarks without their symbols in bin/, and in lib/ the shared libraries
# that a bare machine may lack (libgomp, yaml-cpp). Not in it: the driver, cuBLASLt, NCCL and the C++ library, which the
# machine has; Python scripts and the list of tests, which run.sh takes from the source tree. For a machine without MPI, build with
# -DTENDRIL_MPI=OFF; for one without NCCL, with -DTENDRIL_NCCL=OFF.
#
# Each program holds the whole library: -DCMAKE_CUDA_ARCHITECTURES=90-real (for a Hopper GPU) leaves out the PTX and
# keeps the archive small.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 2; }
build=$1
mkdir -p "$2"
target=$(cd "$2" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mkdir "$folder/bin" "$folder/lib"
for program in tests/tendril_tests tests/bench/bench_step tests/bench/bench_cuda; do
  strip -o "$folder/bin/$(basename "$program")" "$build/$program"
done
for library in $(ldd "$build/tests/tendril_tests" | awk '$1 ~ /^lib(gomp|yaml-cpp)\./ { print $3 }'); do
  cp -L "$library" "$folder/lib/"
done
tar -czf "$target/tendril-gpu.tar.gz" -C "$folder" .
ls -lh "$target/tendril-gpu.tar.gz"
