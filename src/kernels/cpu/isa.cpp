#include "kernels/cpu/isa.h"

#include <hwy/targets.h>
#include <vortex/error.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/text.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace vortex::kernels {

namespace {

std::vector<Isa> detect() {
  std::vector<Isa> isas = {Isa::portable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2) isas.push_back(Isa::avx2);
  if (avx2 && __builtin_cpu_supports("avxvnni")) isas.push_back(Isa::avx_vnni);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    isas.push_back(Isa::avx512);
#elif defined(__aarch64__)
  isas.push_back(Isa::neon);
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) isas.push_back(Isa::neon_dot);
#endif
  return isas;
}

// Keeps the float kernels, whose dispatch is Highway's, from going beyond the instruction set in use.
void restrict_highway(Isa isa) {
#if defined(__x86_64__)
  constexpr std::int64_t kWide = HWY_AVX3 | HWY_AVX3_DL, kNarrow = HWY_AVX2 | HWY_SSE4 | HWY_SSSE3;
  hwy::DisableTargets(isa == Isa::avx512 ? 0 : isa == Isa::portable ? kWide | kNarrow : kWide);
#else
  static_cast<void>(isa);
#endif
}

constexpr int kUndecided = -1;
std::atomic<int> active{kUndecided};

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::neon:
      return "neon";
    case Isa::neon_dot:
      return "neon_dot";
    case Isa::avx2:
      return "avx2";
    case Isa::avx_vnni:
      return "avx_vnni";
    case Isa::avx512:
      return "avx512";
  }
  return "?";
}

std::span<const Isa> runnable_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

Isa isa_of(std::string_view name) {
  std::vector<std::string> names;
  for (Isa isa : runnable_isas()) {
    if (name == name_of(isa)) return isa;
    names.emplace_back(name_of(isa));
  }
  throw UserError("VORTEX_ISA", concat("an instruction set this processor runs: ", join(names, ", ")),
                  concat("got '", name, "'"), "change or unset the environment variable");
}

Isa active_isa() {
  int now = active.load(std::memory_order_relaxed);
  if (now == kUndecided) {
    const std::string asked = env("VORTEX_ISA");
    now = static_cast<int>(asked == "auto" ? runnable_isas().back() : isa_of(asked));
    if (asked != "auto") restrict_highway(static_cast<Isa>(now));
    active.store(now, std::memory_order_relaxed);
  }
  return static_cast<Isa>(now);
}

void use_isa(Isa isa) {
  active.store(static_cast<int>(isa_of(name_of(isa))), std::memory_order_relaxed);
  restrict_highway(isa);
}

}  // namespace vortex::kernels
