#!/usr/bin/env bash
# check_isa_symbols.sh ISA OBJECT...: in the objects that were compiled for an instruction set every
# symbol that the linker could share with other objects must carry the set's name. Otherwise it might
# pick that copy for the whole program, which then dies on older processors (see core/cpu/isa.h).
set -euo pipefail
isa=${1:?usage: check_isa_symbols.sh ISA OBJECT...}
shift

# Prints the offending symbols of one object: global, weak or unique (nm's capitals, and u), defined,
# without the name. The pointer to the exception handler is data, the same in every copy.
leaks() {  # ISA OBJECT
  nm --defined-only --demangle "$2" | awk -v isa="$1" '
    $2 ~ /^[A-TV-Zu]$/ && $3 != "DW.ref.__gxx_personality_v0" &&
    index($0, "::" isa "::") == 0 && index($0, "Eigen_" isa "::") == 0 { $1 = ""; print "   " $0 }'
}

# First the check itself: a weak function that belongs to no instruction set must be noticed.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/leaky.cpp" <<'CPP'
template <class T> __attribute__((noinline)) T twice(T x) { return x + x; }
namespace tendril::cpu::avx2 { float use(float x) { return twice(x); } }
CPP
"${CXX:-c++}" -O0 -c "$work/leaky.cpp" -o "$work/leaky.o"
if [[ $(leaks avx2 "$work/leaky.o") != *twice* || $(leaks avx2 "$work/leaky.o") == *use* ]]; then
  echo "the check is broken: it does not tell a weak symbol from one with the name" >&2
  exit 1
fi

bad=0
for object in "$@"; do
  found=$(leaks "$isa" "$object")
  if [ -n "$found" ]; then
    bad=1
    printf '%s: symbols that the linker may merge with others:\n%s\n' "$object" "$found"
  fi
done
[ "$bad" = 0 ] || exit 1
echo "$# objects checked: $isa keeps its symbols to itself"
