// Launches of the decode chain.
#include "attention/cuda/chain.h"

#include <vortex/error.h>

#include <algorithm>

#include "attention/cuda/stored.h"
#include "base/check.h"

namespace vortex::attention {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr unsigned kThreads = 128;
constexpr std::int64_t kSplit = 128;              // tokens of a split
constexpr std::int64_t kRun = 8;                  // splits of a run
constexpr std::int64_t kSharedBytes = 47 * 1024;  // of a block, without asking for more
constexpr std::int64_t kRingShared = 224 * 1024;  // of a block of the ring
// Of the ring: teams of eight warps that take splits in turn, as registers allow; and all threads of a block.
unsigned ring_teams(const vortex_geometry& g) { return g.group <= 4 ? 2 : 1; }
unsigned ring_threads(const vortex_geometry& g) { return (8 * ring_teams(g) + 5) * 32; }

// K, V and scales of so many tokens.
std::int64_t token_bytes(const vortex_geometry& g, vortex_dtype kv, std::int64_t tokens) {
  return tokens * 2 * (g.head_dim * kv_channel_bytes(kv) + kv_scale_bytes(kv));
}
// Of attend_ring.cuh: K, V and q of a split; the sums of its tiles.
std::int64_t slot_bytes(const vortex_geometry& g, vortex_dtype kv) {
  return token_bytes(g, kv, kSplit) + std::int64_t{g.group} * g.head_dim * 4;
}
std::int64_t sum_bytes(const vortex_geometry& g) { return 8 * std::int64_t{g.group} * g.head_dim * 4; }

// Of attend_cluster.cuh: blocks of a cluster, and warps, each of which has a tile of 16 of at most 512 tokens.
struct Cluster {
  const char* kernel = nullptr;
  unsigned blocks = 0, warps = 0;
  unsigned shared_bytes(const vortex_geometry& g, vortex_dtype kv) const {
    return warps * static_cast<unsigned>(token_bytes(g, kv, 16) + 4 * g.group * g.head_dim) + 128;
  }
};
// The most blocks that find a multiprocessor each; none: other kernels serve better.
Cluster cluster_of(const vortex_geometry& g, vortex_dtype kv, unsigned splits, unsigned rows,
                   unsigned multiprocessors) {
  for (const Cluster& cluster : {Cluster{"attend_8x4", 8, 4}, {"attend_2x16", 2, 16}}) {
    if (splits <= 4 && rows * cluster.blocks <= multiprocessors && cluster.shared_bytes(g, kv) <= kRingShared)
      return cluster;
  }
  return {};
}

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

cuda::Batch batch_of(const vortex_batch& b) {
  VORTEX_CHECK(b.new_tokens == nullptr, "one new token a sequence is appended and attended on CUDA");
  static_assert(sizeof(long long) == sizeof(std::int64_t));
  return {b.page_tables, b.page_table_stride, b.tokens, reinterpret_cast<const long long*>(b.steps)};
}

constexpr unsigned kSelectThreads = 256;                     // of a row's selection
constexpr int kMostOfABlock = 8192, kFewRows = 128;          // candidates and rows that the scoring kernel selects
constexpr unsigned kScoreWarps = 8, kBlocksOfADevice = 264;  // of the scoring kernels
// Of a block of score_cluster.cuh; shared memory beside what its text declares.
constexpr unsigned kRowThreads = 512;
constexpr std::int64_t kMostRowShared = 190 * 1024;

// A kernel that fills the device starts after the one before it: an early one would share out the first cache and
// shared memory of a multiprocessor as its neighbour has, and scoring and selection lean on the first cache.
device::Start start_of(unsigned blocks) {
  return blocks >= kBlocksOfADevice ? device::Start::after : device::Start::early;
}

std::int64_t splits(std::int64_t tokens) { return (tokens + kSplit - 1) / kSplit; }

cuda::SelectArguments select_arguments(const vortex_geometry& g, const vortex_batch& batch, const CudaScores& scores,
                                       const CudaSelection& to) {
  VORTEX_CHECK(to.lists.page_size > 0 && (to.physical == nullptr || to.lists.page_size % g.page_size == 0),
               "list pages of ", to.lists.page_size, " over pages of ", g.page_size);
  cuda::SelectArguments a{};
  a.plans = scores.plans, a.scores = scores.scores, a.capacity = scores.capacity, a.kv_heads = g.kv_heads;
  a.pages = to.lists.pages, a.stride = to.lists.stride, a.counts = to.lists.counts;
  a.page_size = to.lists.page_size, a.physical_pages = to.lists.page_size / g.page_size;
  a.page_tables = batch.page_tables, a.page_table_stride = batch.page_table_stride;
  a.physical = to.physical, a.physical_stride = to.physical_stride, a.listed = to.listed;
  return a;
}

cuda::PlanArguments plan_arguments(const vortex_batch& batch, const ir::FlowConfig* config, int page_size,
                                   const int* dense_until, cuda::SequencePlan* plans) {
  cuda::PlanArguments a{};
  a.tokens = batch.tokens, a.dense_until = dense_until, a.plans = plans, a.sequences = batch.sequences;
  a.page_size = page_size, a.recent = 1, a.full = config == nullptr ? 1 : 0;
  if (config != nullptr) {
    a.page_size = static_cast<int>(config->page_size);
    a.budget = config->budget, a.budget_ratio = config->budget_ratio;
    a.sinks = static_cast<int>(config->sinks), a.recent = static_cast<int>(config->recent);
  }
  VORTEX_CHECK(a.page_size > 0, "page_size ", a.page_size);
  return a;
}

// The largest team with which all rows are selected at a time, of those that keep a row's candidates in shared memory.
struct RowTeam {
  const char* kernel = "finish_and_select";
  unsigned threads = kSelectThreads;
};
RowTeam row_team(unsigned rows, int candidates, unsigned multiprocessors) {
  constexpr unsigned kThreadsAtATime = 1024;  // of a multiprocessor, as registers allow
  const auto fits = [&](const RowTeam& team) { return rows * team.threads <= multiprocessors * kThreadsAtATime; };
  RowTeam out;
  if (!fits(out) && candidates <= 1024) out = {"select_by_128", 128};
  if (!fits(out) && candidates <= 512) out = {"select_by_64", 64};
  return out;
}

std::vector<device::Header> own_headers(std::initializer_list<const char*> names) {
  std::vector<device::Header> out = codegen::flow_headers();
  for (const char* name : names) out.push_back({name, std::string(device_source(name))});
  return out;
}

}  // namespace

