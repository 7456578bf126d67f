// The device text that printed flows include, as it stands in this library.
#include "codegen/cuda/print.h"

namespace vortex::codegen {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

std::string_view flow_library() { return device_source("codegen/cuda/flow.cuh"); }

std::vector<device::Header> flow_headers() {
  std::vector<device::Header> out;
  for (const char* name :
       {"device/cuda/device.cuh", "device/cuda/async.cuh", "device/cuda/matrix.cuh", "device/cuda/stored.cuh"})
    out.push_back(device::device_header(name));
  for (const char* name : {"codegen/cuda/flow_arguments.h", "codegen/cuda/flow.cuh", "codegen/cuda/choose.cuh",
                           "codegen/cuda/budget.cuh", "codegen/cuda/weigh.cuh", "codegen/cuda/inside.cuh"})
    out.push_back({name, std::string(device_source(name))});
  return out;
}

}  // namespace vortex::codegen
