// What Python may ask of the CPU kernels: how fast memory is read, which instruction set they use, what the bytes of a
// weight format mean, and one linear by itself.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include <memory>
#include <numeric>

#include "base/text.h"
#include "bindings/bindings.h"
#if VORTEX_CUDA
#include "kernels/cuda/model.h"
#endif
#include "kernels/cpu/bandwidth.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear.h"

namespace vortex::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Rows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<nb::numpy, float>;

kernels::WeightView view_of(const std::string& format, const Rows& rows, std::int64_t columns) {
  const kernels::WeightView view{.format = kernels::format_of(format),
                                 .data = rows.data(),
                                 .rows = static_cast<std::int64_t>(rows.shape(0)),
                                 .columns = columns};
  if (const std::int64_t needed = kernels::row_bytes(view.format, columns);
      needed != static_cast<std::int64_t>(rows.shape(1)))
    throw UserError("weights", concat(needed, " bytes a row of ", columns, " weights in ", format),
                    concat("got an array [", view.rows, ", ", rows.shape(1), "]"), "pass the rows as raw bytes");
  return view;
}

Result array(std::unique_ptr<float[]> memory, std::size_t rows, std::size_t columns) {
  nb::capsule owner(memory.get(), [](void* pointer) noexcept { delete[] static_cast<float*>(pointer); });
  return Result(memory.release(), {rows, columns}, owner);
}

Result decode_weights(const std::string& format, const Rows& rows, std::int64_t columns) {
  const kernels::WeightView view = view_of(format, rows, columns);
  auto out = std::make_unique<float[]>(rows.shape(0) * static_cast<std::size_t>(columns));
  std::vector<std::int32_t> all(rows.shape(0));
  std::iota(all.begin(), all.end(), 0);
  ThreadPool pool(1);
  kernels::gather_rows(view, all.data(), view.rows, out.get(), pool);
  return array(std::move(out), rows.shape(0), static_cast<std::size_t>(columns));
}

Result linear(const std::string& format, const Rows& rows, const Matrix& x, bool twice, int threads) {
  const std::int64_t columns = static_cast<std::int64_t>(x.shape(1));
  const kernels::WeightView view = view_of(format, rows, columns);
  auto out = std::make_unique<float[]>(x.shape(0) * rows.shape(0));
  ThreadPool pool(threads);
  kernels::PackedLinear::pack({&view, 1}, pool, twice ? kernels::Activations::int8_twice : kernels::Activations::int8)
      ->run(x.data(), columns, out.get(), view.rows, static_cast<std::int64_t>(x.shape(0)), nullptr, pool);
  return array(std::move(out), x.shape(0), rows.shape(0));
}

}  // namespace

void bind_kernels(nb::module_& m) {
  m.def("decode_weights", &decode_weights, "format"_a, "rows"_a, "columns"_a,
        "What raw rows (uint8 [rows, bytes of a row]) of a weight format mean, as float32 [rows, columns].");
  m.def("linear", &linear, "format"_a, "rows"_a, "x"_a, "twice"_a = false, "threads"_a = 1,
        "x [tokens, columns] times the rows, [tokens, rows], as models compute it: weights repacked, activations in "
        "int8, or in two of them (twice) as the output head has.");
  m.def(
      "measured_read_bandwidth",
      [](int threads, std::int64_t bytes, int passes, const std::string& device) {
        nb::gil_scoped_release release;
#if VORTEX_CUDA
        if (device != "cpu") {
          const auto opened = device::open(device::kind_of(device));
          return kernels::CudaModelKernels(*opened).read_bandwidth(*opened, bytes);
        }
#else
        static_cast<void>(device);
#endif
        ThreadPool pool(threads);
        return kernels::measured_read_bandwidth(pool, bytes, passes).bytes_per_second;
      },
      "threads"_a = 0, "bytes"_a = std::int64_t{1} << 30, "passes"_a = 8, "device"_a = "cpu",
      "Bytes per second that `threads` threads read from a buffer of `bytes`, from the best time of each of its "
      "slices. With 1 GiB it is "
      "main memory's; a working set that fits the last-level cache may be read faster. device cuda: what the GPU reads "
      "of its own memory.");
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
