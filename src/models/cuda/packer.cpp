#include "models/cuda/packer.h"

#include <algorithm>
#include <numeric>

namespace vortex::models {

namespace {
constexpr std::int64_t kPieceElements = std::int64_t{16} << 20;
}

WeightPacker::WeightPacker(std::shared_ptr<device::Device> device, const kernels::CudaModelKernels& kernels,
                           ThreadPool& pool)
    : device_(std::move(device)),
      kernels_(kernels),
      pool_(pool),
      stream_(device_->make_stream()),
      piece_(device_, kPieceElements) {}

device::Array<unsigned short> WeightPacker::reserve(std::int64_t rows, std::int64_t columns, int tile) {
  device::Array<unsigned short> out(device_, (rows + tile - 1) / tile * tile * columns);
  if (rows % tile != 0) out.fill(*stream_, 0);
  return out;
}

void WeightPacker::pack(const kernels::WeightView& view, const device::Array<unsigned short>& to, int tile,
                        std::int64_t first, bool interleaved) {
  // Whole groups of eight rows, so that a piece of an interleaved matrix begins where the one before it ended.
  const std::int64_t rows = std::max<std::int64_t>(kPieceElements / view.columns / 8 * 8, 8);
  if (piece_.count() < rows * view.columns) piece_ = device::Array<unsigned short>(device_, rows * view.columns);
  for (std::int64_t done = 0; done < view.rows; done += rows) {
    const std::int64_t count = std::min(rows, view.rows - done), elements = count * view.columns;
    const void* from = nullptr;
    if (view.format == kernels::WeightFormat::bf16) {
      from = static_cast<const BFloat16*>(view.data) + done * view.columns;
    } else {
      std::vector<std::int32_t> indices(static_cast<std::size_t>(count));
      std::iota(indices.begin(), indices.end(), static_cast<std::int32_t>(done));
      floats_.resize(static_cast<std::size_t>(elements)), rounded_.resize(static_cast<std::size_t>(elements));
      kernels::gather_rows(view, indices.data(), count, floats_.data(), pool_);
      pool_.for_each(count, [&](std::int64_t row, int) {
        for (std::int64_t i = row * view.columns; i < (row + 1) * view.columns; ++i)
          rounded_[static_cast<std::size_t>(i)] = to_bfloat16(floats_[static_cast<std::size_t>(i)]);
      });
      from = rounded_.data();
    }
    stream_->copy(piece_.data(), from, 2 * elements, device::Direction::to_device);
    kernels_.pack(*stream_, {piece_.data(), to.data(), static_cast<int>(count), static_cast<int>(view.columns), tile,
                             static_cast<int>(first + (interleaved ? 2 * done : done)), interleaved ? 1 : 0});
    stream_->synchronize();  // the piece is used again
  }
}

device::Array<float> WeightPacker::upload(const std::vector<float>& values) {
  return device::upload(device_, *stream_, values);
}

}  // namespace vortex::models
