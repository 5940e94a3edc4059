#!/usr/bin/env bash
# A real run of two ranks under mpirun. Usage: mpirun.sh TENDRIL_LAUNCH
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if ! mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
  echo "skipped: there is no Open MPI (Debian: openmpi-bin)"
  exit 77
fi
run=("$launch" --quiet --use_cpu --num_processes 2)

program rank <<'END'
echo "$OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE $ACCELERATE_MIXED_PRECISION $FSDP_SHARDING_STRATEGY ${RANK-none}"
END
out=$(RANK=5 "${run[@]}" --use_fsdp --mixed_precision bf16 "$work/rank" | sort)
check "ranks and their settings" [ "$out" = "0 of 2 bf16 FULL_SHARD none
1 of 2 bf16 FULL_SHARD none" ]
out=$("${run[@]}" --tee 1 "$work/rank" | sort)
check "lines begin with the rank" [ "$out" = "[0] 0 of 2 no  none
[1] 1 of 2 no  none" ]

program one_fails <<END
echo \$\$ >>$work/pids
[ "\$OMPI_COMM_WORLD_RANK" = 1 ] || exec sleep 1000
while [ "\$(wc -l <$work/pids)" -lt 2 ]; do sleep 0.02; done
exit 3
END
"${run[@]}" "$work/one_fails" 2>/dev/null
check "the exit code is that of the rank that failed" [ "$?" = 3 ]
check "all have ended" eventually all_gone "$work/pids"

program saves <<END
trap 'sleep 1.5; echo saved >>$work/saved; exit 0' TERM
echo \$\$ >>$work/saves_pids
while :; do sleep 0.05; done
END
"${run[@]}" "$work/saves" 2>/dev/null &
pid=$!
check "started" eventually lines_of "$work/saves_pids" 2
kill -TERM $pid
wait $pid
check "SIGTERM leaves the ranks time to save" [ "$?" = 0 ]
check "both did" lines_of "$work/saved" 2

program hangs <<END
trap '' TERM
echo \$\$ >>$work/hangs_pids
while :; do sleep 0.05; done
END
"${run[@]}" --shutdown_timeout 0.3 "$work/hangs" 2>/dev/null &
pid=$!
check "started deaf ones" eventually lines_of "$work/hangs_pids" 2
kill -TERM $pid
wait $pid
check "deaf ranks fail" [ "$?" != 0 ]
check "deaf ranks are killed" eventually all_gone "$work/hangs_pids"

rm "$work/saves_pids"
"${run[@]}" "$work/saves" 2>/dev/null &
pid=$!
check "started a last time" eventually lines_of "$work/saves_pids" 2
{ kill -KILL $pid; wait $pid; } 2>/dev/null
check "no orphans of a killed launcher" eventually all_gone "$work/saves_pids"
finish