device::Source CudaFlowKernels::source(const codegen::CudaFlow& flow, vortex_dtype kv) {
  device::Source out{
      .name = "flow_" + flow.name,
      .text = kv_text(kv) + flow.text + "\n#include \"attention/cuda/flow_kernels.cuh\"\n",
      .headers = own_headers({"attention/cuda/chain_arguments.h", "attention/cuda/plan.cuh",
                              "attention/cuda/list_set.cuh", "attention/cuda/keep.cuh", "attention/cuda/select.cuh",
                              "attention/cuda/flow_kernels.cuh", "attention/cuda/score_cluster.cuh"}),
      .kernels = {"plan_rows", "prepare", "finish_and_select", "summarize_pages", "finish_scores"}};
  for (const codegen::CudaStage& stage : flow.stages) out.kernels.push_back(stage.kernel);
  if (flow.any_team) out.kernels.insert(out.kernels.end(), {"select_by_128", "select_by_64"});
  if (flow.selects_with_score) out.kernels.emplace_back("score_and_select");
  if (flow.prepares_with_score) out.kernels.emplace_back("score_row");
  return out;
}

CudaFlowKernels::CudaFlowKernels(device::Device& device, const ir::Geometry& geometry, vortex_dtype kv)
    : flow_(codegen::print_cuda_without_flow(geometry)), kv_(kv), module_(device.load(source(flow_, kv))) {
  config_.page_size = geometry.page_size;
}

CudaFlowKernels::CudaFlowKernels(codegen::CudaFlow flow, const ir::FlowConfig& config,
                                 std::unique_ptr<device::Module> module)
    : config_(config), flow_(std::move(flow)), module_(std::move(module)) {}

