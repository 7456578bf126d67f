#include "compiler/price.h"

#include <vortex/error.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "base/arithmetic.h"
#include "base/check.h"
#include "base/text.h"
#include "compiler/passes/schedule.h"
#include "ir/op.h"
#include "ir/rows.h"

namespace vortex::compiler {

namespace {

std::int64_t bytes_of(ir::DType dtype) { return dtype == ir::DType::bf16 ? 2 : 4; }

std::int64_t elements(const std::map<std::string, ir::Extent>& axes, const ir::Geometry& geometry) {
  std::int64_t count = 1;
  for (const auto& [name, extent] : axes) {
    std::optional<std::int64_t> size = ir::bind(extent, geometry);
    VORTEX_CHECK(size.has_value(), "axis ", name);
    count *= *size;
  }
  return count;
}

std::int64_t elements(const ir::Type& type, const ir::Geometry& geometry) {
  std::map<std::string, ir::Extent> axes;
  for (const ir::Axis& axis : type.axes) axes[axis.name] = axis.extent;
  return elements(axes, geometry);
}

// Operations of one instance of a node: an operation for each element it makes or sums over.
double operations(const Plan& plan, const ir::Node& node) {
  switch (node.op->kind) {
    case ir::OpKind::source:
    case ir::OpKind::shape:
    case ir::OpKind::domain:
      return 0;
    case ir::OpKind::list:
      return 1;
    case ir::OpKind::elementwise:
      return static_cast<double>(elements(node.type, plan.geometry));
    case ir::OpKind::reduction:
      return static_cast<double>(elements(plan.program.node(node.inputs[0]).type, plan.geometry));
    case ir::OpKind::selection:
    case ir::OpKind::along:  // the largest or the sum of all, and one more for each element
      return 2.0 * static_cast<double>(elements(node.type, plan.geometry));
    case ir::OpKind::contraction: {
      std::map<std::string, ir::Extent> joint;
      for (ir::ValueId input : node.inputs)
        for (const ir::Axis& axis : plan.program.node(input).type.axes) joint[axis.name] = axis.extent;
      return 2.0 * static_cast<double>(elements(joint, plan.geometry));
    }
  }
  return 0;
}

// Operations of a node that are not over when what it reads has been read.
double loose_operations(const Plan& plan, const ir::Node& node) {
  if (node.op->kind == ir::OpKind::domain) return static_cast<double>(elements(node.type, plan.geometry));
  if (node.op->kind == ir::OpKind::contraction && ir::axis_of(node) != "page")
    for (ir::ValueId input : node.inputs)
      if (is_read_again(plan.program, input)) return 0;
  return operations(plan, node);
}

// How many instances of each domain a row has, as the settings and the numbers of the flow say; of a set at most.
class Instances {
 public:
  Instances(const Plan& plan, const ir::RowPages& row, const ir::Environment& environment)
      : program_(plan.program), row_(row), full_(environment.tokens / plan.geometry.page_size) {
    const ir::SourceContext context{.environment = environment};
    ir::Tensor number{{}, {0.0}};
    for (const ir::Node& node : program_.nodes) {  // numbers known before a row is scored
      numbers_.emplace_back();
      std::optional<double>& value = numbers_.back();
      if (!node.type.axes.empty() || node.type.domain.has_instances() || node.type.dtype == ir::DType::set) continue;
      if (node.op->name == "seq_left") {
        value = static_cast<double>(row.chosen);
      } else if (node.op->of_sequence) {
        node.op->source(context, node, number);
        value = number.data[0];
      } else if (node.op->scalar != nullptr) {
        std::vector<double> operands;
        for (ir::ValueId input : node.inputs)
          if (const auto& operand = numbers_[static_cast<std::size_t>(input)]) operands.push_back(*operand);
        if (operands.size() == node.inputs.size()) value = node.op->scalar(operands, node.attributes);
      }
    }
    for (const ir::Node& node : program_.nodes) {
      const bool set = node.type.dtype == ir::DType::set && node.type.domain.has_instances();
      most_.push_back(set ? members_of(node) : 0);
    }
  }

  std::int64_t of(const ir::Domain& domain) const {
    if (domain.kind == ir::Domain::Kind::in_set)
      return most(program_.node(static_cast<ir::ValueId>(domain.set)).inputs[0]);
    if (domain.pages > 1) return ir::groups_of(domain.pages, row_.first, row_.candidates, full_).count;
    return row_.candidates;
  }

  // Members of a set at most.
  std::int64_t most(ir::ValueId set) const { return most_[static_cast<std::size_t>(set)]; }

