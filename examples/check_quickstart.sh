#!/usr/bin/env bash
# check_quickstart.sh PROGRAM: a short run learns and leaves its files; bad flags and bad texts are
# refused with a message and a non-zero status.
set -euo pipefail
quickstart=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check_quickstart: $*" >&2; exit 1; }

# The same sentence over and over: a few steps must bring the loss far below log(256) = 5.5.
for _ in $(seq 200); do echo "the quick brown fox jumps over the lazy dog"; done > "$work/text.txt"
small=(--data "$work/text.txt" --out "$work/out" --batch_size 4 --context 32 --n_layer 1 --n_head 2 --n_embd 32
       --warmup_steps 5 --learning_rate 0.01 --eval_batches 2 --sample_tokens 60)
"$quickstart" "${small[@]}" --steps 80 > "$work/log" 2> "$work/errors" || { cat "$work/errors"; fail "failed"; }
loss=$(sed -n 's/.*validation loss \([0-9.]*\).*/\1/p' "$work/log" | tail -1)
awk -v loss="$loss" 'BEGIN { exit !(loss > 0 && loss < 2.5) }' || { cat "$work/log"; fail "validation loss $loss"; }
[ ! -s "$work/errors" ] || { cat "$work/errors"; fail "writes to stderr although that is no terminal"; }
for file in model.safetensors config.json; do [ -s "$work/out/$file" ] || fail "wrote no $file"; done
grep -q 'the model continues' "$work/log" || fail "printed no sample"

# The same seed gives the same losses, whatever the number of threads.
losses() { "$quickstart" "${small[@]}" --steps 10 --eval_interval 2 "$@" | grep -o 'loss [0-9.]*  validation loss [0-9.]*'; }
one=$(losses --threads 1)
[ "$(echo "$one" | wc -l)" = 5 ] || fail "expected five validations, got: $one"
[ "$one" = "$(losses --threads 3)" ] || fail "the losses depend on the number of threads"

refuses() {  # WORDS_OF_THE_MESSAGE OPTION...
  local words=$1
  shift
  if "$quickstart" "$@" > "$work/log" 2>&1; then fail "accepts $*"; fi
  grep -qi -- "$words" "$work/log" || { cat "$work/log"; fail "no \"$words\" in the message about $*"; }
}
refuses 'no_such_flag' --no_such_flag 1
refuses 'steps' --steps 0
refuses 'steps' --steps many
refuses 'dropout' --dropout 1.5
refuses 'does not exist' --data "$work/missing.txt"
refuses 'n_head' "${small[@]}" --n_head 5
printf 'short' > "$work/short.txt"
refuses 'too small' --data "$work/short.txt"
echo "check_quickstart: passed, validation loss $loss"
