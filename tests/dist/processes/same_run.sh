#!/usr/bin/env bash
# The Trainer on 2, 3 and 4 processes of mpirun, data parallel and sharded, ends after 50 steps with the loss
# of one process, within 1e-6 relative.
#
#   same_run.sh TRAIN_PROGRAM
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/ranks.sh" "$1"

loss_of() {
  mpirun --oversubscribe -n "$1" "$program" "$folder/run" 50 0 "$2" 0 > "$folder/log" 2>&1 || fail "$1 ranks, $2"
  rm -rf "$folder/run"
  sed -n 's/^final loss //p' "$folder/log"
}

expected=$(loss_of 1 "")
check() {
  local loss
  loss=$(loss_of "$1" "$2")
  awk -v a="$loss" -v b="$expected" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(b > 0 && d <= 1e-6 * b) }' ||
    fail "$1 ranks, \"$2\": loss $loss, with one process $expected"
}
check 3 ""
for ranks in 2 3 4; do check $ranks "full_shard auto_wrap"; done
check 2 "shard_grad_op auto_wrap"
echo "loss $expected with 1 to 4 processes"