 private:
  // Of sets that stand before.
  std::int64_t members_of(const ir::Node& node) const {
    const std::string& name = node.op->name;
    std::int64_t out = of(program_.node(node.inputs[0]).type.domain);
    if (name == "both") out = std::min(most(node.inputs[0]), most(node.inputs[1]));
    if (name == "either") out = most(node.inputs[0]) + most(node.inputs[1]);
    if (name == "spread") {  // with the pages of the group that is not full
      const std::int64_t ratio = program_.node(node.inputs[0]).type.domain.pages / node.type.domain.pages;
      out = most(node.inputs[0]) * ratio + (ir::number_of(node.attributes, "other") != 0.0 ? ratio - 1 : 0);
    }
    const bool counts = node.op->kind == ir::OpKind::selection && name != "top_p";
    if (counts || name == "first" || name == "last")
      if (const auto& amount = numbers_[static_cast<std::size_t>(node.inputs[1])])
        out = std::min(out, static_cast<std::int64_t>(std::clamp(*amount, 0.0, 1e9)));
    return std::min(out, of(node.type.domain));
  }

  const ir::Program& program_;
  ir::RowPages row_;
  std::int64_t full_;
  std::vector<std::optional<double>> numbers_;
  std::vector<std::int64_t> most_;
};

double state_elements(const Plan& plan, const ir::State& state) {
  return static_cast<double>(elements(ir::reader_of(plan.program, state.name)->type, plan.geometry));
}

StagePrice price_of(const Plan& plan, const Stage& stage, const Instances& instances) {
  StagePrice out{stage.kind, 0, 0, 0};
  auto count = [&](ir::ValueId id) { return static_cast<double>(elements(plan.program.node(id).type, plan.geometry)); };
  const auto stored = static_cast<double>(bytes_of(plan.program.config.summary_dtype));
  const bool summarizes = stage.kind == StageKind::summarize;
  std::map<ir::ValueId, double> counted;  // instances by the list of a set; -n: of groups or pages
  auto instances_of = [&](const ir::Domain& domain) {
    const auto [found, fresh] =
        counted.try_emplace(static_cast<ir::ValueId>(domain.set >= 0 ? domain.set : -domain.pages));
    if (fresh) found->second = static_cast<double>(instances.of(domain));
    return found->second;
  };
  // How often a node is made in a row: over pages where it, or what it reads, differs from page to page.
  auto times = [&](const ir::Node& node) {
    if (summarizes) return 1.0;
    if (node.type.domain.has_instances()) return instances_of(node.type.domain);
    for (ir::ValueId input : node.inputs)
      if (const ir::Domain& domain = plan.program.node(input).type.domain; domain.has_instances())
        return instances_of(domain);
    return 1.0;
  };
  for (ir::ValueId id : stage.nodes) {
    const ir::Node& node = plan.program.node(id);
    out.operations += times(node) * operations(plan, node);
    out.loose_operations += times(node) * loose_operations(plan, node);
    if (is_read_again(plan.program, id) && plan.program.node(source_of(plan.program, id)).op->name == "summary")
      out.read_bytes += times(node) * count(id) * stored;
    if (node.op->phase == ir::Phase::summarize) out.read_bytes += 2 * count(id);  // keys and values
    if (ir::is_state(node)) out.read_bytes += times(node) * count(id) * 4;
    for (const ir::State& state : plan.program.states)
      if (state.value == id) out.kept_bytes += times(node) * state_elements(plan, state) * 4;
    if (node.op->name == "q") out.read_bytes += 4 * count(id);
    if (ir::is_parameter(node) && !summarizes) out.parameter_bytes += 4 * count(id);
  }
  if (summarizes) {
    for (ir::ValueId id : stage.outputs) out.kept_bytes += count(id) * stored;
    return out;
  }
  for (const std::vector<ir::ValueId>* crossing : {&stage.inputs, &stage.outputs})
    for (ir::ValueId id : *crossing)
      if (plan.program.node(id).type.domain.has_instances())
        out.kept_bytes += 4 * count(id) * times(plan.program.node(id));
  return out;
}

void check(const Plan& plan, const Workload& work) {
  auto require = [](bool holds, const std::string& required, const std::string& came) {
    if (!holds) throw UserError("price", required, came, "change the workload");
  };
  for (auto [name, value] : {std::pair{"layers", work.layers},
                             {"heads", work.heads},
                             {"kv_heads", work.kv_heads},
                             {"head_dim", work.head_dim},
                             {"context", work.context},
                             {"batch", work.batch}})
    require(value >= 1 && value <= 1 << 30, concat(name, " from 1 to ", 1 << 30), concat("got ", value));
  require(work.token_bytes >= 0 && work.token_bytes <= 1 << 30, concat("token_bytes from 0 to ", 1 << 30),
          concat("got ", work.token_bytes));
  require(work.heads % work.kv_heads == 0, "kv_heads that divides heads",
          concat("got ", work.kv_heads, " of ", work.heads));
  require(work.head_dim == plan.geometry.head_dim && work.heads / work.kv_heads == plan.geometry.group,
          concat("the plan's geometry, head_dim ", plan.geometry.head_dim, " and group ", plan.geometry.group),
          concat("got head_dim ", work.head_dim, " and group ", work.heads / work.kv_heads));
}

}  // namespace

double Price::attention_speedup() const { return full_attention_bytes / (score_bytes + attend_bytes); }
double Price::step_speedup() const {
  return (weight_bytes + full_attention_bytes) / (weight_bytes + score_bytes + attend_bytes);
}

Roofline roofline(const Price& price, const Device& device) {
  if (!(device.bytes_per_second > 0) || !(device.operations_per_second >= 0)) {
    throw UserError("roofline", "a device that reads more than 0 bytes a second, and operations of 0 or more",
                    concat("got ", device.bytes_per_second, " and ", device.operations_per_second),
                    "give what the device can do at most");
  }
  auto least = [&](double bytes, double operations) {
    const double by_operations = device.operations_per_second > 0 ? operations / device.operations_per_second : 0.0;
    return std::max(bytes / device.bytes_per_second, by_operations);
  };
  return {.score = least(price.score_bytes, price.score_operations),
          .select = least(price.select_bytes, price.select_bytes / 4),
          .attend = least(price.attend_bytes, price.attend_operations),
          .linears = least(price.weight_bytes, price.weight_operations),
          .full_attention = least(price.full_attention_bytes, price.full_attention_operations)};
}

namespace {

// A flow in the layers that are its own.
struct Share {
  const Plan* plan;
  ir::RowRule rule;
  std::int64_t layers = 0, scoring_layers = 0, candidates = 0;
  std::int64_t choosing_layers = 0;  // those that attend a set of this flow, their own or an earlier layer's
  std::int64_t summary_bytes_per_page = 0, own_bytes_per_page = 0;  // of pages and groups; of pages alone
  std::vector<StagePrice> stages = {};
  double row_bytes = 0, row_operations = 0;  // of one row of a layer that scores
  double loose_operations = 0;
  double parameter_bytes = 0;              // of one KV head of such a layer, once for all rows
  std::unique_ptr<Instances> scored = {};  // of such a row

