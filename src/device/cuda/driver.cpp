// Finds the functions of libcuda.
#include "device/cuda/driver.h"

#include <vortex/error.h>

#include "base/text.h"
#include "device/cuda/library.h"

namespace vortex::device {
namespace {

constexpr const char* kWithoutGpu = "run on a machine with an NVIDIA driver, or use the cpu device";

Driver load_driver() {
  std::string tried;
  void* library = load_library({"libcuda.so.1"}, tried);
  if (library == nullptr) {
    throw MachineError("device cuda", "the NVIDIA driver (libcuda.so.1) was required", tried, kWithoutGpu);
  }
  Driver out;
  const auto find = [&](const char* symbol) {
    void* function = find_symbol(library, symbol);
    if (function == nullptr) {
      throw MachineError("device cuda", concat("the driver function ", symbol, " was required"), "this driver lacks it",
                         "install a newer NVIDIA driver");
    }
    return function;
  };
// Two levels, so that the version suffix that cuda.h puts on a name is part of the symbol.
#define VORTEX_TEXT(name) #name
#define VORTEX_FIND(member, function) out.member = reinterpret_cast<decltype(out.member)>(find(VORTEX_TEXT(function)));
  VORTEX_DRIVER_FUNCTIONS(VORTEX_FIND)
#undef VORTEX_FIND
#undef VORTEX_TEXT
  out.event_elapsed = reinterpret_cast<decltype(out.event_elapsed)>(find("cuEventElapsedTime"));
  if (const CUresult result = out.init(0); result != CUDA_SUCCESS) {
    const char* name = nullptr;
    out.error_name(result, &name);
    throw MachineError("device cuda", "a working NVIDIA driver was required",
                       concat("cuInit answered ", name != nullptr ? name : "an unknown error"), kWithoutGpu);
  }
  return out;
}

}  // namespace

const Driver& driver() {
  static const Driver loaded = load_driver();
  return loaded;
}

void check_driver(CUresult result, const char* required) {
  if (result == CUDA_SUCCESS) [[likely]]
    return;
  const char* name = nullptr;
  const char* text = nullptr;
  driver().error_name(result, &name);
  driver().error_text(result, &text);
  throw MachineError("device cuda", concat(required, " was required"),
                     concat(name != nullptr ? name : "unknown error", ": ", text != nullptr ? text : "no text"),
                     "after an error in a kernel the device must be opened anew; compute-sanitizer finds bad accesses");
}

}  // namespace vortex::device
