# The set-up behind ./dev, in three steps that each do nothing when nothing is to be done: Debian packages, Python packages
# in .venv, the C++ build. Sourced with `root` set and as the working folder. Needs no network once set up.

say() { printf '[dev] %s\n' "$*"; }
fail() { printf '[dev] error: %s\n' "$*" >&2; exit 1; }
refuse() { printf '[dev] required: %s\n' "$*" >&2; exit 2; }

trap 'printf "\n[dev] interrupted; nothing is broken, the same command goes on from here\n" >&2; exit 130' INT

# One set-up of this checkout at a time; the others wait, then find the work done.
lock_setup() {
  mkdir -p .cache
  exec 9>.cache/setup.lock
  flock -n 9 && return
  say "another ./dev is setting up this checkout; waiting for it"
  flock 9
}
unlock_setup() { exec 9>&-; }

hash_of() { sha256sum "$@" | sha256sum | cut -c1-16; }

jobs_for_tests() { nproc; }

# A compiler takes up to a gigabyte: no more jobs than cores, nor than free gigabytes.
jobs_for_build() {
  local cores gigabytes
  cores=$(nproc)
  gigabytes=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
  if [[ $gigabytes -lt 1 ]]; then echo 1; elif [[ $gigabytes -lt $cores ]]; then echo "$gigabytes"; else echo "$cores"; fi
}

# --- Debian packages -------------------------------------------------------------------------------------------------

python_fits() {  # Python 3.11 or newer that can make environments and build extensions
  "$1" -c 'import sys, os, sysconfig, venv, ensurepip
sys.exit(not (sys.version_info >= (3, 11) and os.path.exists(sysconfig.get_path("include") + "/Python.h")))' 2>/dev/null
}
find_python() {
  local candidate
  for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && python_fits "$candidate"; then command -v "$candidate"; return; fi
  done
  return 1
}

# A Debian package is needed when what it brings is not there, whoever brought it.
missing_packages() {
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  command -v g++ >/dev/null || echo g++
  [[ -e /usr/include/hwy/highway.h ]] || echo libhwy-dev
  [[ -e /usr/include/nlohmann/json.hpp ]] || echo nlohmann-json3-dev
  [[ -e /usr/include/gtest/gtest.h ]] || echo libgtest-dev
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
  [[ -e .venv/.stamp ]] || find_python >/dev/null || printf '%s\n' python3 python3-dev python3-venv
}

