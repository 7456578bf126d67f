// Plain memory behind the device interface. Runs copies, fills and graphs of them at once; refuses CUDA text.
#pragma once

#include "device/device.h"

namespace vortex::device {

std::shared_ptr<Device> open_cpu();

}  // namespace vortex::device
