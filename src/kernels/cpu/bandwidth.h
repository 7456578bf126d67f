// How fast this machine reads memory: the speed of light that stands beside every decode figure.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace vortex::kernels {

struct ReadBandwidth {
  double bytes_per_second = 0;  // from the best time of every slice
  double median = 0;            // from the median times: far below when other programs use the machine
  int threads = 0, passes = 0;
  std::int64_t bytes = 0;  // of the buffer
};

// Reads a buffer of `bytes` from end to end `passes` times, slice by slice (16 MiB), and checks the sums. A slice is
// long against a parallel loop and short against the turns that other programs take, so its best time is the memory's.
// The buffer should exceed the last-level cache several times (1 GiB by default); it is freed before returning.
// UserError for fewer than 64 MiB or no passes.
ReadBandwidth measured_read_bandwidth(ThreadPool&, std::int64_t bytes = std::int64_t{1} << 30, int passes = 8);

}  // namespace vortex::kernels
