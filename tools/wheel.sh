# Wheels for this machine's processor, into dist/: one for CPython 3.11, one by the stable ABI for 3.12 and later. Each interpreter
# builds in an environment of its own below build-wheel/, so a second build only does what changed. Refuses to pass over the CUDA
# device quietly: a wheel without it must be asked for. Sourced after tools/setup.sh.

# Every CPython from 3.11 on that has headers: those given, else the newest 3.11 and the oldest later one that this machine has.
wheel_pythons() {
  local candidate version eleven='' later='' later_version=''
  for candidate in python3 python3.{11..15} /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    candidate=$(command -v "$candidate" 2>/dev/null) || continue
    python_fits "$candidate" || continue
    # A free-threaded interpreter would ask for wheels of its own.
    version=$("$candidate" -c 'import sys, sysconfig; print("" if sysconfig.get_config_var("Py_GIL_DISABLED") else sys.version_info[1])')
    if [[ $version == 11 ]]; then
      eleven=${eleven:-$candidate}
    elif [[ -n $version && ( -z $later || $version -lt $later_version ) ]]; then
      later=$candidate later_version=$version
    fi
  done
  [[ -z $eleven ]] || echo "$eleven"
  [[ -z $later ]] || echo "$later"
}

build_wheels() {  # build_wheels [--without-cuda] [PYTHON...]
  local cuda=ON pythons=() python
  if [[ ${1:-} == --without-cuda ]]; then cuda=OFF; shift; fi
  for python in "$@"; do
    python_fits "$python" || refuse "a Python 3.11 or newer with venv and headers; got '$python'"
    pythons+=("$python")
  done
  if [[ ${#pythons[@]} -eq 0 ]]; then
    mapfile -t pythons < <(wheel_pythons)
    [[ ${#pythons[@]} -gt 0 ]] || fail "Python 3.11 or newer with venv and headers is required; none was found"
    [[ ${#pythons[@]} -gt 1 ]] || say "only $("${pythons[0]}" --version) was found here: one wheel instead of two (3.11, and 3.12 or later)"
  fi
  mkdir -p build-wheel dist
  for python in "${pythons[@]}"; do build_wheel "$python" "$cuda"; done
}

build_wheel() {  # build_wheel PYTHON ON|OFF
  local python=$1 cuda=$2 version environment stamp log
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  environment=build-wheel/env-$version
  log=build-wheel/log-$version
  stamp="$(hash_of requirements-wheel.txt) $root $("$python" -c 'import sys; print(sys.executable, sys.version)')"
  if [[ ! -e $environment/.stamp || $(<"$environment/.stamp") != "$stamp" ]]; then
    say "an environment for building with Python $version"
    rm -rf "$environment"
    "$python" -m venv "$environment"
    pip_install_into "$environment" -r requirements-wheel.txt
    echo "$stamp" >"$environment/.stamp"
  fi
  say "building a wheel with Python $version"
  rm -rf "build-wheel/made-$version"
  CMAKE_BUILD_PARALLEL_LEVEL=$(jobs_for_build) "$environment/bin/python" -m pip wheel -v --disable-pip-version-check --no-deps \
    --no-build-isolation --wheel-dir "build-wheel/made-$version" --config-settings "cmake.define.VORTEX_CUDA=$cuda" . >"$log" 2>&1 ||
    { tail -30 "$log" >&2; fail "the wheel could not be built; all lines are in $log"; }
  if [[ $cuda == ON ]] && ! grep -q 'CUDA device: on' "$log"; then
    fail "$(sed -n 's/.*-- \(CUDA device.*\)/\1/p' "$log"); or leave it out: ./dev wheel --without-cuda"
  fi
  PATH="$root/$environment/bin:$PATH" "$environment/bin/python" -m auditwheel repair --wheel-dir dist "build-wheel/made-$version"/*.whl >>"$log" 2>&1 ||
    { tail -30 "$log" >&2; fail "auditwheel could not make the wheel portable; all lines are in $log"; }
  say "made $(sed -n 's/^Fixed-up wheel written to .*\/\(dist\/.*\)/\1/p' "$log") ($(sed -n 's/.*-- \(CUDA device: o[nf]*\).*/\1/p' "$log" | head -1))"
}
