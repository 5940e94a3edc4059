#!/usr/bin/env bash
# The four configurations as they are, and the launcher's other commands. Usage: dry_run.sh TENDRIL_LAUNCH
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$here" || exit 1
export TENDRIL_LAUNCHER=processes  # as on a machine with GPUs

# shows NAME COUNT LINE...: the dry run of NAME.yaml on machine $machine has COUNT ranks and these lines.
shows() {
  local name=$1 count=$2 out line
  shift 2
  out=$("$launch" --config_file "$name.yaml" --machine_rank "$machine" --dry_run true --flag 'a b' 2>/dev/null)
  check "$name is understood" [ "$?" = 0 ]
  check "$name has $count ranks" [ "$(grep -c '^# rank' <<<"$out")" = "$count" ]
  for line in "$@" "exec $(type -P true) --flag 'a b'"; do
    check "$name: $line" grep -qxF -- "$line" <<<"$out"
  done
}
machine=1
shows ddp 4 RANK=4 RANK=7 LOCAL_RANK=3 WORLD_SIZE=8 MASTER_ADDR=192.168.20.1 MASTER_PORT=9898 \
  ACCELERATE_MIXED_PRECISION=fp16
machine=0
shows fsdp 2 RANK=1 ACCELERATE_USE_FSDP=true FSDP_SHARDING_STRATEGY=FULL_SHARD FSDP_BACKWARD_PREFETCH=BACKWARD_PRE \
  FSDP_TRANSFORMER_CLS_TO_WRAP=BertLayer ACCELERATE_MIXED_PRECISION=bf16
shows deepspeed_file 4 ACCELERATE_USE_DEEPSPEED=true ACCELERATE_DEEPSPEED_CONFIG_FILE=zero3.json \
  ACCELERATE_DEEPSPEED_ZERO3_INIT=true
shows deepspeed_plugin 4 ACCELERATE_DEEPSPEED_ZERO_STAGE=2 ACCELERATE_GRADIENT_CLIPPING=0.7 \
  ACCELERATE_DEEPSPEED_ZERO3_INIT=false
err=$("$launch" --config_file deepspeed_plugin.yaml --dry_run true 2>&1 >/dev/null)
check "DeepSpeed's traps are warned of" has "$err" "zero3_init_flag is turned off"

check "config writes a file" [ "$("$launch" config --output "$work/c.yaml" --num_processes 2)" = "$work/c.yaml" ]
check "and keeps one that exists" [ "$("$launch" config --output "$work/c.yaml" >/dev/null 2>&1; echo $?)" = 1 ]
check "which is read" grep -q '^WORLD_SIZE=2$' <<<"$("$launch" --config_file "$work/c.yaml" --dry_run true)"
check "estimate prints a table" grep -q '^zero3 .* 14.00 .* 36.75' <<<"$("$launch" estimate --params 7B --num_processes 8)"
check "help" grep -q -- '--fsdp_sharding_strategy' <<<"$("$launch" --help)"
err=$("$launch" --num_procesess 2 true 2>&1)
check "a mistake exits with 1" [ "$?" = 1 ]
check "and names the nearest flag" has "$err" "did you mean --num_processes"
finish
