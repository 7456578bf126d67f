// Which instruction set the hand-written kernels use: the best that this processor runs, or the one VORTEX_ISA names.
// An instruction set that the processor lacks is refused, never tried. The kernels written with Highway choose by
// themselves, but not beyond the one in use.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace vortex::kernels {

// In ascending order of preference. avx2: with FMA and F16C. avx_vnni: avx2 and 256-bit vpdpbusd. avx512: F, BW, DQ, VL
// and VNNI. neon_dot: NEON and the dot product of ARMv8.2.
enum class Isa : std::uint8_t { portable, neon, neon_dot, avx2, avx_vnni, avx512 };
const char* name_of(Isa);

// What this processor and this build can run, ascending; portable is always there.
std::span<const Isa> runnable_isas();

// The one in use. The first call reads VORTEX_ISA; UserError lists the runnable ones when the name is not among them.
Isa active_isa();
// Puts another in use from the next kernel call on; for tests and benchmarks. UserError as above.
void use_isa(Isa);
Isa isa_of(std::string_view name);

}  // namespace vortex::kernels
