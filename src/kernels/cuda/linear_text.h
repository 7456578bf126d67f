// Text that the kernels of linears share.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "device/device.h"

namespace vortex::kernels {

// The function multiply_tile: wgmma of 64 × 16 weights with so many rows of activations.
std::string print_instruction(int rows);

// Headers of the device room that all of them include, and those of this room's `own` paths.
std::vector<device::Header> linear_headers(std::initializer_list<const char*> own);

}  // namespace vortex::kernels
