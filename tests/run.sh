#!/usr/bin/env bash
# Builds Tendril with its tests and runs them; installs what is missing first.
#
#   tests/run.sh [--release|--debug|--asan|--tsan|--emulated] [--only FOLDER] [-DCMAKE_OPTION...] [CTEST_OPTION...]
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
only=
target=all
if [ "${1:-}" = --only ]; then only=$2 target=tendril_tests; shift 2; fi
options=(-DTENDRIL_TESTS=ON "-DTENDRIL_TESTS_OF=$only")
while [[ ${1:-} == -D* ]]; do options+=("$1"); shift; done
[ -z "$only" ] || set -- -R "^${only}_" "$@"
if [ "$preset" = tsan ]; then need tsan; else need test; fi
cmake --preset "$preset" "${options[@]}"
cmake --build --preset "$preset" --target "$target"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