install_packages() {  # install_packages PACKAGE...: as root with apt, else one clear list
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    {
      echo "[dev] these Debian packages are missing: $*"
      echo "[dev] install them, then run ./dev again:"
      echo "    sudo apt-get update && sudo apt-get install --no-install-recommends $*"
    } >&2
    exit 1
  fi
  say "installing Debian packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  dpkg --configure -a >/dev/null  # finishes what an interrupted installation left
  local options=(-y -q -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
  apt-get "${options[@]}" update 2>&1 | apt_lines ||
    fail "the list of Debian packages could not be fetched; check the network and /etc/apt/sources.list, then run ./dev again"
  apt-get "${options[@]}" install --no-install-recommends "$@" </dev/null 2>&1 | apt_lines ||
    fail "apt-get could not install $*; its lines above say why"
}

apt_lines() { sed -u -n -e 's/^\(Setting up [^ ]*\).*/[apt] \1/p' -e 's/^\([EW]: .*\)/[apt] \1/p' -e 's/^\(Need to get .*\)/[apt] \1/p'; }

setup_packages() {
  local missing
  missing=$(missing_packages)
  # shellcheck disable=SC2086  # one word per package
  [[ -z $missing ]] || install_packages $missing
}

# --- Python packages -------------------------------------------------------------------------------------------------

pip_install() { pip_install_into .venv "$@"; }

pip_install_into() {  # pip_install_into ENVIRONMENT ARGUMENTS...
  local environment=$1
  shift
  "$environment/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary :all: --progress-bar off "$@" |
    sed -u -n -e 's/^Collecting \([^ ]*\).*/[pip] \1/p' -e 's/^Installing collected packages:.*/[pip] unpacking/p' ||
    fail "the Python packages could not be installed; pip's lines above say why (no network? full disk?), then run ./dev again"
}

# The stamp names the pins, the interpreter and the folder; without a fitting one the environment is made anew, since an
# interrupted pip leaves packages half unpacked.
setup_python() {
  local python stamp
  stamp="$(hash_of requirements.txt) $root"
  [[ -e .venv/.stamp && $(<.venv/.stamp) == "$stamp" && -x .venv/bin/python ]] && .venv/bin/python -c '' 2>/dev/null && return
  python=$(find_python) || fail "Python 3.11 or newer with venv and headers is required; none was found on the path"
  say "installing the pinned Python packages into .venv ($("$python" --version))"
  rm -rf .venv
  "$python" -m venv .venv
  pip_install -r requirements.txt
  # The package runs from the checkout: `vortex` and `import vortex_attention` work in the activated environment.
  echo "$root/python" >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vortex_attention.pth"
  printf '#!/bin/sh\nexec "%s/.venv/bin/python" -m vortex_attention "$@"\n' "$root" >.venv/bin/vortex
  chmod +x .venv/bin/vortex
  echo "$stamp" >.venv/.stamp.new
  mv .venv/.stamp.new .venv/.stamp
}

# More packages in .venv, which only some commands need; setup_python drops the stamps with the environment.
setup_more() {  # setup_more NAME WHAT: the pins of requirements-NAME.txt
  local stamp
  stamp=$(hash_of "requirements-$1.txt")
  [[ -e .venv/.stamp-$1 && $(<".venv/.stamp-$1") == "$stamp" ]] && return
  say "installing $2 into .venv"
  pip_install -r "requirements-$1.txt"
  echo "$stamp" >".venv/.stamp-$1"
}

setup_format() {
  setup_packages
  lock_setup
  setup_python
  setup_more format "the formatters"
  unlock_setup
}

# --- The C++ build ---------------------------------------------------------------------------------------------------

preset_folder() { if [[ $1 == release ]]; then echo build; else echo "build-$1"; fi; }

build_preset() {  # all targets, or those named in NINJA_TARGETS
  local preset=$1 folder stamp
  folder=$(preset_folder "$preset")
  stamp="$(hash_of CMakePresets.json) $root $(cat .venv/.stamp 2>/dev/null || true)"
  if [[ ! -e $folder/.configured || $(<"$folder/.configured") != "$stamp" ]]; then
    say "configuring the $preset build in $folder"
    mkdir -p "$folder"
    cmake --fresh --preset "$preset" >"$folder/configure.log" 2>&1 || { tail -30 "$folder/configure.log" >&2; fail "cmake could not configure $folder; all its lines are in $folder/configure.log"; }
    echo "$stamp" >"$folder/.configured"
  fi
  NINJA_STATUS='[%f/%t, %e s] ' ninja -C "$folder" -j "$(jobs_for_build)" ${NINJA_TARGETS:-} | build_lines "$folder"
}

build_lines() {  # what ninja says, with a heading, and nothing when it had nothing to do
  local line heading=
  while IFS= read -r line; do
    case $line in
      "ninja: Entering"* | "ninja: no work"* | *"Re-checking globbed"*) continue ;;
    esac
    [[ -n $heading ]] || { heading=done; say "building $1 with $(jobs_for_build) jobs"; }
    printf '%s\n' "$line"
  done
}

setup() {  # setup [tests]: without, what a user runs; on stderr, so that stdout is the asked command's alone
  {
    setup_packages
    lock_setup
    setup_python
    if [[ ${1:-} == tests ]]; then
      setup_more test "what the tests need"
      build_preset release
    else
      NINJA_TARGETS=_core build_preset release
    fi
    unlock_setup
  } >&2
}
