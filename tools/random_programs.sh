#!/bin/bash
# tools/random_programs.sh FOLDER COUNT [PROCESSES]: the long run of random programs with the test programs in FOLDER, spread over
# the cores. Texts, canonical forms and hashes (test_ir), CPU = interpreter (test_codegen). Ends with 1 when a program fails, and
# shows it.
set -euo pipefail
folder=$1 count=$2 processes=${3:-$(nproc)}
case $count in
  '' | *[!0-9]* | 0) echo "error: [random programs] a whole number of programs; \"$count\"; for example 200000" >&2; exit 2 ;;
esac
case $processes in
  '' | *[!0-9]* | 0) echo "error: [random programs] a whole number of processes; \"$processes\"; for example 4" >&2; exit 2 ;;
esac
logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT
export VORTEX_RANDOM_PROGRAMS=$count

shard() {
  export GTEST_TOTAL_SHARDS=$processes GTEST_SHARD_INDEX=$1
  "$folder/test_codegen" --gtest_filter='Long/RandomFlows*' --gtest_brief=1 &&
    "$folder/test_ir" --gtest_filter='Long/RandomPrograms*' --gtest_brief=1
}

pids=()
for ((index = 0; index < processes; ++index)); do
  shard "$index" >"$logs/$index" 2>&1 &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
# One process, so that no two meanings of them all share a hash.
"$folder/test_ir" --gtest_filter='Long/RandomHashes*' --gtest_brief=1 >"$logs/hashes" 2>&1 || failed=1
((failed == 0)) || grep -hv '^[0-9]* compared' "$logs"/* | head -200
cat "$logs"/* | awk -v count="$count" '/ compared, / { c += $1; o += $3; x += $6 }
  END { printf "CPU beside the interpreter: %d programs equal, %d overflow float32, %d are chaotic\n", c, o, x
        exit c + o + x != count }' || { ((failed)) || echo "not every program of $count was run" >&2; failed=1; }
grep -h " hashes of $count" "$logs/hashes" || { ((failed)) || echo "the hashes were not compared" >&2; failed=1; }
((failed == 0)) && echo "nothing failed" || { echo "something failed" >&2; exit 1; }
