#!/usr/bin/env bash
# Builds Tendril with its tests and runs them; installs what is missing first.
#
#   tests/run.sh [--release|--debug|--asan|--tsan|--emulated] [--only FOLDER] [CTEST_OPTION...]
#
#   tests/run.sh                        everything, optimised
#   tests/run.sh --asan                 with AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/run.sh --emulated -R cuda     the device's tests on the CPU; --asan runs them too
#   tests/run.sh --tsan                 with ThreadSanitizer (clang)
#   tests/run.sh --tsan --only dist     the tests in tests/dist; of the rest only what they need is built
#   tests/run.sh -R reduce              only the tests whose name contains "reduce"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

preset=release
case ${1:-} in
  --release | --debug | --asan | --tsan | --emulated) preset=${1#--}; shift ;;
  -h | --help) sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
options=(-DTENDRIL_TESTS=ON -DTENDRIL_TESTS_OF=)
target=all
if [ "${1:-}" = --only ]; then
  options=(-DTENDRIL_TESTS=ON "-DTENDRIL_TESTS_OF=$2")
  target=tendril_tests
  set -- -R "^$2_" "${@:3}"
fi
if [ "$preset" = tsan ]; then need tsan; else need test; fi
cmake --preset "$preset" "${options[@]}"
cmake --build --preset "$preset" --target "$target"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
