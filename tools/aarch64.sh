# The libraries for the aarch64 cross build: Debian's arm64 packages, unpacked into build-aarch64/sysroot and installed
# nowhere. apt works on lists of its own there, so this needs no root. Sourced after tools/setup.sh.

AARCH64_PACKAGES=(libhwy1 libhwy-dev libgtest-dev nlohmann-json3-dev)

setup_aarch64() {
  local folder=build-aarch64 stamp=${AARCH64_PACKAGES[*]} missing=() options
  command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
  command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
  [[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}"
  [[ -e $folder/sysroot/.stamp && $(<"$folder/sysroot/.stamp") == "$stamp" ]] && return
  say "fetching the arm64 packages ${AARCH64_PACKAGES[*]}"
  rm -rf "$folder/sysroot" "$folder/apt"
  mkdir -p "$folder/sysroot" "$folder/apt"/{state/lists/partial,cache/archives/partial,files}
  options=(-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$root/$folder/apt/state" -o Dir::State::status=/dev/null
    -o Dir::Cache="$root/$folder/apt/cache" -o Dir::Log="$root/$folder/apt" -o APT::Sandbox::User= -o Acquire::Languages=none)
  apt-get "${options[@]}" update >"$folder/apt/log" 2>&1 || { tail "$folder/apt/log" >&2; fail "the list of arm64 packages could not be fetched"; }
  (cd "$folder/apt/files" && apt-get "${options[@]}" download "${AARCH64_PACKAGES[@]}" >>../log 2>&1) ||
    { tail "$folder/apt/log" >&2; fail "the arm64 packages could not be fetched"; }
  local package
  for package in "$folder"/apt/files/*.deb; do dpkg -x "$package" "$folder/sysroot"; done
  rm -rf "$folder/apt"
  echo "$stamp" >"$folder/sysroot/.stamp"
}
