// Launches of the decode chain.
#include "attention/cuda/chain.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"

namespace vortex::attention {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr unsigned kThreads = 128, kSelectThreads = 256;
constexpr std::int64_t kSplit = 128;              // tokens of a split
constexpr std::int64_t kSharedBytes = 47 * 1024;  // of a block, without asking for more

unsigned positive(std::int64_t value, const char* what) {
  VORTEX_CHECK(value > 0, what, " ", value);
  return static_cast<unsigned>(value);
}

cuda::Shape shape_of(const vortex_geometry& g) {
  if ((g.value_dim != 0 && g.value_dim != g.head_dim) || g.values_in_keys != 0) {
    throw UserError("attention", "values with as many channels as keys, stored beside them, are supported on CUDA",
                    concat("head_dim ", g.head_dim, ", value_dim ", g.value_dim, ", values_in_keys ", g.values_in_keys),
                    "run this model on the cpu");
  }
  return {g.kv_heads, g.group, g.head_dim, g.page_size, g.scale};
}

cuda::Plane plane_of(const vortex_kv& kv, const vortex_plane& plane) {
  if (kv.dtype != VORTEX_BFLOAT16) {
    throw UserError("attention", "KV in bfloat16 is supported on CUDA",
                    kv.dtype == VORTEX_INT8 ? "int8" : concat("dtype ", static_cast<int>(kv.dtype)),
                    "store K and V as bfloat16, or run this model on the cpu");
  }
  return {static_cast<unsigned short*>(plane.base), plane.page_stride, plane.head_stride, plane.token_stride};
}

cuda::Batch batch_of(const vortex_batch& b) {
  VORTEX_CHECK(b.new_tokens == nullptr, "one new token a sequence is appended and attended on CUDA");
  static_assert(sizeof(long long) == sizeof(std::int64_t));
  return {b.page_tables, b.page_table_stride, b.tokens, reinterpret_cast<const long long*>(b.steps)};
}

std::int64_t splits(std::int64_t tokens) { return (tokens + kSplit - 1) / kSplit; }

}  // namespace

device::Source CudaFlowKernels::source(const codegen::CudaFlow& flow) {
  device::Source out{.name = "flow_" + flow.name, .text = flow.text, .headers = codegen::flow_headers(), .kernels = {}};
  for (const codegen::CudaStage& stage : flow.stages) out.kernels.push_back(stage.kernel);
  return out;
}

CudaFlowKernels::CudaFlowKernels(device::Device& device, const compiler::Plan& plan)
    : config_(plan.program.config), flow_(codegen::print_cuda(plan)) {
  VORTEX_CHECK(plan.geometry.page_size == config_.page_size, "compiled for pages of ", plan.geometry.page_size,
               ", configured for ", config_.page_size);
  if (flow_.fields.size() > cuda::FlowArguments::kFields) {
    throw UserError(concat("flow ", flow_.name),
                    concat("at most ", cuda::FlowArguments::kFields, " summaries are supported on CUDA"),
                    concat(flow_.fields.size(), " summaries"), "merge summaries, or run the flow on the cpu");
  }
  module_ = device.load(source(flow_));
}

int CudaFlowKernels::candidates(std::int64_t tokens) const {
  const std::int64_t pages = (tokens + config_.page_size - 1) / config_.page_size;
  return static_cast<int>(std::max<std::int64_t>(pages - ir::pinned_of(config_, pages), 1));
}

cuda::FlowArguments CudaFlowKernels::arguments(const CudaLayer& layer, std::span<const vortex_field> fields) const {
  const vortex_geometry& geometry = layer.geometry;
  VORTEX_CHECK(config_.page_size % geometry.page_size == 0, "page_size ", config_.page_size, " over pages of ",
               geometry.page_size);
  VORTEX_CHECK(fields.size() == flow_.fields.size(), fields.size(), " fields of ", flow_.fields.size());
  cuda::FlowArguments a{};
  a.shape = shape_of(geometry);
  a.k = plane_of(layer.kv, layer.kv.k), a.v = plane_of(layer.kv, layer.kv.v);
  a.batch = batch_of(layer.batch);
  for (std::size_t i = 0; i < fields.size(); ++i)
    a.fields[i] = {fields[i].base, fields[i].page_stride, fields[i].head_stride};
  a.q = layer.q, a.q_stride = layer.q_stride;
  a.layer = layer.layer, a.layers = layer.layers;
  return a;
}

