#!/bin/bash
# ./dev gpu build|test [GPU_TEST_FILTER]|sanitize [TOOL...]: build, run and check the CUDA part in one call on a machine
# with a GPU. `build` needs the CUDA headers and no GPU. `test` refuses to pass over anything: without a GPU it fails and
# says why. `sanitize` runs the short tests under compute-sanitizer: memcheck, racecheck, initcheck, or those named. Needs no
# network where g++, CMake, ninja, libhwy-dev, nlohmann-json3-dev and libgtest-dev are there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
source tools/setup.sh

build() {
  local missing
  missing=$(missing_packages | grep -vE '^(python|ca-certificates)' || true)  # neither Python nor the network is used
  # shellcheck disable=SC2086  # one word per package
  [[ -z $missing ]] || install_packages $missing
  NINJA_TARGETS="test_device test_attention test_gpu text_runner" build_preset cuda
  grep -q '^-- CUDA device: on' build-cuda/configure.log || fail "$(grep '^-- CUDA device' build-cuda/configure.log)"
}

# run_tests LOG COMMAND...: shows what was measured and what failed; a skipped test is a failure here.
run_tests() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 || { grep -vE '^\[ +(OK|RUN) ' "$log" | tail -60 >&2; fail "$* failed; all its lines are in $log"; }
  grep '^MEASURED' "$log" || true
  if grep -q '^\[  SKIPPED' "$log"; then
    grep -B1 '^\[  SKIPPED' "$log" | head -4 >&2
    fail "$1 passed tests over; ./dev gpu test needs all of them"
  fi
}

# A checker of the CUDA toolkit on the short tests; its folder is often not on the path. Reports of kernels that
# tests/gpu/known_reports.txt names for that tool are counted, all others are a failure.
sanitize() {
  local tool=$1 checker log=build-cuda/$1.log count kernel new='' known=''
  checker=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
  [[ -n $checker ]] || { say "$tool left out: no compute-sanitizer on this machine"; return; }
  "$checker" --tool "$tool" build-cuda/tests/gpu/test_gpu --gtest_filter='*Short*' >"$log" 2>&1 || true
  grep -q '^\[  PASSED' "$log" && ! grep -qE '^\[  (FAILED|SKIPPED)' "$log" ||
    { tail -20 "$log" >&2; fail "the short tests did not pass under $tool; all its lines are in $log"; }
  while read -r count kernel; do
    [[ -n $kernel ]] || continue
    if grep -q "^$tool $kernel:" tests/gpu/known_reports.txt; then known+=" $kernel ($count)"; else new+=" $kernel ($count)"; fi
  done < <(sed -nE 's/^=+ .*\bat (void )?([A-Za-z_][A-Za-z_0-9]*)[(+].*/\2/p' "$log" | sort | uniq -c)
  [[ -z $new ]] || fail "compute-sanitizer --tool $tool reports kernels:$new; all its lines are in $log"
  say "$tool: no report${known:+ but those that are known, of$known}"
}

case ${1:-} in
  build) build; say "built: build-cuda" ;;
  test)
    build
    export VORTEX_CACHE=$root/build-cuda/cache  # empty: everything is compiled once, then found
    rm -rf "$VORTEX_CACHE"
    say "the printed kernels, and all device text compiled for sm_80 and sm_90a"
    run_tests build-cuda/text.log build-cuda/tests/text_runner tests/text/cuda
    run_tests build-cuda/device.log build-cuda/tests/test_device
    run_tests build-cuda/compile.log build-cuda/tests/test_attention --gtest_filter='*Compile*'
    say "every op, and a tiny Llama decoding in a captured graph"
    run_tests build-cuda/gpu.log build-cuda/tests/gpu/test_gpu --gtest_filter="${2:-*}"
    sanitize memcheck
    sanitize racecheck
    commit="an unknown commit"
    if git rev-parse -q --verify HEAD >/dev/null 2>&1; then
      commit=$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ', changed')
    fi
    say "passed on $commit, $(date -u +%Y-%m-%d)"
    ;;
  sanitize)
    build
    shift
    [[ $# -gt 0 ]] || set -- memcheck racecheck initcheck
    for tool in "$@"; do sanitize "$tool"; done
    ;;
  *) refuse "./dev gpu build, test or sanitize; got '${1:-nothing}'" ;;
esac
