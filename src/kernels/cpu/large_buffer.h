// Uninitialised bytes aligned to cache lines; from 1 MiB on, to huge pages, which it asks the system for. Fixed size.
#pragma once

#include <cstdint>
#include <memory>

namespace vortex::kernels {

class LargeBuffer {
 public:
  LargeBuffer() = default;
  // MachineError when there is no memory.
  explicit LargeBuffer(std::int64_t bytes);

  std::uint8_t* data() const { return data_.get(); }
  std::int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::uint8_t*) const;
  };
  std::unique_ptr<std::uint8_t[], Free> data_;
  std::int64_t size_ = 0;
};

}  // namespace vortex::kernels
