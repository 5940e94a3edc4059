#!/usr/bin/env bash
# run.sh WAY BUILD_DIR [COMPILER]: another project uses the library by WAY (find_package,
# add_subdirectory or fetch_content). Configures it in a fresh folder below BUILD_DIR, builds it,
# runs it, and checks that it inherits no compile flags and, from the shared libraries of
# add_subdirectory, no symbols that are not Tendril's.
set -euo pipefail
way=$1
build=$(cd "$2" && pwd)
compiler=${3:-c++}
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$build/consumers/$way

fail() { echo "consumer $way: $*" >&2; exit 1; }

# The library is compiled again: without optimisation and instruction set variants and with several files as
# one, to save time. Paths relative to the build folder make both ways ask ccache for the same objects.
export CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1
rm -rf "$work"
mkdir -p "$build/consumers"  # the three may start in any order
options=(-G Ninja -S "$here/$way" -B "$work/build" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=
         -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DTENDRIL_ISA_VARIANTS=OFF -DCMAKE_UNITY_BUILD=ON)
if command -v ccache > /dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
case $way in
  find_package)
    cmake --install "$build" --prefix "$work/prefix" > /dev/null
    options+=(-DCMAKE_PREFIX_PATH="$work/prefix") ;;
  add_subdirectory)
    # Libraries that miss an export of another are an error at once, not in the first program that needs it.
    options+=(-DTENDRIL_DIR="$source" -DBUILD_SHARED_LIBS=ON -DCMAKE_SHARED_LINKER_FLAGS=-Wl,--no-undefined) ;;
  fetch_content)
    # And without the Trainer, which a program may not want.
    options+=(-DFETCHCONTENT_SOURCE_DIR_TENDRIL="$source" -DTENDRIL_TRAINER=OFF) ;;
  *) fail "unknown way; right are find_package, add_subdirectory and fetch_content" ;;
esac
cmake "${options[@]}" > "$work.log" 2>&1 || { cat "$work.log"; fail "does not configure"; }
if [ "$way" != find_package ] && grep -q '^--   Kernels for' "$work.log"; then
  fail "Tendril's summary appears in the embedder's configure output"
fi
cmake --build "$work/build" || fail "does not build"
"$work/build/consumer" || fail "gives a wrong result"

# The consumer's own file is compiled with include paths and the C++ standard, nothing else.
command=$(grep '"command"' "$work/build/compile_commands.json" | grep -- 'consumer\.dir/')
flags=$(echo "$command" | sed 's/.*"command": "//; s/",\{0,1\}$//' | tr ' ' '\n' |
        awk 'skip { skip = 0; next } /^-(o|c|isystem|I)$/ { skip = 1; next } /^-I/ { next } /^-/ { print }')
[ "$(echo "$flags" | grep -vxE -- '-std=(c|gnu)\+\+20' || true)" = "" ] ||
  fail "compiles with flags it never asked for: ${flags//$'\n'/ }"
if [ "$way" = find_package ]; then
  ! find "$work/prefix/include" -type f | grep -vE '\.(h|def)$' || fail "the install has files that are no headers"
  ! grep -rlE 'include *<(unsupported/)?Eigen' "$work/prefix/include" || fail "an installed header needs Eigen"
fi

# Shared libraries export Tendril's symbols and what the standard library's templates always leave.
if [ "$way" = add_subdirectory ]; then
  libraries=$(find "$work/build" -name 'libtendril_*.so')
  [ "$(echo "$libraries" | wc -l)" = 6 ] || fail "expected six shared libraries, got: $libraries"
  for library in $libraries; do
    exported=$(nm -D --defined-only --demangle "$library")
    foreign=$(echo "$exported" | cut -d' ' -f3- | grep -vE 'tendril::|std::|__gnu_cxx::' | grep -vxE '_init|_fini|' || true)
    [ -z "$foreign" ] || fail "$(basename "$library") exports: $foreign"
    ! echo "$exported" | grep -i 'eigen' || fail "$(basename "$library") exports Eigen's symbols"
  done
fi
echo "consumer $way: passed"
