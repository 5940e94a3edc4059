#!/usr/bin/env bash
# Builds Tendril with its tests and runs them; installs what is missing first.
#
#   tests/run.sh [--release|--debug|--asan|--tsan] [CTEST_OPTION...]
#
#   tests/run.sh                        everything, optimised
#   tests/run.sh --asan                 with AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/run.sh --tsan                 with ThreadSanitizer (clang)
#   tests/run.sh -R reduce              only the tests whose name contains "reduce"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

preset=release
case ${1:-} in
  --release | --debug | --asan | --tsan) preset=${1#--}; shift ;;
  -h | --help) sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
if [ "$preset" = tsan ]; then need tsan; else need test; fi
cmake --preset "$preset" -DTENDRIL_TESTS=ON
cmake --build --preset "$preset"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
