// The GPU of this machine, opened once.
#pragma once

#include <vortex/error.h>

#include <memory>
#include <string>

#include "device/device.h"

namespace vortex::gpu_tests {

// Null when there is none; `missing` then says why.
inline std::shared_ptr<device::Device> open_gpu(std::string& missing) {
  static std::string reason;
  static const std::shared_ptr<device::Device> opened = []() -> std::shared_ptr<device::Device> {
    try {
      return device::open(device::Kind::cuda);
    } catch (const MachineError& error) {
      reason = error.what();
      return nullptr;
    }
  }();
  missing = reason;
  return opened;
}

}  // namespace vortex::gpu_tests
