#include "kernels/cuda/model.h"

#include <algorithm>

#include "base/check.h"

namespace vortex::kernels {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

constexpr unsigned kRowBlocks = 8;  // of the cluster that looks through a row of logits

device::Source CudaModelKernels::source() {
  device::Source out{.name = "model",
                     .text = "#include \"kernels/cuda/model.cuh\"\n#include \"kernels/cuda/draw.cuh\"\n",
                     .headers = {},
                     .kernels = {"pack_rows", "gather_rows", "choose", "draw", "count_lists", "follow", "advance",
                                 "move_pages", "random_pages", "read_all"}};
  for (const char* name :
       {"device/cuda/device.cuh", "device/cuda/async.cuh", "device/cuda/matrix.cuh", "device/cuda/stored.cuh"})
    out.headers.push_back(device::device_header(name));
  for (const char* name : {"kernels/cuda/model_arguments.h", "kernels/cuda/operand.cuh", "kernels/cuda/model.cuh",
                           "kernels/cuda/draw.cuh"})
    out.headers.push_back({name, std::string(device_source(name))});
  return out;
}

CudaModelKernels::CudaModelKernels(device::Device& device) : module_(device.load(source())) {}

void CudaModelKernels::pack(device::Stream& stream, const cuda::PackRowsArguments& a) const {
  VORTEX_CHECK(a.rows > 0 && a.columns % 64 == 0 && a.tile % 8 == 0, a.rows, " rows of ", a.columns);
  stream.launch(module_->kernel("pack_rows"), {static_cast<unsigned>(a.rows)}, {256}, a);
}

void CudaModelKernels::gather(device::Stream& stream, const cuda::GatherRowsArguments& a, int count) const {
  VORTEX_CHECK(count > 0 && count <= a.rows, count, " of ", a.rows, " rows");
  stream.launch(module_->kernel("gather_rows"), {static_cast<unsigned>(count)}, {256}, a, 0, device::Start::early);
}

void CudaModelKernels::choose(device::Stream& stream, const cuda::ChooseArguments& a, int count) const {
  VORTEX_CHECK(count > 0 && a.vocabulary % 4 == 0 && a.stride % 4 == 0, count, " rows of ", a.vocabulary);
  stream.launch(module_->kernel("choose"), {static_cast<unsigned>(count) * kRowBlocks}, {256}, a, 0,
                device::Start::early, kRowBlocks);
}

void CudaModelKernels::draw(device::Stream& stream, const cuda::DrawArguments& a, int count) const {
  VORTEX_CHECK(count > 0 && a.vocabulary % 4 == 0 && a.stride % 4 == 0, count, " rows of ", a.vocabulary);
  stream.launch(module_->kernel("draw"), {static_cast<unsigned>(count) * kRowBlocks}, {256}, a, 0, device::Start::early,
                kRowBlocks);
}

void CudaModelKernels::count_lists(device::Stream& stream, const cuda::CountListsArguments& a) const {
  stream.launch(module_->kernel("count_lists"), {static_cast<unsigned>(a.layers)}, {256}, a, 0, device::Start::early);
}

void CudaModelKernels::follow(device::Stream& stream, const cuda::FollowArguments& a) const {
  VORTEX_CHECK(a.sequences > 0 && a.sequences <= 1024, a.sequences, " sequences");
  stream.launch(module_->kernel("follow"), {1}, {static_cast<unsigned>(a.sequences)}, a);
}

void CudaModelKernels::advance(device::Stream& stream, const cuda::AdvanceArguments& a) const {
  VORTEX_CHECK(a.stride > 0 && a.stride <= 1024, a.stride, " sequences");
  stream.launch(module_->kernel("advance"), {1}, {static_cast<unsigned>(a.stride)}, a, 0, device::Start::early);
}

void CudaModelKernels::move_pages(device::Stream& stream, const cuda::MovePagesArguments& a, std::int64_t count) const {
  VORTEX_CHECK(count > 0 && a.elements % 8 == 0, count, " pages of ", a.elements);
  stream.launch(module_->kernel("move_pages"), {static_cast<unsigned>(count)}, {256}, a);
}

void CudaModelKernels::random_pages(device::Stream& stream, const cuda::RandomPagesArguments& a, std::int64_t pages,
                                    int layers) const {
  VORTEX_CHECK(pages > 0 && layers > 0 && a.elements % 2 == 0, pages, " pages, ", layers, " layers");
  stream.launch(module_->kernel("random_pages"), {static_cast<unsigned>(pages), static_cast<unsigned>(layers)}, {256},
                a);
}

double CudaModelKernels::read_bandwidth(device::Device& device, std::int64_t bytes) const {
  constexpr int kPasses = 12;
  struct Memory {
    device::Device& device;
    void* data;
    ~Memory() { device.free(data); }
  };
  const Memory buffer{device, device.allocate(bytes)}, out{device, device.allocate(4)};
  const auto stream = device.make_stream();
  stream->fill(buffer.data, 0x5a, bytes);
  const auto begin = device.make_event(), end = device.make_event();
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    stream->record(*begin);
    stream->launch(
        module_->kernel("read_all"), {static_cast<unsigned>(device.multiprocessors()) * 4}, {512},
        cuda::ReadArguments{static_cast<const unsigned*>(buffer.data), bytes / 16, static_cast<unsigned*>(out.data)});
    stream->record(*end);
    stream->synchronize();
    best = std::max(best, static_cast<double>(bytes) / std::max(device.milliseconds(*begin, *end), 1e-6) * 1e3);
  }
  return best;
}

}  // namespace vortex::kernels
