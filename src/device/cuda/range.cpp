#include "device/cuda/range.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>  // headers alone: a profiler brings what they look for

namespace vortex::device {
CudaRange::CudaRange(const char* name) { nvtxRangePushA(name); }
CudaRange::~CudaRange() { nvtxRangePop(); }
}  // namespace vortex::device
#else
namespace vortex::device {
CudaRange::CudaRange(const char*) {}
CudaRange::~CudaRange() = default;
}  // namespace vortex::device
#endif
