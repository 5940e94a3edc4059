#!/usr/bin/env bash
# Kills one of four ranks with SIGKILL at random moments, again and again, until the run is done. After
# each kill all processes must be gone within 15 seconds and a message must name the rank; in the end the
# loss must be that of a run that nobody killed.
#
#   kill_ranks.sh TRAIN_PROGRAM KILLS
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/ranks.sh" "$1"
kills=$2
steps=$((10 * kills)) pause=40

run whole 0 > "$folder/log" 2>&1 || fail "the run that nobody kills"
expected=$(grep '^final loss' "$folder/log")

touch "$folder/killed.hold"  # however slow this script is, there is somebody to kill
longest=0
for ((kill = 1; kill <= kills; ++kill)); do
  run killed $pause > "$folder/log" 2>&1 &
  launcher=$!
  await_ranks
  sleep "0.$((RANDOM % 900 + 100))"
  victim=$(ranks killed | sed -n "$((RANDOM % 4 + 1))p")
  [ -n "$victim" ] || fail "a run that ended by itself"
  kill -9 "$victim"
  start=$(date +%s%N)
  while [ -n "$(ranks killed)" ]; do
    sleep 0.05
    [ $((($(date +%s%N) - start) / 1000000)) -lt 15000 ] || fail "ranks live on after 15 s: $(ranks killed)"
  done
  took=$((($(date +%s%N) - start) / 1000000))
  [ $took -gt $longest ] && longest=$took
  if wait $launcher; then fail "mpirun reports success after a kill"; fi
  grep -qE "rank [0-9]|signal 9" "$folder/log" || fail "no message names the rank"
done
rm "$folder/killed.hold"
run killed 0 > "$folder/log" 2>&1 || fail "the run after the last kill"
result=$(grep '^final loss' "$folder/log")
[ "$result" = "$expected" ] || fail "after the kills $result, without $expected"
echo "$kills kills, all ranks gone after at most $longest ms; $result as without kills"
