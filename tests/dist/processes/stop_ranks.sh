#!/usr/bin/env bash
# SIGTERM to one of four ranks: all stop after the same step with a checkpoint, and end well. The run that
# goes on from there ends with the loss of one that nobody stopped.
#
#   stop_ranks.sh TRAIN_PROGRAM
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/ranks.sh" "$1"
steps=40

run whole 0 > "$folder/log" 2>&1 || fail "the run that nobody stops"
expected=$(grep '^final loss' "$folder/log")

touch "$folder/stopped.hold"  # however slow this script is, the run is not over before the signal
run stopped 40 > "$folder/log" 2>&1 &
launcher=$!
until ls -d "$folder"/stopped/checkpoint-* > /dev/null 2>&1; do  # signals are caught by then
  kill -0 $launcher 2> /dev/null || fail "a run that ended by itself"
  sleep 0.05
done
kill -TERM "$(ranks stopped | sed -n 3p)"
rm "$folder/stopped.hold"
wait $launcher || fail "ranks that were asked to stop do not end well"
[ -z "$(ranks stopped)" ] || fail "ranks live on"
last=$(ls -d "$folder"/stopped/checkpoint-* | sed 's/.*-//' | sort -n | tail -1)
[ "$last" -lt $steps ] || fail "the run was over before the signal"
grep -q "a signal asked to stop; saving at step $last" "$folder/log" || fail "no message of the last step $last"

run stopped 0 > "$folder/log" 2>&1 || fail "the run that goes on"
result=$(grep '^final loss' "$folder/log")
[ "$result" = "$expected" ] || fail "after the stop $result, without $expected"
echo "stopped at step $last of $steps; $result as without"
