#!/usr/bin/env bash
# How tendril-launch treats the processes that it starts itself: exit codes, failures, signals,
# restarts, output, and that none is left over. Usage: processes.sh TENDRIL_LAUNCH
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run=("$launch" --launcher processes --quiet --num_processes)

program rank_and_code <<'END'
echo "rank $RANK of $WORLD_SIZE at $MASTER_ADDR"
echo "to stderr" >&2
exit 0
END
out=$("${run[@]}" 3 "$work/rank_and_code" 2>/dev/null | sort)
check "each rank is told who it is" [ "$out" = "rank 0 of 3 at 127.0.0.1
rank 1 of 3 at 127.0.0.1
rank 2 of 3 at 127.0.0.1" ]
out=$("${run[@]}" 2 --tee 3 "$work/rank_and_code" 2>&1 >/dev/null | sort)
check "lines begin with the rank" [ "$out" = "[0] to stderr
[1] to stderr" ]
"${run[@]}" 2 --log_dir "$work/logs" "$work/rank_and_code" >/dev/null 2>&1
check "log files" [ "$(cat "$work/logs/1/rank.1/stdout" "$work/logs/1/rank.0/stderr")" = "rank 1 of 2 at 127.0.0.1
to stderr" ]

# One fails while the others hang, one of them deaf to SIGTERM, with a child of its own.
program one_fails <<END
echo \$\$ >>$work/pids
case \$RANK in
  0) sleep 1000 & echo \$! >>$work/pids; trap '' TERM; while :; do sleep 0.1; done ;;
  1) while [ "\$(wc -l <$work/pids)" -lt 4 ]; do sleep 0.02; done; exit 7 ;;
  2) exec sleep 1000 ;;
esac
END
start=$(date +%s)
err=$("${run[@]}" 3 --shutdown_timeout 0.5 "$work/one_fails" 2>&1)
code=$?
check "the exit code is that of the rank that failed" [ "$code" = 7 ]
check "and it is named" has "$err" "rank 1 failed with exit code 7; ending the others"
check "all have ended" all_gone "$work/pids"
check "in time" [ $(($(date +%s) - start)) -lt 20 ]

program dies <<'END'
[ "$RANK" = 1 ] && kill -SEGV $$
sleep 1000
END
err=$("${run[@]}" 2 "$work/dies" 2>&1)
check "a signal counts as 128 + its number" [ "$?" = 139 ]
check "and is named" has "$err" "ended by signal 11"

# A signal to the launcher goes to the ranks, who may answer in their own way.
program asked <<END
trap 'echo "rank \$RANK saves" >>$work/saved; exit 0' TERM
trap 'exit 5' INT
trap 'echo usr1 >>$work/usr1' USR1
echo \$\$ >>$work/asked_pids
while :; do sleep 0.05; done
END
"${run[@]}" 2 "$work/asked" 2>/dev/null &
pid=$!
check "started" eventually lines_of "$work/asked_pids" 2
kill -USR1 $pid
check "SIGUSR1 is forwarded" eventually lines_of "$work/usr1" 2
kill -TERM $pid
wait $pid
check "ranks that end well make the run end well" [ "$?" = 0 ]
check "SIGTERM is forwarded" lines_of "$work/saved" 2
check "all have ended after SIGTERM" all_gone "$work/asked_pids"
rm "$work/asked_pids"
# A background job of a script is started with SIGINT ignored.
env --default-signal=INT "${run[@]}" 2 "$work/asked" 2>/dev/null &
pid=$!
check "started again" eventually lines_of "$work/asked_pids" 2
kill -INT $pid
wait $pid
check "SIGINT is forwarded" [ "$?" = 5 ]
check "all have ended after SIGINT" all_gone "$work/asked_pids"

# Nothing survives a launcher that is killed, not even what the ranks started.
program family <<END
echo \$\$ >>$work/family_pids
sleep 1000 &
echo \$! >>$work/family_pids
wait
END
"${run[@]}" 2 --shutdown_timeout 1 "$work/family" &
pid=$!
check "the family is there" eventually lines_of "$work/family_pids" 4
pgrep -P $pid >>"$work/family_pids"  # the process that guards them goes as well
{ kill -KILL $pid; wait $pid; } 2>/dev/null
check "no orphans" eventually all_gone "$work/family_pids"

# Nor does a failed run leave what ranks have started in process groups of their own.
program strays <<END
[ "\$RANK" = 0 ] && { timeout 1000 sleep 1000 & echo \$! >>$work/strays_pids; wait; }
while [ "\$(cat $work/strays_pids 2>/dev/null | wc -l)" -lt 1 ]; do sleep 0.02; done
read -r stray <$work/strays_pids
until [ "\$(cut -d' ' -f5 /proc/\$stray/stat)" = "\$stray" ]; do sleep 0.02; done  # timeout leaves the group
exit 6
END
"${run[@]}" 2 "$work/strays" 2>/dev/null
check "the failure is returned" [ "$?" = 6 ]
check "no strays" all_gone "$work/strays_pids"

program sometimes <<END
echo start >>$work/starts
[ "\$(wc -l <$work/starts)" -ge 3 ] && exit 0
exit 9
END
"${run[@]}" 1 --max_restarts 1 "$work/sometimes" 2>/dev/null
check "one restart is not enough" [ "$?" = 9 ]
rm "$work/starts"
"${run[@]}" 1 --max_restarts 5 "$work/sometimes" 2>/dev/null
check "two restarts are" [ "$?" = 0 ]
check "and no more happen" [ "$(wc -l <"$work/starts")" = 3 ]

printf 'no interpreter line' >"$work/odd"
chmod +x "$work/odd"
err=$("${run[@]}" 2 "$work/odd" 2>&1)
check "a file that cannot be executed is an error" [ "$?" = 1 ]
check "that says why" has "$err" "begin a script with #!"

out=$(env SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=1 SLURM_STEP_NODELIST='n[1-2]' \
  "$launch" --quiet --use_cpu bash -c 'echo $PPID $ACCELERATE_USE_CPU' )
check "a task of srun becomes the program" [ "$out" = "$$ true" ]
finish