CudaFlowKernels::CudaFlowKernels(device::Device& device, const compiler::Plan& plan, vortex_dtype kv)
    : config_(plan.program.config), flow_(codegen::print_cuda(plan)), rows_(plan.program), kv_(kv) {
  VORTEX_CHECK(plan.geometry.page_size == config_.page_size, "compiled for pages of ", plan.geometry.page_size,
               ", configured for ", config_.page_size);
  if (flow_.fields.size() > cuda::FlowArguments::kFields) {
    throw UserError(concat("flow ", flow_.name),
                    concat("at most ", cuda::FlowArguments::kFields, " summaries are supported on CUDA"),
                    concat(flow_.fields.size(), " summaries"), "merge summaries, or run the flow on the cpu");
  }
  module_ = device.load(source(flow_, kv));
  multiprocessors_ = static_cast<unsigned>(device.multiprocessors());
  if (device.architecture() == "sm_90a") row_blocks_ = multiprocessors_;
}

void CudaFlowKernels::plan(device::Stream& stream, const CudaLayer& layer, int layers, const int* dense_until,
                           cuda::SequencePlan* plans) const {
  const vortex_batch& batch = layer.batch;
  cuda::PlanArguments a = plan_arguments(batch, &config_, 0, dense_until, plans);
  if (rows_ && !rows_->chooses()) a.budget = 0, a.budget_ratio = 0.0;
  a.open = rows_ && rows_->open(config_) ? 1 : 0;
  a.steps = reinterpret_cast<const long long*>(batch.steps);
  a.layer = layer.layer, a.layers = layer.layers, a.scale = static_cast<double>(layer.geometry.scale);
  a.kept = kept_lists(layer), a.kept_layer = layer.kept_layer;
  stream.launch(module_->kernel("plan_rows"),
                {(positive(a.sequences, "sequences") + kThreads - 1) / kThreads, positive(layers, "layers")},
                {kThreads}, a);
}

int kept_margin(const ir::FlowConfig& config) {
  return config.refresh_every > 1 ? static_cast<int>(config.refresh_every / config.page_size) + 2 : 0;
}

cuda::KeptLists CudaFlowKernels::kept_lists(const CudaLayer& layer) const {
  if (!flow_.keeps_lists) return {};
  VORTEX_CHECK(layer.carried != nullptr && layer.kept_elements > 2 && layer.batch.steps != nullptr, "kept lists of ",
               flow_.name);
  return {.carried = layer.carried,
          .before = 2LL * layer.layers * layer.geometry.kv_heads * layer.carried_rows,
          .steps = reinterpret_cast<const long long*>(layer.batch.steps),
          .layers = layer.layers,
          .kv_heads = layer.geometry.kv_heads,
          .elements = layer.kept_elements,
          .refresh_every = static_cast<int>(config_.refresh_every),
          .margin = kept_margin(config_)};
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
  const KvPlanes planes = planes_of(layer.kv, kv_);
  a.k = planes.k, a.v = planes.v;
  a.batch = batch_of(layer.batch);
  for (std::size_t i = 0; i < fields.size(); ++i)
    a.fields[i] = {fields[i].base, fields[i].page_stride, fields[i].head_stride};
  if (!flow_.parameters.empty()) {
    VORTEX_CHECK(layer.parameters != nullptr, "parameters of ", flow_.name);
    layer.parameters->put(layer.layer, a.parameters);
  }
  a.carried = layer.carried, a.carried_pages = layer.carried_pages, a.carried_rows = layer.carried_rows;
  a.q = layer.q, a.q_stride = layer.q_stride;
  a.layer = layer.layer, a.layers = layer.layers;
  return a;
}

cuda::FlowArguments CudaFlowKernels::arguments(const CudaLayer& layer, std::span<const vortex_field> fields,
                                               const CudaScores& scores) const {
  VORTEX_CHECK(scores.workspace_stride >= workspace_floats(scores.capacity), "workspace ", scores.workspace_stride,
               " of ", workspace_floats(scores.capacity));
  VORTEX_CHECK(flow_.states.empty() || layer.carried != nullptr, "state of ", flow_.name);
  cuda::FlowArguments a = arguments(layer, fields);
  a.plans = scores.plans, a.scores = scores.scores, a.capacity = scores.capacity;
  VORTEX_CHECK(!flow_.has_rest || scores.rest != nullptr, "a flow with a rest, and no room for it");
  a.rest = scores.rest;
  a.workspace = scores.workspace, a.workspace_stride = scores.workspace_stride;
  return a;
}

