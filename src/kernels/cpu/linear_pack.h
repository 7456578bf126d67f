// Repacks matrices from their file layout into the panels of linear_kernel.h, once, at load.
#pragma once

#include <span>

#include "kernels/cpu/linear.h"

namespace vortex::kernels::detail {

std::int64_t panel_bytes(WeightFormat, std::int64_t columns);

// Writes panel `index` of the stacked matrices; rows past the last one are zeros.
void pack_panel(std::span<const WeightView>, std::int64_t index, std::uint8_t* panel);

}  // namespace vortex::kernels::detail
