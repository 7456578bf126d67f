// The run-time compiler of CUDA C++ text. Needs no GPU. MachineError when the library is missing.
#pragma once

#include <string>
#include <vector>

#include "device/device.h"

namespace vortex::device {

struct Compiled {
  std::string binary;  // cubin for a named architecture
  std::string log;     // warnings, and ptxas's registers, stack and spills for each kernel
};

// "13.0 (libnvrtc.so.13)". Part of the key of everything compiled.
const std::string& nvrtc_version();

// The files that are tried in their order: VORTEX_NVRTC alone when it is set; else what the loader finds, NVIDIA's
// Python packages beside an installed vortex_attention, and toolkits (CUDA_HOME, the one of the build,
// /usr/local/cuda).
std::vector<std::string> nvrtc_files();

// The architecture to compile for on a device of that compute capability: "sm_90a" for 9.0, "sm_80" for 8.0.
// MachineError when this NVRTC does not know it.
std::string nvrtc_architecture(int major, int minor);

// Flags used for every compile, architecture apart.
const std::vector<std::string>& nvrtc_flags();

// InternalError with the compiler's log when the text does not compile: all text is ours.
Compiled compile_text(const Source&, const std::string& architecture);

}  // namespace vortex::device
