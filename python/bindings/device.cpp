// The devices that steps can run on, as Python sees them: what one is, or the words for why there is none.
#include "device/device.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bindings.h"

namespace nb = nanobind;

namespace vortex::python {

void bind_device(nb::module_& m) {
  m.def(
      "describe_device",
      [](const std::string& name, int index) { return device::open(device::kind_of(name), index)->describe(); },
      nb::arg("name"), nb::arg("index") = 0,
      "Opens a device and says what it is; a MachineError says what is missing. CUDA's libraries are loaded here and "
      "not before.");
}

}  // namespace vortex::python
