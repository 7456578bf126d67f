// How much memory this process may still take. Reads what the system says of itself; asks for nothing.
#pragma once

#include <cstdint>
#include <string>

namespace vortex {

// What the system has free, bounded by the limits of the control groups (containers) that the process is in; files that
// the system keeps in memory count as free, it drops them when asked. root: of /proc and /sys, for tests.
std::int64_t available_memory(const std::string& root = "");

}  // namespace vortex
