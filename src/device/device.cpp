// Opens devices by kind.
#include "device/device.h"

#include <vortex/error.h>

#include <cstdlib>

#include "base/text.h"
#include "device/cpu/cpu_device.h"
#include "device/null/null_device.h"
#if VORTEX_CUDA
#include "device/cuda/cuda_device.h"
#endif

namespace vortex::device {

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::cpu:
      return "cpu";
    case Kind::cuda:
      return "cuda";
    case Kind::null:
      return "null";
  }
  return "?";
}

Kind kind_of(std::string_view name) {
  for (const Kind kind : {Kind::cpu, Kind::cuda, Kind::null})
    if (name == name_of(kind)) return kind;
  throw UserError("device", "cpu or cuda (or null, which plans and runs nothing)", concat("got \"", name, "\""),
                  "use one of these names");
}

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::to_device:
      return "to_device";
    case Direction::to_host:
      return "to_host";
    case Direction::on_device:
      return "on_device";
  }
  return "?";
}

void* Device::allocate_pinned(std::int64_t bytes) {
  void* memory = std::calloc(static_cast<std::size_t>(bytes < 1 ? 1 : bytes), 1);
  if (memory == nullptr)
    throw MachineError("device", concat(bytes, " bytes of host memory were required"), "the system has not enough",
                       "use a smaller batch");
  return memory;
}
void Device::free_pinned(void* memory) noexcept { std::free(memory); }

#if VORTEX_CUDA
std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake
Header device_header() { return device_header("device/cuda/device.cuh"); }
Header device_header(std::string_view name) {
  const std::string_view text = device_source(name);
  VORTEX_CHECK(!text.empty(), "device text ", name);
  return {std::string(name), std::string(text)};
}
#else
Header device_header() { return {}; }
Header device_header(std::string_view name) { return {std::string(name), {}}; }
#endif

std::shared_ptr<Device> open(Kind kind, int index) {
  if (kind == Kind::cpu) return open_cpu();
  if (kind == Kind::null) return std::make_shared<NullDevice>();
#if VORTEX_CUDA
  return open_cuda(index);
#else
  static_cast<void>(index);
  throw MachineError("device cuda", "a build with the CUDA device was required", "this build found no CUDA headers",
                     "install a CUDA toolkit, set CUDA_HOME to it and build again, or use the cpu device");
#endif
}

std::shared_ptr<Device> builder_for(const std::shared_ptr<Device>& device) {
#if VORTEX_CUDA
  if (device->kind() == Kind::cuda)
    return std::make_shared<NullDevice>(device->architecture(), device->multiprocessors(), build_cuda);
#endif
  return device->kind() == Kind::null ? std::make_shared<NullDevice>() : device;
}

}  // namespace vortex::device
