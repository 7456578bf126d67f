// Named ranges of the host's work for a profiler (NVTX). Costs nothing when none is attached.
#pragma once

namespace vortex::device {

class CudaRange {
 public:
  explicit CudaRange(const char* name);
  ~CudaRange();
  CudaRange(const CudaRange&) = delete;
  CudaRange& operator=(const CudaRange&) = delete;
};

}  // namespace vortex::device