void CudaFlowKernels::summarize(device::Stream& stream, const CudaLayer& layer,
                                std::span<const vortex_field> fields) const {
  const cuda::FlowArguments a = arguments(layer, fields);
  for (const codegen::CudaStage& stage : flow_.stages) {
    if (stage.kind != compiler::StageKind::summarize) continue;
    stream.launch(module_->kernel(stage.kernel),
                  {positive(a.shape.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")},
                  {static_cast<unsigned>(stage.threads)}, a);
  }
}

void CudaFlowKernels::score(device::Stream& stream, const CudaLayer& layer, std::span<const vortex_field> fields,
                            const CudaScores& scores) const {
  VORTEX_CHECK(scores.workspace_stride >= workspace_floats(scores.capacity), "workspace ", scores.workspace_stride,
               " of ", workspace_floats(scores.capacity));
  cuda::FlowArguments a = arguments(layer, fields);
  a.plans = scores.plans, a.scores = scores.scores, a.capacity = scores.capacity;
  a.workspace = scores.workspace, a.workspace_stride = scores.workspace_stride;
  const unsigned heads = positive(a.shape.kv_heads, "kv_heads");
  const unsigned sequences = positive(layer.batch.sequences, "sequences");
  for (const codegen::CudaStage& stage : flow_.stages) {
    if (stage.kind == compiler::StageKind::summarize) continue;
    const unsigned threads = static_cast<unsigned>(stage.threads), per_block = static_cast<unsigned>(stage.per_block);
    const unsigned candidates = positive(a.capacity, "capacity");
    const device::Extent3 grid = stage.kind == compiler::StageKind::page
                                     ? device::Extent3{(candidates + per_block - 1) / per_block, heads, sequences}
                                     : device::Extent3{heads, sequences};
    stream.launch(module_->kernel(stage.kernel), grid, {threads}, a);
  }
}

device::Source CudaChain::source() {
  const std::string header = "attention/cuda/chain_arguments.h";
  std::vector<device::Header> headers = codegen::flow_headers();
  headers.push_back({header, std::string(device_source(header))});
  return {.name = "chain",
          .text = std::string(device_source("attention/cuda/chain.cuh")),
          .headers = std::move(headers),
          .kernels = {"append", "plan", "select_pages", "attend_split", "attend_merge"}};
}

CudaChain::CudaChain(device::Device& device) : module_(device.load(source())) {}

void CudaChain::append(device::Stream& stream, const CudaLayer& layer, const float* k, const float* v,
                       std::int64_t stride) const {
  const cuda::AppendArguments a{shape_of(layer.geometry),
                                plane_of(layer.kv, layer.kv.k),
                                plane_of(layer.kv, layer.kv.v),
                                batch_of(layer.batch),
                                k,
                                v,
                                stride};
  stream.launch(module_->kernel("append"),
                {positive(a.shape.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")}, {kThreads}, a);
}

void CudaChain::plan(device::Stream& stream, const vortex_batch& batch, const ir::FlowConfig* config, int page_size,
                     const int* dense_until, cuda::SequencePlan* plans) const {
  cuda::PlanArguments a{};
  a.tokens = batch.tokens, a.dense_until = dense_until, a.plans = plans, a.sequences = batch.sequences;
  a.page_size = page_size, a.recent = 1, a.full = config == nullptr ? 1 : 0;
  if (config != nullptr) {
    a.page_size = static_cast<int>(config->page_size);
    a.budget = config->budget, a.budget_ratio = config->budget_ratio;
    a.sinks = static_cast<int>(config->sinks), a.recent = static_cast<int>(config->recent);
  }
  VORTEX_CHECK(a.page_size > 0, "page_size ", a.page_size);
  stream.launch(module_->kernel("plan"), {(positive(a.sequences, "sequences") + kThreads - 1) / kThreads}, {kThreads},
                a);
}

void CudaChain::select(device::Stream& stream, const vortex_geometry& geometry, int sequences, const CudaScores& scores,
                       const vortex_lists& lists) const {
  const cuda::SelectArguments a{scores.plans, scores.scores, scores.capacity, geometry.kv_heads,
                                lists.pages,  lists.stride,  lists.counts};
  stream.launch(module_->kernel("select_pages"),
                {positive(geometry.kv_heads, "kv_heads"), positive(sequences, "sequences")}, {kSelectThreads}, a);
}

void CudaChain::attend(device::Stream& stream, const CudaLayer& layer, const vortex_lists& lists, std::int64_t longest,
                       float* partial, float* out) const {
  const vortex_geometry& g = layer.geometry;
  const std::int64_t shared = static_cast<std::int64_t>(g.group) * (g.head_dim + kSplit) * 4;
  if (shared > kSharedBytes) {
    throw UserError("attend",
                    concat("at most ", kSharedBytes / 4, " numbers of q and weights a block are supported on CUDA"),
                    concat("group ", g.group, " · (head_dim ", g.head_dim, " + ", kSplit, ") = ", shared / 4),
                    "run this model on the cpu");
  }
  VORTEX_CHECK(lists.page_size % g.page_size == 0, "list pages of ", lists.page_size, " over pages of ", g.page_size);
  cuda::AttendArguments a{};
  a.shape = shape_of(g);
  a.k = plane_of(layer.kv, layer.kv.k), a.v = plane_of(layer.kv, layer.kv.v);
  a.batch = batch_of(layer.batch);
  a.list_page_size = lists.page_size, a.pages = lists.pages, a.stride = lists.stride, a.counts = lists.counts;
  a.q = layer.q, a.q_stride = layer.q_stride;
  a.partial = partial, a.splits = static_cast<int>(splits(longest)), a.out = out;
  const unsigned heads = positive(g.kv_heads, "kv_heads"), count = positive(layer.batch.sequences, "sequences");
  stream.launch(module_->kernel("attend_split"), {positive(a.splits, "splits"), heads, count},
                {static_cast<unsigned>(kSplit)}, a, static_cast<unsigned>(shared));
  stream.launch(module_->kernel("attend_merge"), {heads * positive(g.group, "group"), count}, {kThreads}, a);
}

std::int64_t CudaChain::partial_floats(const vortex_geometry& g, int sequences, std::int64_t longest) {
  return static_cast<std::int64_t>(sequences) * g.kv_heads * splits(longest) * g.group * (g.head_dim + 2);
}

}  // namespace vortex::attention
