# shellcheck shell=bash
# Sourced by the tests of processes with the path of train_program: starts it on four ranks, and finds them.
program=$1
if ! command -v mpirun > /dev/null; then echo "skipped: there is no mpirun"; exit 77; fi
if ! command -v pgrep > /dev/null; then echo "skipped: there is no pgrep (Debian: procps)"; exit 77; fi
export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=10000 OMPI_MCA_btl_base_warn_component_unused=0
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
folder=$(mktemp -d)
trap 'pkill -9 -f "$program $folder" || true; rm -rf "$folder"' EXIT

fail() {
  { echo "FAILED: $*"; cat "$folder/log" || true; } >&2
  exit 1
}
# run NAME MILLISECONDS: $steps steps with checkpoints in $folder/NAME, each step taking at least so long.
run() { mpirun --oversubscribe -n 4 "$program" "$folder/$1" "$steps" "$2" "full_shard auto_wrap" 0.1; }
# Process ids of the ranks of a run.
ranks() { pgrep -f "^$program $folder/$1" || true; }
# Returns when the four ranks of the run `launcher` are there, or it has ended.
await_ranks() {
  until [ "$(pgrep -f "^$program $folder" | wc -l)" = 4 ] || ! kill -0 "$launcher" 2> /dev/null; do sleep 0.05; done
}