void CudaFlowKernels::summarize(device::Stream& stream, const CudaLayer& layer,
                                std::span<const vortex_field> fields) const {
  const cuda::FlowArguments a = arguments(layer, fields);
  stream.launch(module_->kernel("summarize_pages"),
                {positive(a.shape.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")}, {kThreads}, a);
}

void CudaFlowKernels::put_stages(device::Stream& stream, const cuda::FlowArguments& a, int sequence_count,
                                 std::size_t count) const {
  const unsigned heads = positive(a.shape.kv_heads, "kv_heads"), sequences = positive(sequence_count, "sequences");
  for (std::size_t i = 0; i < count; ++i) {
    const codegen::CudaStage& stage = flow_.stages[i];
    const unsigned per_block = static_cast<unsigned>(stage.per_block);
    const int capacity = stage.pages == 1 ? a.capacity : (a.capacity + stage.pages - 1) / stage.pages + 1;
    const unsigned blocks = (positive(capacity, "capacity") + per_block - 1) / per_block;
    unsigned threads = static_cast<unsigned>(stage.threads);
    device::Extent3 grid{heads, sequences};
    if (stage.kind == compiler::StageKind::page) grid = {blocks, heads, sequences};
    if (threads == 0) {
      const unsigned warps = std::min(heads, kScoreWarps);
      threads = warps * 32, grid.y = (heads + warps - 1) / warps;
      // Up to four tiles a block, as long as there are blocks for the whole device.
      for (int halving = 0; halving < 2 && (grid.x + 1) / 2 * grid.y * grid.z >= kBlocksOfADevice; ++halving)
        grid.x = (grid.x + 1) / 2;
    }
    stream.launch(module_->kernel(stage.kernel), grid, {threads}, a, 0, start_of(grid.x * grid.y * grid.z));
  }
}

void CudaFlowKernels::score_pages(device::Stream& stream, const CudaLayer& layer, std::span<const vortex_field> fields,
                                  const CudaScores& scores) const {
  put_stages(stream, arguments(layer, fields, scores), layer.batch.sequences, flow_.stages.size());
}

void CudaFlowKernels::score(device::Stream& stream, const CudaLayer& layer, std::span<const vortex_field> fields,
                            const CudaScores& scores) const {
  const cuda::FlowArguments a = arguments(layer, fields, scores);
  put_stages(stream, a, layer.batch.sequences, flow_.stages.size());
  stream.launch(module_->kernel("finish_scores"),
                {positive(a.shape.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")}, {kThreads}, a);
}

// Few rows: a device has more blocks than rows, and launches are dearer than a block that waits.
bool CudaFlowKernels::selects_with_score(const CudaLayer& layer, const CudaScores& scores) const {
  return scores.arrivals != nullptr && flow_.selects_with_score && scores.capacity <= kMostOfABlock &&
         layer.batch.sequences * layer.geometry.kv_heads <= kFewRows;
}

void CudaFlowKernels::put_score_and_select(device::Stream& stream, const CudaLayer& layer,
                                           std::span<const vortex_field> fields, const CudaScores& scores,
                                           const CudaSelection& to, const cuda::PrepareArguments& prepare) const {
  const unsigned heads = positive(layer.geometry.kv_heads, "kv_heads");
  const unsigned sequences = positive(layer.batch.sequences, "sequences");
  // A cluster a row, while every block finds a multiprocessor of its own.
  const std::int64_t row_shared = 4 * (kMostOfABlock + workspace_floats(scores.capacity));
  if (prepare.qkv != nullptr && row_shared <= kMostRowShared) {
    for (const unsigned blocks : {8U, 4U, 2U}) {
      if (blocks * heads * sequences > row_blocks_) continue;
      const cuda::ScoreFlowArguments a{arguments(layer, fields, scores),
                                       select_arguments(layer.geometry, layer.batch, scores, to), prepare, nullptr,
                                       static_cast<int>(blocks)};
      stream.launch(module_->kernel("score_row"), {blocks * heads * sequences}, {kRowThreads}, a,
                    static_cast<unsigned>(std::max(row_shared, kSharedBytes + 2048)), device::Start::early, blocks);
      return;
    }
  }
  // Up to four tiles a warp, as long as there are blocks for the whole device.
  unsigned chunks = (positive(scores.capacity, "capacity") + kScoreWarps * 16 - 1) / (kScoreWarps * 16);
  for (int halving = 0; halving < 2 && (chunks + 1) / 2 * heads * sequences >= kBlocksOfADevice; ++halving)
    chunks = (chunks + 1) / 2;
  const cuda::ScoreFlowArguments a{arguments(layer, fields, scores),
                                   select_arguments(layer.geometry, layer.batch, scores, to), prepare, scores.arrivals,
                                   static_cast<int>(chunks)};
  put_stages(stream, a.flow, layer.batch.sequences, flow_.stages.size() - 1);
  stream.launch(module_->kernel("score_and_select"), {chunks + (prepare.qkv == nullptr ? 0 : 1), heads, sequences},
                {kScoreWarps * 32}, a, 0, start_of(chunks * heads * sequences));
}

void CudaFlowKernels::select(device::Stream& stream, const CudaLayer& layer, std::span<const vortex_field> fields,
                             const CudaScores& scores, const CudaSelection& to) const {
  if (selects_with_score(layer, scores)) return put_score_and_select(stream, layer, fields, scores, to, {});
  const cuda::SelectFlowArguments a{arguments(layer, fields, scores),
                                    select_arguments(layer.geometry, layer.batch, scores, to), kept_lists(layer)};
  put_stages(stream, a.flow, layer.batch.sequences, flow_.stages.size());
  const unsigned heads = positive(layer.geometry.kv_heads, "kv_heads");
  const unsigned sequences = positive(layer.batch.sequences, "sequences"), rows = heads * sequences;
  const RowTeam team = flow_.any_team ? row_team(rows, scores.capacity, multiprocessors_) : RowTeam{};
  stream.launch(module_->kernel(team.kernel), {heads, sequences}, {team.threads}, a, 0, start_of(rows));
}

void CudaFlowKernels::prepare_and_select(device::Stream& stream, const CudaLayer& layer,
                                         std::span<const vortex_field> fields, const CudaNewTokens& from,
                                         const CudaScores& scores, const CudaSelection& to) const {
  if (selects_with_score(layer, scores) && flow_.prepares_with_score)
    return put_score_and_select(stream, layer, fields, scores, to, prepare_arguments(layer, from));
  prepare(stream, layer, fields, from);
  select(stream, layer, fields, scores, to);
}

cuda::PrepareArguments CudaFlowKernels::prepare_arguments(const CudaLayer& layer, const CudaNewTokens& from) const {
  VORTEX_CHECK(layer.geometry.head_dim % 2 == 0 && layer.geometry.group <= 30, "head_dim ", layer.geometry.head_dim,
               ", group ", layer.geometry.group);
  VORTEX_CHECK(from.qkv != nullptr, "new tokens without q, k and v");
  return {from.qkv,    from.stride,   from.bias,    from.q_norm,
          from.k_norm, from.rotation, from.epsilon, const_cast<float*>(layer.q)};
}

void CudaFlowKernels::prepare(device::Stream& stream, const CudaLayer& layer, std::span<const vortex_field> fields,
                              const CudaNewTokens& from) const {
  const cuda::PrepareFlowArguments a{arguments(layer, fields), prepare_arguments(layer, from)};
  stream.launch(module_->kernel("prepare"),
                {positive(layer.geometry.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")},
                {(positive(layer.geometry.group, "group") + 2) * 32}, a, 0, device::Start::early);
}

device::Source CudaChain::source() {
  return {.name = "chain",
          .text = std::string(device_source("attention/cuda/chain.cuh")),
          .headers =
              own_headers({"attention/cuda/chain_arguments.h", "attention/cuda/plan.cuh", "attention/cuda/select.cuh"}),
          .kernels = {"append", "plan", "select_pages", "attend_split", "attend_merge"}};
}

int CudaChain::ring_slots(const vortex_geometry& g, std::string_view architecture, vortex_dtype kv) {
  if (architecture != "sm_90a") return 0;
  if (g.head_dim > 128 || (16 % g.page_size != 0 && g.page_size % 16 != 0)) return 0;
  if (kv_scale_bytes(kv) * g.page_size % 16 != 0) return 0;  // a page's scales are copied at once
  return static_cast<int>(std::min<std::int64_t>((kRingShared - 2 * sum_bytes(g)) / slot_bytes(g, kv), 6));
}

device::Source CudaChain::attend_source(const vortex_geometry& g, std::string_view architecture, vortex_dtype kv) {
  if (g.head_dim % 64 != 0 || g.group > 16 || g.head_dim > 256) {
    throw UserError(
        "attend", "head_dim 64, 128, 192 or 256 and at most 16 query heads a KV head were required of the tuned kernel",
        concat("head_dim ", g.head_dim, ", group ", g.group), "use the plain kernel");
  }
  std::vector<std::string> kernels = {"attend_splits", "join_runs"};
  std::string include = "attend.cuh";
  const int slots = ring_slots(g, architecture, kv);
  if (slots > 0) {
    kernels.insert(kernels.end(), {"attend_ring", "attend_2x16", "attend_8x4"});
    include = "attend_cluster.cuh";
  }
  return {.name = "attend",
          .text = concat(kv_text(kv), "#define VORTEX_GROUP ", g.group, "\n#define VORTEX_HEAD_DIM ", g.head_dim,
                         "\n#define VORTEX_PAGE ", g.page_size, "\n#define VORTEX_SLOTS ", slots,
                         "\n#define VORTEX_TEAMS ", ring_teams(g), "\n#include \"attention/cuda/", include, "\"\n"),
          .headers = own_headers({"attention/cuda/chain_arguments.h", "attention/cuda/attend_tile.cuh",
                                  "attention/cuda/attend.cuh", "attention/cuda/attend_ring.cuh",
                                  "attention/cuda/attend_cluster.cuh"}),
          .kernels = kernels};
}

CudaChain::CudaChain(device::Device& device) : module_(device.load(source())) {}
CudaChain::CudaChain(device::Device& device, const vortex_geometry& tuned, vortex_dtype kv)
    : module_(device.load(source())),
      tuned_(tuned),
      kv_(kv),
      slots_(ring_slots(tuned, device.architecture(), kv)),
      multiprocessors_(device.multiprocessors()) {
  attend_ = device.load(attend_source(tuned, device.architecture(), kv));
}

void CudaChain::append(device::Stream& stream, const CudaLayer& layer, const float* k, const float* v,
                       std::int64_t stride) const {
  const KvPlanes planes = planes_of(layer.kv, VORTEX_BFLOAT16);
  const cuda::AppendArguments a{shape_of(layer.geometry), planes.k, planes.v, batch_of(layer.batch), k, v, stride};
  stream.launch(module_->kernel("append"),
                {positive(a.shape.kv_heads, "kv_heads"), positive(layer.batch.sequences, "sequences")}, {kThreads}, a);
}

void CudaChain::plan(device::Stream& stream, const vortex_batch& batch, const ir::FlowConfig* config, int page_size,
                     const int* dense_until, cuda::SequencePlan* plans) const {
  const cuda::PlanArguments a = plan_arguments(batch, config, page_size, dense_until, plans);
  stream.launch(module_->kernel("plan"), {(positive(a.sequences, "sequences") + kThreads - 1) / kThreads}, {kThreads},
                a);
}

void CudaChain::select(device::Stream& stream, const vortex_geometry& geometry, const vortex_batch& batch,
                       const CudaScores& scores, const CudaSelection& to) const {
  const cuda::SelectArguments a = select_arguments(geometry, batch, scores, to);
  stream.launch(module_->kernel("select_pages"),
                {positive(geometry.kv_heads, "kv_heads"), positive(batch.sequences, "sequences")}, {kSelectThreads}, a);
}

void CudaChain::attend(device::Stream& stream, const CudaLayer& layer, const CudaLists& lists, std::int64_t longest,
                       float* partial, const CudaOutput& output) const {
  const vortex_geometry& g = layer.geometry;
  const bool tuned = attend_ != nullptr;
  const std::int64_t shared = tuned ? 0 : static_cast<std::int64_t>(g.group) * (g.head_dim + kSplit) * 4;
  if (shared > kSharedBytes) {
    throw UserError("attend",
                    concat("at most ", kSharedBytes / 4, " numbers of q and weights a block are supported on CUDA"),
                    concat("group ", g.group, " · (head_dim ", g.head_dim, " + ", kSplit, ") = ", shared / 4),
                    "run this model on the cpu");
  }
  VORTEX_CHECK(!tuned || (g.group == tuned_.group && g.head_dim == tuned_.head_dim && g.page_size == tuned_.page_size),
               "attend for group ", tuned_.group, ", head_dim ", tuned_.head_dim, ", page_size ", tuned_.page_size);
  VORTEX_CHECK(tuned || output.operand == nullptr, "the plain kernel writes float32");
  cuda::AttendArguments a{};
  a.shape = shape_of(g);
  const KvPlanes planes = planes_of(layer.kv, kv_);
  a.k = planes.k, a.v = planes.v;
  a.pages = lists.pages, a.stride = lists.stride, a.tokens = lists.tokens, a.lists_of_rows = lists.of_rows ? 1 : 0;
  a.rest = lists.rest;
  a.q = layer.q, a.q_stride = layer.q_stride;
  a.rows = layer.batch.sequences * g.kv_heads;
  a.partial = partial, a.splits = static_cast<int>(splits(longest));
  a.out = output.out, a.operand = output.operand, a.operand_rows = output.operand_rows;
  const unsigned heads = positive(g.kv_heads, "kv_heads"), count = positive(layer.batch.sequences, "sequences");
  if (tuned) return put_tuned(stream, a);
  const device::Extent3 grid{positive(a.splits, "splits"), heads, count};
  stream.launch(module_->kernel("attend_split"), grid, {static_cast<unsigned>(kSplit)}, a,
                static_cast<unsigned>(shared));
  stream.launch(module_->kernel("attend_merge"), {heads * positive(g.group, "group"), count}, {kThreads}, a);
}

// Measured on an H200; the answer is the same whichever kernel serves.
void CudaChain::put_tuned(device::Stream& stream, cuda::AttendArguments a) const {
  const vortex_geometry& g = tuned_;
  const unsigned splits = positive(a.splits, "splits"), rows = positive(a.rows, "rows");
  const unsigned heads = static_cast<unsigned>(g.kv_heads), sequences = rows / heads;
  const unsigned runs = (splits + kRun - 1) / kRun, fills = static_cast<unsigned>(multiprocessors_);
  VORTEX_CHECK(slots_ == 0 || (a.k.token_stride == g.head_dim && a.v.token_stride == g.head_dim), "token strides ",
               a.k.token_stride, ", ", a.v.token_stride);
  if (const Cluster cluster = slots_ > 0 ? cluster_of(g, kv_, splits, rows, fills) : Cluster{}; cluster.blocks > 0) {
    stream.launch(attend_->kernel(cluster.kernel), {cluster.blocks, heads, sequences}, {cluster.warps * 32}, a,
                  cluster.shared_bytes(g, kv_), device::Start::early);
    return;
  }
  a.parts_of_runs = slots_ > 0 && splits * rows > 2 * fills ? 1 : 0;
  if (a.parts_of_runs == 0) {
    stream.launch(attend_->kernel("attend_splits"), {splits, heads, sequences}, {8 * 32}, a,
                  static_cast<unsigned>(sum_bytes(g)), device::Start::early);
  } else {
    // Rows of a block's own, many of them: see start_of.
    const bool after = runs == 1 && rows >= 2 * fills;
    stream.launch(attend_->kernel("attend_ring"), {std::min(runs * rows, fills)}, {ring_threads(g)}, a,
                  static_cast<unsigned>(slots_ * slot_bytes(g, kv_) + 2 * sum_bytes(g) + 128),
                  after ? device::Start::after : device::Start::early);
  }
  if ((a.parts_of_runs != 0 ? runs : splits) > 1)
    stream.launch(attend_->kernel("join_runs"), {heads * static_cast<unsigned>(g.group * g.head_dim / 64), sequences},
                  {8 * 32}, a, 0, device::Start::early);
}

std::int64_t CudaChain::partial_floats(const vortex_geometry& g, int sequences, std::int64_t longest) {
  return static_cast<std::int64_t>(sequences) * g.kv_heads * splits(longest) * g.group * (g.head_dim + 2);
}

}  // namespace vortex::attention
