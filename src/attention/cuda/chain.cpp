// Launches of the decode chain.
#include "attention/cuda/chain.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"

namespace vortex::attention {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr unsigned kThreads = 128, kSelectThreads = 256;
constexpr std::int64_t kSharedBytes = 48 * 1024;  // of a block, without asking for more

unsigned positive(std::int64_t value, const char* what) {
  VORTEX_CHECK(value > 0, what, " ", value);
  return static_cast<unsigned>(value);
}

}  // namespace

device::Source CudaFlowKernels::source(const codegen::CudaFlow& flow) {
  device::Source out{.name = "flow_" + flow.name, .text = flow.text, .headers = codegen::flow_headers(), .kernels = {}};
  for (const codegen::CudaStage& stage : flow.stages) out.kernels.push_back(stage.kernel);
  return out;
}

CudaFlowKernels::CudaFlowKernels(device::Device& device, const compiler::Plan& plan)
    : config_(plan.program.config), flow_(codegen::print_cuda(plan)) {
  if (flow_.fields.size() > cuda::FlowArguments::kFields) {
    throw UserError(concat("flow ", flow_.name),
                    concat("at most ", cuda::FlowArguments::kFields, " summaries are supported on CUDA"),
                    concat(flow_.fields.size(), " summaries"), "merge summaries, or run the flow on the cpu");
  }
  module_ = device.load(source(flow_));
}

int CudaFlowKernels::candidates(int tokens) const {
  const std::int64_t pages = (tokens + config_.page_size - 1) / config_.page_size;
  return static_cast<int>(std::max<std::int64_t>(pages - ir::pinned_of(config_, pages), 1));
}

void CudaFlowKernels::summarize(device::Stream& stream, const cuda::FlowArguments& a, int sequences) const {
  for (const codegen::CudaStage& stage : flow_.stages) {
    if (stage.kind != compiler::StageKind::summarize) continue;
    VORTEX_CHECK(config_.page_size % a.shape.page_size == 0, "page_size ", config_.page_size, " over pages of ",
                 a.shape.page_size);
    stream.launch(module_->kernel(stage.kernel),
                  {positive(a.shape.kv_heads, "kv_heads"), positive(sequences, "sequences")},
                  {static_cast<unsigned>(stage.threads)}, a);
  }
}

void CudaFlowKernels::score(device::Stream& stream, const cuda::FlowArguments& a, int sequences) const {
  VORTEX_CHECK(a.workspace_stride >= workspace_floats(a.capacity), "workspace ", a.workspace_stride, " of ",
               workspace_floats(a.capacity));
  const unsigned heads = positive(a.shape.kv_heads, "kv_heads"), rows = positive(sequences, "sequences");
  for (const codegen::CudaStage& stage : flow_.stages) {
    if (stage.kind == compiler::StageKind::summarize) continue;
    const unsigned threads = static_cast<unsigned>(stage.threads);
    if (stage.kind == compiler::StageKind::page) {
      const unsigned per_block = static_cast<unsigned>(stage.per_block);
      stream.launch(module_->kernel(stage.kernel),
                    {(positive(a.capacity, "capacity") + per_block - 1) / per_block, heads, rows}, {threads}, a);
    } else {
      stream.launch(module_->kernel(stage.kernel), {heads, rows}, {threads}, a);
    }
  }
}

device::Source CudaChain::source() {
  std::vector<device::Header> headers = codegen::flow_headers();
  headers.push_back(
      {"attention/cuda/chain_arguments.h", std::string(device_source("attention/cuda/chain_arguments.h"))});
  return {.name = "chain",
          .text = std::string(device_source("attention/cuda/chain.cuh")),
          .headers = std::move(headers),
          .kernels = {"append", "plan", "select_pages", "attend_split", "attend_merge"}};
}

CudaChain::CudaChain(device::Device& device) : module_(device.load(source())) {}

void CudaChain::append(device::Stream& stream, const cuda::AppendArguments& a, int sequences) const {
  stream.launch(module_->kernel("append"), {positive(a.shape.kv_heads, "kv_heads"), positive(sequences, "sequences")},
                {kThreads}, a);
}

void CudaChain::plan(device::Stream& stream, const cuda::PlanArguments& a) const {
  VORTEX_CHECK(a.page_size > 0, "page_size ", a.page_size);
  stream.launch(module_->kernel("plan"), {(positive(a.sequences, "sequences") + kThreads - 1) / kThreads}, {kThreads},
                a);
}

void CudaChain::select(device::Stream& stream, const cuda::SelectArguments& a, int sequences) const {
  stream.launch(module_->kernel("select_pages"), {positive(a.kv_heads, "kv_heads"), positive(sequences, "sequences")},
                {kSelectThreads}, a);
}

void CudaChain::attend(device::Stream& stream, const cuda::AttendArguments& a, int sequences) const {
  const std::int64_t shared = static_cast<std::int64_t>(a.shape.group) * (a.shape.head_dim + 128) * 4;
  if (shared > kSharedBytes - 1024) {
    throw UserError(
        "attend",
        concat("at most ", (kSharedBytes - 1024) / 4, " numbers of q and weights in a block are supported on CUDA"),
        concat("group ", a.shape.group, " · (head_dim ", a.shape.head_dim, " + 128) = ", shared / 4),
        "run this model on the cpu");
  }
  VORTEX_CHECK(a.list_page_size % a.shape.page_size == 0, "list pages of ", a.list_page_size, " over pages of ",
               a.shape.page_size);
  const unsigned heads = positive(a.shape.kv_heads, "kv_heads"), count = positive(sequences, "sequences");
  stream.launch(module_->kernel("attend_split"), {positive(a.splits, "splits"), heads, count}, {128}, a,
                static_cast<unsigned>(shared));
  stream.launch(module_->kernel("attend_merge"), {heads * positive(a.shape.group, "group"), count}, {kThreads}, a);
}

cuda::PlanArguments CudaChain::plan_arguments(const ir::FlowConfig* config, int page_size) {
  cuda::PlanArguments out{};
  out.page_size = config != nullptr ? static_cast<int>(config->page_size) : page_size;
  out.full = config == nullptr ? 1 : 0;
  out.recent = 1;
  if (config == nullptr) return out;
  out.budget = config->budget;
  out.budget_ratio = config->budget_ratio;
  out.sinks = static_cast<int>(config->sinks);
  out.recent = static_cast<int>(config->recent);
  return out;
}

std::int64_t CudaChain::partial_floats(const cuda::Shape& shape, int sequences, int tokens) {
  return static_cast<std::int64_t>(sequences) * shape.kv_heads * splits(tokens) * shape.group * (shape.head_dim + 2);
}

}  // namespace vortex::attention
