// The devices that steps can run on, as Python sees them: what one is, or the words for why there is none.
#include "device/device.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bindings.h"
#include "engine/backend.h"
#include "ir/program.h"

namespace nb = nanobind;

namespace vortex::python {

void bind_device(nb::module_& m) {
  m.def(
      "describe_device",
      [](const std::string& name, int index) { return device::open(device::kind_of(name), index)->describe(); },
      nb::arg("name"), nb::arg("index") = 0,
      "Opens a device and says what it is; a MachineError says what is missing. CUDA's libraries are loaded here and "
      "not before.");
  m.def(
      "device_kind", [](const std::string& name) { return std::string(device::name_of(device::kind_of(name))); },
      nb::arg("name"), "The name of a kind of device; a UserError lists those there are.");
  m.def(
      "require_served",
      [](const ir::Program& program, const std::string& device, std::int64_t layers, std::int64_t kv_heads,
         std::int64_t head_dim, std::int64_t group, std::int64_t value_dim, bool values_in_keys,
         std::int64_t page_size) {
        engine::require_served(program, device::kind_of(device),
                               {.layers = layers,
                                .kv_heads = kv_heads,
                                .group = group,
                                .head_dim = head_dim,
                                .page_size = page_size,
                                .value_dim = value_dim,
                                .values_in_keys = values_in_keys});
      },
      nb::arg("program"), nb::arg("device"), nb::kw_only(), nb::arg("layers"), nb::arg("kv_heads"), nb::arg("head_dim"),
      nb::arg("group"), nb::arg("value_dim") = 0, nb::arg("values_in_keys") = false, nb::arg("page_size") = 16,
      "A UserError in the device's own words when a flow uses what it does not have. Opens no device.");
}

}  // namespace vortex::python
