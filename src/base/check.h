// Checks of our own invariants. They stay on in release builds; user input is checked with UserError instead.
#pragma once

#include <vortex/error.h>

#include "base/text.h"

namespace vortex {

[[noreturn]] void fail_check(const char* file, int line, const char* condition, const std::string& came);

}  // namespace vortex

// VORTEX_CHECK(n <= capacity, "n ", n, ", capacity ", capacity) throws InternalError naming the file and the line.
#define VORTEX_CHECK(condition, ...)                                                                         \
  do {                                                                                                       \
    if (!(condition)) [[unlikely]]                                                                           \
      ::vortex::fail_check(__FILE__, __LINE__, #condition, ::vortex::concat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
