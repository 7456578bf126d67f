#include "kernels/cpu/linear.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/large_buffer.h"
#include "kernels/cpu/linear_kernel.h"
#include "kernels/cpu/linear_pack.h"
#include "kernels/cpu/weight_format.h"

namespace vortex::kernels {

namespace {

using namespace detail;

const LinearKernels& kernels() {
  switch (active_isa()) {
#if defined(__x86_64__)
    case Isa::avx2:
      return kAvx2Kernels;
    case Isa::avx_vnni:
      return kAvxVnniKernels;
    case Isa::avx512:
      return kAvx512Kernels;
#elif defined(__aarch64__)
    case Isa::neon:
      return kNeonKernels;
    case Isa::neon_dot:
      return kNeonDotKernels;
#endif
    default:
      return kPortableKernels;
  }
}

auto panels_of(const LinearKernels& table, WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return table.f32;
    case WeightFormat::f16:
      return table.f16;
    case WeightFormat::bf16:
      return table.bf16;
    default:
      return table.integers;
  }
}

// Weights of one task: small enough to stay in the second-level cache while groups of tokens pass over them, large
// enough that taking a task costs nothing beside it.
constexpr std::int64_t kTaskBytes = 64 << 10;
constexpr std::int64_t kTaskGroups = 8;  // groups of tokens of one task
// Below this many bytes of weights × groups, a parallel loop costs more than it saves.
constexpr std::int64_t kWorthSharing = 24 << 10;

// Quantised activations of the calling thread; kept, so that a steady step allocates nothing.
std::uint8_t* scratch(std::int64_t bytes) {
  thread_local LargeBuffer buffer;
  if (buffer.size() < bytes) buffer = LargeBuffer(bytes + bytes / 2);
  return buffer.data();
}

class PanelLinear final : public PackedLinear {
 public:
  PanelLinear(std::span<const WeightView> matrices, Activations activations, ThreadPool& pool)
      : format_(matrices[0].format),
        layout_(layout_of(format_)),
        terms_(activations == Activations::int8_twice ? 2 : 1),
        columns_(matrices[0].columns),
        panel_bytes_(panel_bytes(format_, columns_)) {
    for (const WeightView& matrix : matrices) rows_ += matrix.rows;
    panels_ = (rows_ + kPanelRows - 1) / kPanelRows;
    weights_ = LargeBuffer(panels_ * panel_bytes_);
    pool.for_each((panels_ + 15) / 16, [&](std::int64_t chunk, int) {
      for (std::int64_t p = 16 * chunk; p < std::min(panels_, 16 * chunk + 16); ++p)
        pack_panel(matrices, p, weights_.data() + p * panel_bytes_);
    });
  }

  std::int64_t rows() const override { return rows_; }
  std::int64_t columns() const override { return columns_; }
  std::int64_t bytes() const override { return panels_ * panel_bytes_; }

  void run(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t tokens,
           const float* bias, ThreadPool& pool) const override {
    if (tokens <= 0) return;
    const LinearKernels& table = kernels();
    const auto panels = panels_of(table, format_);
    const std::int64_t width = tokens == 1 ? 1 : tokens == 2 ? 2 : tokens <= 4 ? 4 : kGroup;
    const std::int64_t groups = (tokens + width - 1) / width;
    const std::int64_t group_bytes = columns_ / kBlock * kTokenBlockBytes[terms_] * width;
    std::uint8_t* quantised = nullptr;
    if (layout_.bits > 0) {
      quantised = scratch(groups * group_bytes);
      pool.for_each(groups, [&](std::int64_t g, int) {
        table.quantize(x + g * width * x_stride, x_stride, std::min(width, tokens - g * width), width,
                       columns_ / kBlock, terms_, layout_.zero, quantised + g * group_bytes);
      });
    }

    auto task = [&](std::int64_t first_panel, std::int64_t last_panel, std::int64_t first_group,
                    std::int64_t last_group) {
      const std::int64_t first_row = first_panel * kPanelRows;
      for (std::int64_t g = first_group; g < last_group; ++g) {
        const std::int64_t token = g * width;
        panels({.panel = weights_.data() + first_panel * panel_bytes_,
                .panels = last_panel - first_panel,
                .panel_bytes = panel_bytes_,
                .columns = columns_,
                .layout = layout_,
                .terms = terms_,
                .x = quantised ? static_cast<const void*>(quantised + g * group_bytes) : x + token * x_stride,
                .x_stride = x_stride,
                .width = width,
                .tokens = std::min(width, tokens - token),
                .rows = std::min(rows_, last_panel * kPanelRows) - first_row,
                .bias = bias ? bias + first_row : nullptr,
                .y = y + token * y_stride + first_row,
                .y_stride = y_stride});
      }
    };
    if (pool.threads() == 1 || bytes() * groups < kWorthSharing) return task(0, panels_, 0, groups);
    // A whole number of tasks for each thread, as equal as panels allow.
    const std::int64_t rounds = (bytes() + kTaskBytes * pool.threads() - 1) / (kTaskBytes * pool.threads());
    const std::int64_t panel_tasks = std::min(panels_, rounds * pool.threads());
    const std::int64_t group_tasks = (groups + kTaskGroups - 1) / kTaskGroups;
    pool.for_each(panel_tasks * group_tasks, [&](std::int64_t index, int) {
      const std::int64_t part = index % panel_tasks, g = index / panel_tasks * kTaskGroups;
      task(part * panels_ / panel_tasks, (part + 1) * panels_ / panel_tasks, g, std::min(groups, g + kTaskGroups));
    });
  }

 private:
  WeightFormat format_;
  PanelLayout layout_;
  int terms_;
  std::int64_t columns_, panel_bytes_, rows_ = 0, panels_ = 0;
  LargeBuffer weights_;
};

}  // namespace

std::shared_ptr<const PackedLinear> PackedLinear::pack(std::span<const WeightView> matrices, ThreadPool& pool,
                                                       Activations activations) {
  active_isa();  // a wrong VORTEX_ISA is an error of loading, not of the first step
  if (matrices.empty())
    throw UserError("linear", "at least one matrix to pack", "got none", "pass the weights of the layer");
  const WeightView& first = matrices[0];
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const WeightView& matrix = matrices[i];
    check_view("linear", matrix);
    if (matrix.format != first.format || matrix.columns != first.columns)
      throw UserError("linear", "matrices of one format and one number of columns to stack",
                      concat("matrix 0 is ", name_of(first.format), " [", first.rows, ", ", first.columns, "], matrix ",
                             i, " is ", name_of(matrix.format), " [", matrix.rows, ", ", matrix.columns, "]"),
                      "pack them one by one");
  }
  return std::make_shared<PanelLinear>(matrices, activations, pool);
}

}  // namespace vortex::kernels
