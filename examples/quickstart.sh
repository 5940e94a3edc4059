#!/usr/bin/env bash
# Trains a small GPT on this repository's own text and prints what it learned; installs what is
# missing and builds first. All options go to the program: examples/quickstart.sh --help
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/setup.sh"

need build
(
  cd "$root"
  # A first build needs no test framework; a build folder that exists keeps its settings.
  options=()
  if [ ! -f build/release/CMakeCache.txt ]; then
    echo "Building; the first time takes a few minutes"
    options=(-DTENDRIL_TESTS=OFF -DTENDRIL_BENCH=OFF)
    # Compiling the CUDA code takes longer than all the rest, for nothing where there is no GPU.
    nvidia-smi -L > /dev/null 2>&1 || options+=(-DTENDRIL_CUDA=OFF)
  fi
  cmake --preset release --log-level=WARNING "${options[@]}" > /dev/null
  cmake --build --preset release --target quickstart
) >&2
# Threads that wait for the others soon sleep: spinning for long, as is the default, makes everything
# many times slower when other programs use the same cores.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT-10000}
exec "$root/build/release/examples/quickstart" "$@"
