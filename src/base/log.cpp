#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>

#include "base/check.h"
#include "base/env.h"

namespace vortex {

namespace {

constexpr int kUnset = -1;
std::atomic<int> level_now{kUnset};

std::mutex& sink_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::function<void(std::string_view)>& sink() {
  static std::function<void(std::string_view)> function;
  return function;
}

}  // namespace

int debug_level() {
  int level = level_now.load(std::memory_order_relaxed);
  if (level != kUnset) return level;
  level = static_cast<int>(env_number("VORTEX_DEBUG", 0, 3));
  level_now.store(level, std::memory_order_relaxed);
  return level;
}

void set_debug_level(int level) {
  VORTEX_CHECK(level >= 0 && level <= 3, "debug level ", level);
  level_now.store(level, std::memory_order_relaxed);
}

void write_log(std::string_view line) {
  std::lock_guard lock(sink_mutex());
  if (sink()) return sink()(line);
  std::fprintf(stderr, "vortex: %.*s\n", static_cast<int>(line.size()), line.data());
}

void set_log_sink(std::function<void(std::string_view)> function) {
  std::lock_guard lock(sink_mutex());
  sink() = std::move(function);
}

}  // namespace vortex