  explicit Share(const Plan& of) : plan(&of), rule(of.program) {
    for (const ir::Summary& summary : of.program.summaries) {
      const ir::Type& type = of.program.node(summary.value).type;
      const std::int64_t bytes = elements(type, of.geometry) * bytes_of(of.program.config.summary_dtype);
      summary_bytes_per_page += bytes;
      if (type.domain.pages == 1) own_bytes_per_page += bytes;
    }
  }

  void price_stages() {
    const Instances nothing(*plan, {}, {.geometry = plan->geometry});
    for (const Stage& stage : plan->stages) {
      const bool idle = stage.kind != StageKind::summarize && scored == nullptr;
      const StagePrice at = idle ? StagePrice{stage.kind} : price_of(*plan, stage, scored ? *scored : nothing);
      if (stage.kind != StageKind::summarize) {  // that is once a page, not once a step
        if (stage.kind != StageKind::row) row_bytes += at.read_bytes;
        row_operations += at.operations;
        loose_operations += at.loose_operations;
        parameter_bytes += at.parameter_bytes;
      }
      stages.push_back(at);
    }
  }

  // Of one row: each state as it is and as it will be.
  std::int64_t state_bytes(std::int64_t pages) const {
    std::int64_t bytes = 0;
    for (const ir::State& state : plan->program.states) {
      const bool of_pages = ir::reader_of(plan->program, state.name)->type.domain.kind == ir::Domain::Kind::page;
      bytes += 2 * 4 * static_cast<std::int64_t>(state_elements(*plan, state)) * (of_pages ? pages : 1);
    }
    return bytes;
  }
};

}  // namespace

Price price(const Plan& plan, const Workload& work) {
  check(plan, work);
  const ir::FlowConfig& config = plan.program.config;
  const std::int64_t page_size = plan.geometry.page_size, refresh = config.refresh_every;
  Price out;
  out.pages = ceil_div(work.context, page_size);
  std::vector<Share> shares;
  shares.emplace_back(plan);
  for (const LayerPlan& other : plan.others) shares.emplace_back(*other.plan);
  auto share_of = [&](std::int64_t layer) -> Share& {
    for (std::size_t i = 0; i < plan.others.size(); ++i)
      if (std::binary_search(plan.others[i].layers.begin(), plan.others[i].layers.end(), layer)) return shares[i + 1];
    return shares[0];
  };
  // Layers that select: a budget that covers every page leaves nothing to choose, and nothing is scored.
  std::int64_t sparse_layers = 0, attended = 0, newer = 0;
  for (std::int64_t layer = 0; layer < work.layers; ++layer) {
    ++share_of(layer).layers;
    if (config.is_full(layer)) continue;
    const std::int64_t source = config.source_of(layer);
    Share& share = share_of(source);
    const ir::Program& program = share.plan->program;
    const ir::Environment environment{
        .geometry = plan.geometry, .tokens = work.context, .step = 0, .layer = source, .layers = work.layers};
    const ir::RowPages row = share.rule(program.config, environment);
    ++sparse_layers;
    attended += row.selects() && program.selection >= 0
                    ? row.pages - row.candidates + Instances(*share.plan, row, environment).most(program.selection)
                    : row.attended;
    if (!row.selects() && program.states.empty()) continue;
    if (row.selects()) newer += refresh - 1;  // halves of a token: since a choice n steps ago, 0 to n - 1 have come
    if (program.chooses() && row.selects()) ++share.choosing_layers;
    if (!program.chooses() || source != layer) continue;
    ++share.scoring_layers;
    share.candidates = row.candidates;
    share.scored = std::make_unique<Instances>(*share.plan, row, environment);
  }
  // Of a layer, on average. The last page is always attended, and only it may be partly filled.
  const std::int64_t open = out.pages * page_size - work.context;
  out.attended_pages = sparse_layers > 0 ? (attended + sparse_layers / 2) / sparse_layers : out.pages;
  out.attended_tokens = out.attended_pages * page_size - open;

  const std::int64_t channels = work.head_dim + plan.geometry.value_channels();
  const std::int64_t stored_bytes = work.token_bytes > 0 ? work.token_bytes : 2 * channels;
  out.kv_bytes_per_page = page_size * stored_bytes;
  out.candidates = shares[0].candidates;
  out.summary_bytes_per_page = shares[0].summary_bytes_per_page;
  const std::int64_t all_rows = work.layers * work.kv_heads;
  if (refresh > 1) out.carried_bytes_per_sequence = (all_rows * (out.pages + 1) + work.layers) * 4;

  const auto rows = static_cast<double>(work.batch * work.kv_heads);
  double summary_bytes = 0;  // of one page and KV head in all layers
  for (Share& share : shares) {
    share.price_stages();
    const double scored_rows = rows * static_cast<double>(share.scoring_layers) / static_cast<double>(refresh);
    out.score_bytes += scored_rows * share.row_bytes;
    out.score_bytes += scored_rows / static_cast<double>(work.batch) * share.parameter_bytes;
    out.flat_score_bytes += rows * static_cast<double>(share.choosing_layers * share.candidates) *
                            static_cast<double>(share.own_bytes_per_page);
    out.score_operations += scored_rows * share.row_operations;
    out.loose_score_operations += scored_rows * share.loose_operations;
    out.select_bytes += scored_rows * static_cast<double>(share.candidates) * 4;
    out.carried_bytes_per_sequence += all_rows * share.state_bytes(out.pages);
    summary_bytes += static_cast<double>(share.layers) * static_cast<double>(share.summary_bytes_per_page);
    if (&share != &shares[0]) out.other_stages.push_back(std::move(share.stages));
  }
  out.stages = std::move(shares[0].stages);
  const auto token_bytes = static_cast<double>(stored_bytes);
  const auto context = static_cast<double>(work.context);
  out.full_attention_bytes = rows * static_cast<double>(work.layers) * context * token_bytes;
  out.attend_bytes =
      rows * token_bytes *
      (static_cast<double>(newer) / 2 + static_cast<double>(attended * page_size - sparse_layers * open) +
       static_cast<double>(work.layers - sparse_layers) * context);
  out.weight_bytes = static_cast<double>(work.weight_bytes);
  // A multiplication and an addition for each channel of a key and of a value, for each query head of the group.
  const double operations_per_byte =
      static_cast<double>(plan.geometry.group) * 2 * static_cast<double>(channels) / token_bytes;
  out.attend_operations = out.attend_bytes * operations_per_byte;
  out.full_attention_operations = out.full_attention_bytes * operations_per_byte;
  out.weight_operations = 2.0 * static_cast<double>(work.weights) * static_cast<double>(work.batch);
  const double page_rows = rows * static_cast<double>(out.pages);
  const double pool_bytes =
      page_rows * (static_cast<double>(work.layers) * static_cast<double>(out.kv_bytes_per_page) + summary_bytes);
  if (pool_bytes > 4e18)
    throw UserError("price", "a workload whose pool is at most 4e18 bytes", concat("got ", pool_bytes),
                    "change the workload");
  out.summary_pool_bytes = static_cast<std::int64_t>(page_rows * summary_bytes);
  out.kv_pool_bytes = work.batch * work.kv_heads * work.layers * out.pages * out.kv_bytes_per_page;
  return out;
}

}  // namespace vortex::compiler
