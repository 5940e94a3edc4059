# What the scripts of this folder share: a launcher that sees nobody's configuration, and checks.
set -u
launch=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TENDRIL_HOME=$work CUDA_VISIBLE_DEVICES= GOMP_SPINCOUNT=10000
unset "${!ACCELERATE_@}" "${!FSDP_@}" "${!SLURM_@}" "${!OMPI_@}" OMP_NUM_THREADS MASTER_ADDR MASTER_PORT
failures=0

# check WHAT CONDITION...
check() {
  local what=$1
  shift
  if ! "$@"; then
    echo "FAILED: $what"
    failures=$((failures + 1))
  fi
}

# A program of several lines, from stdin.
program() {
  { echo '#!/bin/bash'; cat; } >"$work/$1"
  chmod +x "$work/$1"
}

# Waits until the command succeeds, 30 seconds at most.
eventually() {
  for _ in $(seq 600); do
    "$@" && return 0
    sleep 0.05
  done
  return 1
}

# Processes named in FILE, one number a line, have all ended; unreaped ones count as ended.
all_gone() {
  local pid state
  while read -r pid; do
    state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null)
    [ -z "$state" ] || [ "$state" = Z ] || return 1
  done <"$1"
}

# has TEXT PART
has() { case $1 in *"$2"*) return 0 ;; *) echo "$1" && return 1 ;; esac; }

# lines_of FILE COUNT: as many, or more
lines_of() { [ "$(cat "$1" 2>/dev/null | wc -l)" -ge "$2" ]; }

finish() {
  [ "$failures" = 0 ] && echo "all checks passed"
  exit "$((failures > 0))"
}
