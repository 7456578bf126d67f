// What a whole model needs on a device around its linears and its attention, launched with its arguments checked:
// weights packed from bf16 rows, rows of the residual for the output head, the likeliest token and drawn ones, counts
// of page lists, pages moved and made.
#pragma once

#include <memory>

#include "device/device.h"
#include "kernels/cuda/model_arguments.h"

namespace vortex::kernels {

class CudaModelKernels {
 public:
  explicit CudaModelKernels(device::Device&);
  static device::Source source();

  void pack(device::Stream&, const cuda::PackRowsArguments&) const;
  void gather(device::Stream&, const cuda::GatherRowsArguments&, int count) const;
  void choose(device::Stream&, const cuda::ChooseArguments&, int count) const;
  void draw(device::Stream&, const cuda::DrawArguments&, int count) const;  // after choose
  void count_lists(device::Stream&, const cuda::CountListsArguments&) const;
  void follow(device::Stream&, const cuda::FollowArguments&) const;
  void advance(device::Stream&, const cuda::AdvanceArguments&) const;
  void move_pages(device::Stream&, const cuda::MovePagesArguments&, std::int64_t count) const;
  void random_pages(device::Stream&, const cuda::RandomPagesArguments&, std::int64_t pages, int layers) const;
  // Bytes a second that all multiprocessors read from a buffer of so many bytes; the best of several passes.
  double read_bandwidth(device::Device&, std::int64_t bytes) const;

 private:
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::kernels
