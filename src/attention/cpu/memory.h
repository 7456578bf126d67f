// Scratch memory on cache-line boundaries that only grows; growing forgets what was there.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>

#include "base/check.h"

namespace vortex::attention {

template <class T>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // At least `count` elements.
  T* reserve(std::int64_t count) {
    if (count > capacity_) {
      std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
      memory_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
      if (!memory_)
        throw MachineError("attention workspace", concat(bytes, " bytes"), "the system gave none",
                           "use smaller batches or chunks");
      capacity_ = count;
    }
    return memory_.get();
  }
  T* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T, Free> memory_;
  std::int64_t capacity_ = 0;
};

}  // namespace vortex::attention
