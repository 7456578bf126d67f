#include "attention/device_numbers.h"

#include <utility>

namespace vortex::attention {

DeviceNumbers::DeviceNumbers(std::shared_ptr<device::Device> device, std::span<const float> numbers)
    : device_(std::move(device)), array_(device_, static_cast<std::int64_t>(numbers.size())) {
  const auto stream = device_->make_stream();
  array_.upload(*stream, numbers.data());
  stream->synchronize();
}

DeviceNumbers::DeviceNumbers(const DeviceNumbers& other) : device_(other.device_) {
  if (!other) return;
  array_ = {device_, other.array_.count()};
  const auto stream = device_->make_stream();
  stream->copy(array_.data(), other.array_.data(), array_.bytes(), device::Direction::on_device);
  stream->synchronize();
}

DeviceNumbers& DeviceNumbers::operator=(DeviceNumbers other) noexcept {
  std::swap(device_, other.device_);
  std::swap(array_, other.array_);
  return *this;
}

std::vector<float> DeviceNumbers::download() const { return array_.download(*device_->make_stream()); }

}  // namespace vortex::attention
