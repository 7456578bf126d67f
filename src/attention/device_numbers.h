// Floats in the memory of a device that are copied when their owner is.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/device.h"

namespace vortex::attention {

class DeviceNumbers {
 public:
  DeviceNumbers() = default;
  // MachineError when there is not enough memory.
  DeviceNumbers(std::shared_ptr<device::Device>, std::span<const float>);
  DeviceNumbers(const DeviceNumbers&);
  DeviceNumbers(DeviceNumbers&&) noexcept = default;
  DeviceNumbers& operator=(DeviceNumbers) noexcept;
  ~DeviceNumbers() = default;

  explicit operator bool() const { return array_.data() != nullptr; }
  float* data() const { return array_.data(); }
  std::int64_t bytes() const { return array_.bytes(); }
  std::vector<float> download() const;

 private:
  std::shared_ptr<device::Device> device_;
  device::Array<float> array_;
};

}  // namespace vortex::attention
