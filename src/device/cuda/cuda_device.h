// An NVIDIA GPU behind the device interface, over the driver's own interface. One context a device (the primary one).
#pragma once

#include "device/device.h"

namespace vortex::device {

std::shared_ptr<Device> open_cuda(int index);

// Compiles into the cache, unless it is there.
void build_cuda(const Source&, const std::string& architecture);

// Everything a compiled module depends on: compiler version, flags, architecture, kernels, headers and text.
std::string identity_of(const Source&, const std::string& architecture);

}  // namespace vortex::device
