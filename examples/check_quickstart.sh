#!/usr/bin/env bash
# check_quickstart.sh PROGRAM: a short run learns and leaves its files; a run that is interrupted and resumed ends
# where an undisturbed one does; bad flags and bad texts are refused with a message and a non-zero status.
set -euo pipefail
quickstart=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check_quickstart: $*" >&2; exit 1; }

# The same sentence over and over: a few steps must bring the loss far below log(256) = 5.5.
for _ in $(seq 200); do echo "the quick brown fox jumps over the lazy dog"; done > "$work/text.txt"
small=(--data "$work/text.txt" --per_device_train_batch_size 4 --context 32 --n_layer 1 --n_head 2 --n_embd 32
       --warmup_steps 5 --learning_rate 0.01 --eval_windows 8 --sample_tokens 60)
"$quickstart" "${small[@]}" --output_dir "$work/out" --max_steps 80 --save_steps 40 --eval_steps 40 --logging_steps 20 \
  > "$work/log" 2> "$work/rows" || { cat "$work/rows"; fail "failed"; }
loss=$(sed -n 's/.*validation loss \([0-9.]*\).*/\1/p' "$work/log" | tail -1)
awk -v loss="$loss" 'BEGIN { exit !(loss > 0 && loss < 2.5) }' || { cat "$work/log"; fail "validation loss $loss"; }
grep -q 'eval_loss' "$work/rows" || { cat "$work/rows"; fail "reported no evaluation"; }
for file in model.safetensors config.json log.jsonl report.html checkpoint-80/trainer_state.json; do
  [ -s "$work/out/$file" ] || fail "wrote no $file"
done
grep -q 'the model continues' "$work/log" || fail "printed no sample"

# The same seed gives the same weights, whatever the number of threads, and whether or not the run was interrupted.
brief=("${small[@]}" --max_steps 30 --save_steps 7 --eval_steps 7 --dropout 0.1)
short() { "$quickstart" "${brief[@]}" "$@" > "$work/log" 2>&1; }
short --output_dir "$work/one" --threads 1
short --output_dir "$work/three" --threads 3
cmp "$work/one/model.safetensors" "$work/three/model.safetensors" || fail "the weights depend on the number of threads"
"$quickstart" "${brief[@]}" --output_dir "$work/killed" > "$work/log" 2>&1 & process=$!  # $! of a function is its shell
until [ -e "$work/killed/checkpoint-7" ] || ! kill -0 $process 2> /dev/null; do sleep 0.02; done
kill -KILL $process 2> /dev/null || true
wait $process 2> /dev/null || true
short --output_dir "$work/killed" --resume || { cat "$work/log"; fail "does not resume"; }
cmp "$work/one/model.safetensors" "$work/killed/model.safetensors" || fail "a resumed run ends elsewhere"

"$quickstart" "${small[@]}" --estimate_memory --output_dir "$work/estimate" > "$work/log" || fail "estimates no memory"
grep -q 'optimizer' "$work/log" || { cat "$work/log"; fail "the estimate names no optimizer state"; }

refuses() {  # WORDS_OF_THE_MESSAGE OPTION...
  local words=$1
  shift
  if "$quickstart" --output_dir "$work/refused" "$@" > "$work/log" 2>&1; then fail "accepts $*"; fi
  grep -qi -- "$words" "$work/log" || { cat "$work/log"; fail "no \"$words\" in the message about $*"; }
}
refuses 'no_such_flag' --no_such_flag 1
refuses 'learning_rate' --learnign_rate 1
refuses 'max_steps' --max_steps many
refuses 'dropout\|pdrop' "${small[@]}" --dropout 1.5
refuses 'missing.txt' --data "$work/missing.txt"
refuses 'n_head' "${small[@]}" --n_head 5
printf 'short' > "$work/short.txt"
refuses 'too small' --data "$work/short.txt"
echo "check_quickstart: passed, validation loss $loss"
