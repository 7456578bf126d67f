// What Python may ask of the CPU kernels: how fast memory is read, and which instruction set they use.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "kernels/cpu/bandwidth.h"
#include "kernels/cpu/isa.h"

namespace vortex::python {

namespace nb = nanobind;
using namespace nb::literals;

void bind_kernels(nb::module_& m) {
  m.def(
      "measured_read_bandwidth",
      [](int threads, std::int64_t bytes, int passes) {
        nb::gil_scoped_release release;
        ThreadPool pool(threads);
        return kernels::measured_read_bandwidth(pool, bytes, passes).bytes_per_second;
      },
      "threads"_a = 0, "bytes"_a = std::int64_t{1} << 30, "passes"_a = 8,
      "Bytes per second that `threads` threads read from a buffer of `bytes`, from the best time of each of its "
      "slices. With 1 GiB it is "
      "main memory's; a working set that fits the last-level cache may be read faster.");
  m.def(
      "active_isa", [] { return std::string(kernels::name_of(kernels::active_isa())); },
      "The instruction set of the CPU's integer kernels (VORTEX_ISA).");
  m.def(
      "runnable_isas",
      [] {
        std::vector<std::string> names;
        for (kernels::Isa isa : kernels::runnable_isas()) names.emplace_back(kernels::name_of(isa));
        return names;
      },
      "The instruction sets that this processor runs, ascending.");
}

}  // namespace vortex::python
