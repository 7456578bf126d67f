#include "attention/cuda/prefill.h"

#include <vortex/error.h>

#include "attention/cuda/stored.h"
#include "base/check.h"
#include "base/text.h"

namespace vortex::attention {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr unsigned kRows = 64, kKeys = 64, kThreads = 128;

}  // namespace

device::Source CudaPrefill::source(const vortex_geometry& g, vortex_dtype kv) {
  if ((g.head_dim != 64 && g.head_dim != 128) || g.group > 16 || g.values_in_keys != 0 ||
      (g.value_dim != 0 && g.value_dim != g.head_dim)) {
    throw UserError("attend",
                    "head_dim 64 or 128, values of as many channels and at most 16 query heads a KV head were required "
                    "on CUDA",
                    concat("head_dim ", g.head_dim, ", value_dim ", g.value_dim, ", group ", g.group),
                    "run this model on the cpu");
  }
  device::Source out{
      .name = "prefill",
      .text = concat(kv_text(kv), "#define VORTEX_GROUP ", g.group, "\n#define VORTEX_HEAD_DIM ", g.head_dim,
                     "\n#define VORTEX_PAGE ", g.page_size, "\n#include \"attention/cuda/prefill.cuh\"\n"),
      .headers = codegen::flow_headers(),
      .kernels = {"prefill"}};
  for (const char* name : {"attention/cuda/prefill_arguments.h", "attention/cuda/prefill.cuh"})
    out.headers.push_back({name, std::string(device_source(name))});
  return out;
}

CudaPrefill::CudaPrefill(device::Device& device, const vortex_geometry& geometry, vortex_dtype kv)
    : geometry_(geometry), kv_(kv), module_(device.load(source(geometry, kv))) {}

void CudaPrefill::attend(device::Stream& stream, const CudaLayer& layer, const CudaChunk& chunk) const {
  const vortex_geometry& g = geometry_;
  VORTEX_CHECK(chunk.count > 0 && chunk.context >= 0, chunk.count, " tokens after ", chunk.context);
  const KvPlanes planes = planes_of(layer.kv, kv_);
  const cuda::PrefillArguments a{{g.kv_heads, g.group, g.head_dim, g.page_size, g.scale},
                                 planes.k,
                                 planes.v,
                                 chunk.pages,
                                 chunk.context,
                                 chunk.count,
                                 layer.q,
                                 layer.q_stride,
                                 chunk.operand,
                                 chunk.operand_rows,
                                 chunk.first};
  const auto rows = static_cast<unsigned>(chunk.count) * static_cast<unsigned>(g.group);
  // A stage of bf16 is K and V of a tile; so is what stands there as it is stored, scales with it.
  const unsigned stage = 2 * kKeys * (static_cast<unsigned>(g.head_dim) + 8) * 2;
  const unsigned stored = 2 * kKeys * static_cast<unsigned>(g.head_dim + kv_scale_bytes(kv_));
  const unsigned shared = stage + (kv_ == VORTEX_BFLOAT16 ? stage : stored);
  stream.launch(module_->kernel("prefill"), {(rows + kRows - 1) / kRows, static_cast<unsigned>(g.kv_heads)}, {kThreads},
                a, shared, device::Start::early);
}

}  // namespace vortex::attention
