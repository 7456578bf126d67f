#!/bin/bash
# ./dev gpu build|test: build, run and check the CUDA part in one call on a machine with a GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
source tools/setup.sh
case ${1:-} in
  build) setup_packages; build_preset cuda ;;
  test) setup_packages; build_preset cuda; shift; (cd build-cuda && ctest --output-on-failure --no-tests=error -L gpu "$@") ;;
  *) refuse "./dev gpu build or ./dev gpu test; got '${1:-nothing}'" ;;
esac
