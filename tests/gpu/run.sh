#!/usr/bin/env bash
# Everything that needs a GPU, in one go: builds, runs the device tests, compute-sanitizer on a part of
# them, and the benchmarks beside PyTorch; prints one table at the end. For a machine with CUDA, CMake and
# ninja but no package manager.
#
#   TENDRIL_DEPS_DIR=DIR tests/gpu/run.sh [OPTION...]     builds here; DIR holds Eigen/, doctest/ and CLI/
#   tests/gpu/run.sh --prebuilt DIR [OPTION...]           runs what tests/gpu/pack.sh put into DIR
#
#   --out DIR        the table, the figures and all logs (in one archive) go there (default: build/gpu-results)
#   --build DIR      where to build (default: build/cuda)
#   --arch LIST      CUDA architectures to build for (default: the GPU's)
#   --only STEPS     some of: configure,build,tests,memcheck,racecheck,steps,ops (default: all)
#   --tests LIST     test files without path and ending, e.g. test_cuda_ops,test_attention_cuda (default: all
#                    with cuda in their names, and tests/dist/test_nccl.cpp)
#   --budget SECONDS no step starts or runs beyond this (default: 900)
#   --compile WHICH  torch.compile in the comparison: none, f32, bf16, both (default: f32)
#   --rounds N       rounds of the comparison (default: 2)
#
# Every step has a time limit of its own. A step that fails or hangs is reported and the next one runs; the
# exit status is 0 only when all of them passed. The last lines of a failed step's log are printed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=build/gpu-results build=build/cuda arch='' prebuilt='' only='' tests='' budget=900 compile=f32 rounds=2
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --out | --build | --arch | --prebuilt | --only | --tests | --budget | --compile | --rounds)
      [ $# -ge 2 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" '%s' "$2"; shift 2 ;;
    *) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
logs=$(mktemp -d)
folder=$(mktemp -d)  # of the unpacked programs
table=$logs/table.txt
: >"$table"
collect() {
  cp "$table" "$logs"/steps.log "$logs"/ops.log "$out" 2>/dev/null
  tar -czf "$out/logs.tar.gz" -C "$logs" .
  rm -rf "$logs" "$folder"
}
trap collect EXIT
failures=0
with_libraries=()

wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }

# step NAME LIMIT COMMAND...: runs it with its output in $logs/NAME.log and adds a line to the table.
step() {
  local name=$1 limit=$2 left=$((budget - SECONDS)) begin=$SECONDS status result
  shift 2
  if [ "$left" -le 5 ]; then
    printf '%-28s %-22s %6s\n' "$name" 'left out: no time' - >>"$table"
    failures=$((failures + 1))
    return 1
  fi
  echo "== $name"
  timeout -k 5 "$((limit < left ? limit : left))" "$@" >"$logs/$name.log" 2>&1
  status=$?
  case $status in
    0) result=passed ;;
    124 | 137) result="stopped after $((SECONDS - begin)) s" ;;
    *) result="failed ($status)" ;;
  esac
  if [ "$status" -eq 0 ] && grep -aq 'skipped: ' "$logs/$name.log"; then  # fine elsewhere, but not here
    result=$(grep -ao 'skipped: .*' "$logs/$name.log" | head -n 1) status=1
  fi
  printf '%-28s %-22s %6d\n' "$name" "$result" "$((SECONDS - begin))" >>"$table"
  [ "$status" -eq 0 ] && return 0
  failures=$((failures + 1))
  grep -a -A 4 -E 'ERROR|FATAL|error:|Error|terminate|=====' "$logs/$name.log" | head -n 30
  tail -n 4 "$logs/$name.log"
  return 1
}

# The named test files with a filter of doctest each; prints what failed and how many passed.
tests_of() {
  local program=$1 file
  [ -n "$tests" ] || tests=$(for file in tests/{,trainer/,dist/}test_*cuda*.cpp tests/dist/test_nccl.cpp; do basename "$file" .cpp; done | paste -sd,)
  for file in ${tests//,/ }; do
    step "$file" 150 "${with_libraries[@]}" "$program" --source-file="*/$file.cpp" --duration=true --no-colors=true
    # One line for each comparison that is off, however many checks it fails.
    grep -a 'is off by' "$logs/$file.log" | sed 's/^ *//' | sort -u -t: -k1,1 | head -n 40
  done
}

# compute-sanitizer over the smallest tests that reach every kernel.
sanitize() {
  local tool=$1 program=$2 checker
  checker=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  step "$tool" "$3" "${with_libraries[@]}" "$checker" --tool "$tool" --error-exitcode 9 --print-limit 10 "$program" \
    --test-case='*for the sanitizers*' --no-colors=true
}

if [ -n "$prebuilt" ]; then
  tar -xzf "$prebuilt/tendril-gpu.tar.gz" -C "$folder" || exit 1
  program=$folder/bin/tendril_tests bench=$folder/bench
  # cuBLASLt, which is opened at the first product, and NCCL, which is linked, come from the machine: the toolkit's or
  # those that PyTorch brings. Only our programs get the path; PyTorch finds its libraries by itself.
  libraries=/usr/local/cuda/lib64:/usr/local/cuda/targets/x86_64-linux/lib
  for site in $(python3 -c 'import site; print(*site.getsitepackages())' 2>/dev/null); do
    for nvidia in "$site"/nvidia/cu13/lib "$site"/nvidia/cublas/lib "$site"/nvidia/nccl/lib; do
      [ -d "$nvidia" ] && libraries+=:$nvidia
    done
  done
  for library in "$folder"/lib/*; do  # those that the machine lacks
    ldd "$program" | grep -q "$(basename "$library").*not found" && libraries+=:$folder/lib && break
  done
  with_libraries=(env "LD_LIBRARY_PATH=$libraries")
  mkdir "$bench"
  for name in bench_step bench_cuda; do
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s %s/bin/%s "$@"\n' "$libraries" "$folder" "$name" >"$bench/$name"
    chmod +x "$bench/$name"
  done
else
  program=$build/tests/tendril_tests bench=$build/tests/bench
  if wanted configure; then
    # By its number: CMake's "native" would leave out the files for Hopper's own instructions.
    [ -n "$arch" ] || arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | sort -u | tr -d . | paste -sd';')
    step configure 120 cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTENDRIL_CUDA=ON \
      -DCMAKE_CUDA_ARCHITECTURES="$arch" -DTENDRIL_CONSUMER_TESTS=OFF -DTENDRIL_EXAMPLES=OFF \
      -DTENDRIL_DEPS_DIR="${TENDRIL_DEPS_DIR:-}"
  fi
  if wanted build; then
    step build 540 cmake --build "$build" --target tendril_tests bench_step bench_cuda
  fi
fi

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | tee "$logs/gpu.txt"
wanted tests && tests_of "$program"
wanted memcheck && sanitize memcheck "$program" 120
wanted racecheck && sanitize racecheck "$program" 120
if wanted steps; then
  step steps $((rounds * 180 + 300)) python3 tests/bench/compare_cuda.py --build "$bench" --steps-only \
    --rounds "$rounds" --compile "$compile"
fi
if wanted ops; then
  step ops $((rounds * 120)) python3 tests/bench/compare_cuda.py --build "$bench" --ops-only --rounds "$rounds"
fi

for figures in steps ops; do
  [ -s "$logs/$figures.log" ] && { echo; cat "$logs/$figures.log"; }
done
printf '\n%-28s %-22s %6s\n' step result seconds
cat "$table"
echo "$failures of $(wc -l <"$table") steps did not pass"
[ "$failures" -eq 0 ]
