// Log lines on stderr and the debug ladder: VORTEX_DEBUG=1 names and times, 2 IR after passes, 3 generated source.
// Results never go through here, so that stdout stays clean for them.
#pragma once

#include <functional>
#include <string_view>

#include "base/text.h"

namespace vortex {

int debug_level();                // VORTEX_DEBUG unless set_debug_level was called
void set_debug_level(int level);  // 0 to 3
void write_log(std::string_view line);
// Where lines go from now on; an empty function means stderr again.
void set_log_sink(std::function<void(std::string_view)> sink);

// debug(1, "pass ", name, " took ", microseconds, " us"); the parts are not even joined below that level.
template <class... Parts>
void debug(int level, const Parts&... parts) {
  if (debug_level() >= level) write_log(concat(parts...));
}

template <class... Parts>
void warn(const Parts&... parts) {
  write_log(concat("warning: ", parts...));
}

}  // namespace vortex
