// Decides which values a stage holds in shared memory, then prints a loop for each; everything elementwise between them
// is straight-line code (scope.h).
#include "codegen/cuda/stage.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "codegen/cuda/scope.h"

namespace vortex::codegen {

namespace {

using compiler::Stage;
using compiler::StageKind;
using ir::Node;
using ir::OpKind;
using ir::ValueId;

constexpr int kPlacesOfARow = 512;  // of reduce_rows in flow.cuh
constexpr int kBlock = 128, kWarpsPerBlock = 4, kSetPagesAWarp = 16;
constexpr std::int64_t kMostWeighed = 256;         // elements of a page's value that is added up over the pages
constexpr std::int64_t kSharedFloats = 11 * 1024;  // of a block, beside the 32 of its sums

std::string shared_name(const std::string& function) {
  return function == "summarize" ? "kSummarizeFloats" : "kFinishFloats";
}

class StagePrinter {
 public:
  StagePrinter(const CudaLayout& layout, const Stage& stage, std::string name, bool is_last,
               const std::set<ValueId>& made, std::map<std::string, std::string>& primitives)
      : layout_(layout),
        plan_(layout.plan()),
        stage_(stage),
        name_(std::move(name)),
        made_(made),
        primitives_(primitives) {
    is_function_ = is_last || stage.kind == StageKind::summarize;
    if (stage.kind == StageKind::page) {  // every long loop is a product: candidates go by tiles
      for (const ValueId value : stage.nodes) {
        if (layout.product_of(value)) {
          by_tiles_ = true;
        } else if (layout.is_long(plan_.program.node(value))) {
          by_tiles_ = false;
          break;
        }
      }
    }
    const std::set<ValueId> outputs(stage.outputs.begin(), stage.outputs.end());
    for (const ValueId value : stage.nodes) {
      const Node& node = plan_.program.node(value);
      if (node.op->kind == OpKind::source || node.op->kind == OpKind::list) continue;
      const bool stored =
          stage.kind != StageKind::summarize && (value == layout.ranked() || layout.slot_of(value) || is_rest(value));
      if (layout.is_stored(node) || (stored && (outputs.contains(value) || is_rest(value)))) held_.push_back(value);
      if (layout.is_stored(node) && !stored) {
        shared_[value] = shared_floats_;
        shared_floats_ += elements_of(plan_, node.type);
      }
    }
    // Sources are read where they are used; only a score that is one is copied.
    if (outputs.contains(layout.ranked()) && this->node(layout.ranked()).op->kind == OpKind::source)
      held_.push_back(layout.ranked());
    read_ = [this](ValueId value, const Index& index) { return read(value, index); };
    if (in_set(stage.domain)) by_tiles_ = false;  // a warp passes over what is not in the set
    if (by_tiles_ && shared_floats_ * kTilePages * kMostTileWarps > kSharedFloats) by_tiles_ = false;
    if (shared_floats_ > kSharedFloats) {
      throw UserError(concat("flow ", plan_.program.name),
                      concat("at most ", kSharedFloats, " numbers held at once in a stage are supported on CUDA"),
                      concat("stage ", name_, " holds ", shared_floats_),
                      "use a smaller page_size, or run the flow on the cpu");
    }
  }

  PrintedStage print() {
    PrintedStage out;
    const bool page = stage_.kind == StageKind::page;
    const bool stores = is_function_ && stage_.kind != StageKind::summarize && !layout_.states().empty();
    if (held_.empty() && stage_.kind != StageKind::summarize && !stores) return out;  // it hands on sources only
    warps_ = static_cast<int>(
        std::clamp<std::int64_t>(kSharedFloats / std::max<std::int64_t>(shared_floats_, 1), 1, kWarpsPerBlock));
    const bool of_set = page && in_set(stage_.domain);
    if (of_set) inside_ = inside_of(stage_.domain);
    for (const ValueId value : held_) print_value(value);
    if (stage_.kind == StageKind::summarize) print_fields();
    if (stores) print_states();
    out.text = concat("\n", header(), prologue(), body_, by_tiles_ ? "  }\n}\n" : of_set ? "  }\n  }\n}\n" : "}\n");
    out.by_tiles = by_tiles_, out.reads_q = uses_q_, out.weighs_pages = weighs_pages_, out.any_team = !by_team_;
    out.shared_floats = shared_floats_;
    out.shared_bytes = shared_floats_ * (by_tiles_ ? kTilePages : 1) * kMostTileWarps * 4 + shared_of_rows_;
    if (is_function_) return out;
    if (by_tiles_) {
      out.text += tiles_kernel();
      out.kernel = {stage_.kind, name_, 0, kTilePages, static_cast<int>(stage_.domain.pages)};
    } else {
      out.kernel = {stage_.kind, name_, page ? warps_ * kWarp : kBlock,
                    page ? warps_ * (of_set ? kSetPagesAWarp : 1) : 1,
                    page ? static_cast<int>(stage_.domain.pages) : 1};
    }
    return out;
  }

 private:
  // A team sees many candidates: a block all of the row, a warp a tile of them.
  bool many_pages() const { return stage_.kind == StageKind::finish || by_tiles_; }
  const Node& node(ValueId value) const { return plan_.program.node(value); }
  bool of_groups() const { return stage_.domain.pages > 1; }
  static bool in_set(const ir::Domain& domain) { return domain.kind == ir::Domain::Kind::in_set; }
  std::string count() const { return count_of(plan_, stage_.domain); }
  std::string first() const { return first_of(plan_, stage_.domain); }
  std::int64_t tokens() const { return tokens_of(plan_, stage_.domain); }
  bool is_rest(ValueId value) const { return value == plan_.program.rest_logit || value == plan_.program.rest_value; }

  std::string header() const {
    std::vector<std::string> held;
    for (const ValueId value : stage_.outputs)
      if (value == layout_.ranked() || node(value).op->kind != OpKind::source)
        held.push_back(concat("v", value, " ", ir::print(node(value).type)));
    std::string out = concat("// Makes ", join(held, ", "), ".\n");
    if (is_function_) {
      const bool finish = name_ == "finish";
      if (finish || name_ == "summarize")  // else what calls it says how much they need
        out += concat("constexpr int ", shared_name(name_), " = ", std::max<std::int64_t>(shared_floats_, 1), ";\n");
      return concat(out, finish ? "template <class Team, class Put>\n" : "", "__device__ inline void ", name_,
                    "(const FlowContext& c, const ", finish ? "Team" : "Block", "& team, float* shared",
                    finish ? ", const Put& put" : "", ") {\n");
    }
    if (by_tiles_) {
      out +=
          concat("// A warp: sixteen ", of_groups() ? "groups" : "candidates",
                 " from `from` on, and every `step` after them, below `to`.\n", "constexpr int ", name_,
                 "_floats = ", std::max<std::int64_t>(shared_floats_ * kTilePages, 1), ";\n__device__ inline void ",
                 name_, "_tiles(const FlowContext& c, const float* q, float* shared, int from, int to, int step) {\n");
      return out;
    }
    const char* grid = "kv_heads, sequences";
    if (stage_.kind == StageKind::page)
      grid = of_groups() ? "groups of a block, kv_heads, sequences; a warp a group"
                         : "candidates of a block, kv_heads, sequences; a warp a candidate";
    return concat(out, "// grid: ", grid, "\nextern \"C\" __global__ void ", name_,
                  "(FlowArguments a) {\n  let_next_start();\n  wait_for_earlier();\n");
  }

  // What asks for a stage's summaries ahead, and its kernel.
  std::string tiles_kernel() const {
    std::string fetched;
    for (const std::size_t field : product_fields_) {
      fetched += concat("  fetch_ahead<", layout_.fields()[field].elements * 2, ">(c, ", field, ", ",
                        plan_.geometry.page_size, ", last, from, to, step);\n");
    }
    if (!of_groups())
      fetched = concat("__device__ inline void ", name_,
                       "_ahead(const FlowContext& c, int last, int from, int to, int step) {\n", fetched, "}\n");
    return concat(of_groups() ? std::string() : fetched, "// grid: ", of_groups() ? "groups" : "candidates",
                  " of a block, kv_heads of a block, sequences; a warp a KV head\n",
                  "extern \"C\" __global__ void __launch_bounds__(", kMostTileWarps * kWarp, ", 2) ", name_,
                  "(FlowArguments a) {\n  __shared__ float shared[", kMostTileWarps, "][", name_,
                  "_floats];\n  let_next_start();\n  wait_for_earlier();\n  const TileWork work(a",
                  of_groups() ? concat(", ", stage_.domain.pages) : std::string(), ");\n",
                  "  if (work.head >= a.shape.kv_heads) return;\n",
                  "  const FlowContext c{a, a.plans[work.sequence], work.sequence, work.head, 0};\n",
                  layout_.states().empty() ? "  if (c.plan.chosen == c.plan.candidates) return;\n  "
                                           : "  if (c.plan.candidates == 0) return;\n  ",
                  name_, "_tiles(c, q_of(c), shared[threadIdx.x / 32], work.from, work.to, ", kTilePages, ");\n}\n");
  }

  std::string prologue() const {
    std::string out;
    const auto line = [&](const auto&... parts) { out += concat("  ", parts..., "\n"); };
    const bool page = stage_.kind == StageKind::page, summarize = stage_.kind == StageKind::summarize;
    if (is_function_) {
      line("const FlowArguments& a = c.arguments;");
      line("const int sequence = c.sequence, head = c.head;");
      if (summarize) line("const int page = c.page;");
      if (!uses_q_) line("static_cast<void>(sequence);");
      if (!uses_q_) line("static_cast<void>(head);");
      line("static_cast<void>(a);");
    } else if (by_tiles_) {
      line("const FlowArguments& a = c.arguments;");
      line("const Warp team;");
      line("const int sequence = c.sequence, head = c.head;");
      if (!uses_q_) line("static_cast<void>(q);");
      if (shared_floats_ == 0) line("static_cast<void>(shared);");
    } else if (page) {
      if (shared_floats_ > 0) line("__shared__ float shared_of_block[", warps_, "][", shared_floats_, "];");
      line("const Warp team;");
      line("const int sequence = blockIdx.z, head = blockIdx.y, ", in_set(stage_.domain) ? "first" : "page",
           " = blockIdx.x * ", warps_, " + threadIdx.x / 32;");
    } else {
      line("__shared__ float scratch[32];");
      if (shared_floats_ > 0) line("__shared__ float shared[", shared_floats_, "];");
      line("const BlockOf<", kBlock, "> team(scratch);");
      line("const int sequence = blockIdx.y, head = blockIdx.x;");
    }
    if (!is_function_ && !by_tiles_) {
      const bool of_page = page && !in_set(stage_.domain);
      line("const FlowContext c{a, a.plans[sequence], sequence, head, ", of_page ? "page" : "0", "};");
      std::vector<std::string> idle;
      if (layout_.states().empty()) idle.push_back("c.plan.chosen == c.plan.candidates");
      if (of_page) idle.push_back(concat("page >= ", count()));
      if (!idle.empty()) line("if (", join(idle, " || "), ") return;");
    }
    if (!summarize) {
      line("const int64 row = static_cast<int64>(sequence) * a.shape.kv_heads + head;");
      if (is_function_ || by_tiles_ || uses_workspace_) line("static_cast<void>(row);");
      if (uses_workspace_) line("float* const workspace = workspace_of(c);");
      if (uses_q_ && !by_tiles_) line("const float* const q = q_of(c);");
      std::int64_t of_pages = 0, of_rows = 0;
      for (std::size_t i = 0; i < layout_.states().size(); ++i) {
        const StateLayout& state = layout_.states()[i];
        if (used_states_.contains(i))
          line("const StateView state", i, " = state_of<", state.elements, ", ", state.of_pages ? "true" : "false",
               ", ", of_pages, ", ", of_rows, ">(c);");
        (state.of_pages ? of_pages : of_rows) += state.elements;
      }
    }
    if (!inside_.empty()) {  // a warp looks at 32 pages at once and works on those that are in the set
      line("const auto is_inside = ", inside_, ";");
      line("const int stride = gridDim.x * ", warps_, ", count = ", count(), ";");
      line("for (int begin = first; begin < count; begin += 32 * stride) {");
      line("const int own = begin + team.thread * stride;");
      line("unsigned members = __ballot_sync(0xffffffffu, own < count && is_inside(own));");
      line("for (; members != 0; members &= members - 1) {");
      line("const int page = begin + (__ffs(static_cast<int>(members)) - 1) * stride;");
    }
    if (page && shared_floats_ > 0 && !by_tiles_) line("float* const shared = shared_of_block[threadIdx.x / 32];");
    if (by_tiles_) {
      out += operands_;
      line("const int origin = ", first(), ", count = ", count(), ";");
      line("PageTile next(c, origin, count, from, ", tokens(), ");");
      line("for (int first = from; first < min(to, count); first += step) {");
      line("const int end = min(first + ", kTilePages, ", count);");
      line("static_cast<void>(end);");
      line("const PageTile tile = next;");
      line("next = PageTile(c, origin, count, first + step, ", tokens(), ");");
    } else if (page && !used_fields_.empty()) {
      line("const int physical = summary_page(c, ", first(), " + page, ", tokens(), ");");
      for (const std::size_t field : used_fields_)
        line("const ", element_type(field), "* const field", field, " = field_at<const ", element_type(field), ">(c, ",
             field, ", physical);");
    }
    return out;
  }

  const char* element_type(std::size_t field) const {
    const ir::DType dtype = layout_.fields()[field].dtype;
    VORTEX_CHECK(dtype == ir::DType::bf16 || dtype == ir::DType::f32, ir::name_of(dtype));
    return dtype == ir::DType::bf16 ? "BFloat16" : "float";
  }

  // The place of an element that is held; "" when the value is not held by this stage or an earlier one.
  std::string place_of(ValueId value, const Index& index) {
    const ir::Type& type = node(value).type;
    const std::string offset = offset_of(plan_, type, index);
    if (const auto found = shared_.find(value); found != shared_.end()) {
      const std::string before = found->second == 0 ? std::string() : concat(found->second, " + ");
      if (by_tiles_)
        return concat("shared[(", index.at("page"), " - first) * ", shared_floats_, " + ", before, offset, "]");
      return concat("shared[", before, offset, "]");
    }
    if (value == layout_.ranked() && (!is_function_ || made_.contains(value)))
      return concat("a.scores[row * a.capacity + ", index.at("page"), "]");
    if (is_rest(value)) {
      const std::int64_t floats = plan_.geometry.group * (1 + plan_.geometry.head_dim);
      return concat("a.rest[row * ", floats, " + ",
                    value == plan_.program.rest_value ? concat(plan_.geometry.group, " + ") : "", offset, "]");
    }
    const CudaLayout::Slot* slot = layout_.slot_of(value);
    if (!slot) return "";
    uses_workspace_ = true;
    std::vector<std::string> terms;
    const std::int64_t before = slot->before;
    if (!slot->of_page) {
      if (before != 0) terms.push_back(concat(before));
      terms.push_back(offset);
      return concat("workspace[", join(terms, " + "), "]");
    }
    const std::int64_t elements = elements_of(plan_, type);
    if (layout_.row_floats() != 0) terms.push_back(concat(layout_.row_floats()));
    if (before != 0) terms.push_back(concat(before, " * static_cast<int64>(a.capacity)"));
    terms.push_back(elements == 1 ? index.at("page") : concat(index.at("page"), " * ", elements, " + ", offset));
    return concat("workspace[", join(terms, " + "), "]");
  }

  // The statement that stores an element of a value that is held.
  std::string store(ValueId value, const Index& index, const std::string& element) {
    if (value == layout_.ranked() && is_function_) {
      const std::string put = concat("put(", index.at("page"), ", ", element, ");");
      return layout_.slot_of(value) && element != place_of(value, index)
                 ? concat(put, "\n    ", place_of(value, index), " = ", element, ";")
                 : put;
    }
    return concat(place_of(value, index), " = ", element, ";");
  }

  // Stored by an earlier stage, or by this one above this point of the text.
  bool is_made(ValueId value) const { return printed_.contains(value) || made_.contains(value); }

  std::string read(ValueId value, const Index& index) {
    const Node& n = node(value);
    if (is_made(value) && n.op->kind != OpKind::source) {
      const std::string place = place_of(value, index);
      VORTEX_CHECK(!place.empty() || (value == layout_.ranked() && !is_loop(n)), name_, " reads v", value,
                   ", which no stage stores");
      return place;  // what is handed out is made again
    }
    if (n.op->kind != OpKind::source) return "";
    const std::string offset = offset_of(plan_, n.type, index);
    const std::string& name = n.op->name;
    if (name == "constant") return print_float(ir::number_of(n.attributes, "value"));
    if (name == "q") {
      uses_q_ = true;
      return concat("q[", offset, "] * a.shape.scale");
    }
    if (name == "page_index") return concat("static_cast<float>(c.plan.first_candidate + ", index.at("page"), ")");
    if (ir::is_state(n)) {
      const std::size_t state = layout_.state_of(ir::text_of(n.attributes, "name"));
      if (state == layout_.states().size()) return print_float(ir::number_of(n.attributes, "initial"));
      used_states_.insert(state);
      return state_at(state, "from", n.type, index);
    }
    if (name == "param")
      return concat("parameter_of(c, ", layout_.parameter_of(ir::text_of(n.attributes, "name")), ")[", offset, "]");
    if (name == "group_index")
      return concat("static_cast<float>(", first_of(plan_, n.type.domain), " + ", index.at("page"), ")");
    if (name == "page_k" || name == "page_v" || name == "group_k" || name == "group_v") {
      return concat("to_float(channels_at<", tokens(), ">(c, a.", name.ends_with("k") ? "k" : "v", ", page, ",
                    index.at("token"), ")[", index.at("dim"), "])");
    }
    if (name == "summary") {
      const std::size_t field = layout_.field_of(ir::text_of(n.attributes, "name"));
      if (!many_pages() && n.type.domain == stage_.domain.unit() && index.at("page") == "page") {
        used_fields_.insert(field);
        return concat("to_float(field", field, "[", offset, "])");
      }
      return concat("to_float(field_at<const ", element_type(field), ">(c, ", field, ", summary_page(c, ",
                    first_of(plan_, n.type.domain), " + ", index.at("page"), ", ", tokens_of(plan_, n.type.domain),
                    "))[", offset, "])");
    }
    if (!n.op->cuda.empty()) return n.op->cuda;
    if (flow_library().find(concat(" source_", name, "(")) == std::string_view::npos) fail_without_cuda(plan_, n);
    return concat("source_", name, "(c)");
  }

  // "    const int i_head = at / 64, ..." for the axes of a type, from the flat position `at`.
  std::string decode(const ir::Type& type, const std::string& indent, Index& index,
                     const std::string& at = "at") const {
    std::string out;
    std::int64_t stride = elements_of(plan_, type);
    for (std::size_t i = 0; i < type.axes.size(); ++i) {
      const std::int64_t extent = extent_of(plan_, type.axes[i]);
      stride /= extent;
      const std::string name = index[type.axes[i].name] = "i_" + type.axes[i].name;
      if (extent == 1) {  // where all are, the loop has no `at`
        out += concat(indent, "const int ", name, " = 0;\n");
        continue;
      }
      out += concat(indent, "const int ", name, " = ", at, stride == 1 ? std::string() : concat(" / ", stride),
                    i == 0 ? std::string() : concat(" % ", extent), ";\n");
    }
    return out;
  }

  void print_value(ValueId value) {
    const Node& n = node(value);
    const std::string comment = concat("  // v", value, ": ", n.op->name, ", ", ir::print(n.type), "\n");
    body_ += comment;
    if (const auto product = layout_.product_of(value); by_tiles_ && product) {
      print_product(value, *product);
    } else if (n.op->kind == OpKind::selection) {
      print_choice(value);
    } else if (is_loop(n)) {
      print_loop(value);
    } else {
      print_elementwise(value);
    }
    body_ += "  team.sync();\n";
    printed_.insert(value);
  }

  // Opens the loop of a team over the elements of a value, of all candidates in a finish stage.
  std::string open_loop(const ir::Type& type, Index& index) {
    const std::int64_t elements = elements_of(plan_, type);
    if (is_page(type)) index["page"] = "page";
    std::string out;
    if (by_tiles_ && is_page(type) && elements == 1) {
      out = "  for (int page = first + team.thread; page < end; page += team.size) {\n";
    } else if (by_tiles_ && is_page(type)) {
      out = concat("  for (int page_at = team.thread; page_at < (end - first) * ", elements,
                   "; page_at += team.size) {\n", "    const int page = first + page_at / ", elements,
                   ", at = page_at % ", elements, ";\n");
    } else if (many_pages() && is_page(type) && elements == 1) {
      out = concat("  for (int page = team.thread; page < ", count_of(plan_, type.domain), "; page += team.size) {\n");
    } else if (many_pages() && is_page(type)) {
      out = concat("  for (int page_at = team.thread; page_at < ", count_of(plan_, type.domain), " * ", elements,
                   "; page_at += team.size) {\n", "    const int page = page_at / ", elements, ", at = page_at % ",
                   elements, ";\n");
    } else {
      out = concat("  for (int at = team.thread; at < ", elements, "; at += team.size) {\n");
    }
    if (!type.axes.empty()) out += decode(type, "    ", index);
    return many_pages() && in_set(type.domain) ? out + print_inside(type.domain, "    ", "continue") : out;
  }

  // Passes over a page that is not in the set.
  std::string print_inside(const ir::Domain& domain, const std::string& indent, const char* leave) {
    Scope scope(plan_, read_, indent + "  ");
    const std::string inside = scope.element(set_of(plan_, domain), {{"page", "page"}});
    return concat(indent, "const auto is_inside = [&]() {\n", scope.statements(), indent, "  return ", inside,
                  " != 0.0f;\n", indent, "};\n", indent, "if (!is_inside()) ", leave, ";\n");
  }

  // "[&](int page) { ... }": whether a page is in the set.
  std::string inside_of(const ir::Domain& domain) {
    Scope scope(plan_, read_, "      ");
    const std::string inside = scope.element(set_of(plan_, domain), {{"page", "page"}});
    return concat("[&](int page) {\n", scope.statements(), "      return ", inside, " != 0.0f;\n    }");
  }

  // A value whose elements do not depend on each other.
  void print_elementwise(ValueId value) {
    const ir::Type& type = node(value).type;
    Index index;
    body_ += open_loop(type, index);
    Scope scope(plan_, read_, "    ");
    const std::string name = scope.element(value, index);
    body_ += concat(scope.statements(), "    ", store(value, index, name), "\n  }\n");
  }

  // A tile of candidates times the row's value.
  void print_product(ValueId value, const CudaLayout::Product& product) {
    const Node& n = node(value);
    const ir::Type &pages = node(product.pages).type, &row = node(product.row).type;
    const std::string axis = ir::axis_of(n);
    const std::int64_t length = extent_of(plan_, pages.axes.back());
    std::int64_t columns = 1;
    Index index{{axis, "i_" + axis}};
    for (const ir::Axis& other : row.axes)
      if (other.name != axis) columns = extent_of(plan_, other), index[other.name] = "i_" + other.name;
    const std::string column = columns == 1 && row.axes.size() == 1 ? std::string() : other_axis(row, axis);

    Scope scope(plan_, read_, "      ");
    const std::string element = scope.element(product.row, index);
    const std::string name = concat("row_of_v", value);
    operands_ += concat("  RowOperand<", columns, ", ", length, "> ", name, ";\n  ", name,
                        ".load(team.thread / 4, team.thread % 4, [&](int ", column.empty() ? "" : "i_" + column,
                        ", int from, float(&x)[8]) {\n    for (int i = 0; i < 8; ++i) {\n      const int i_", axis,
                        " = from + i;\n", scope.statements(), "      x[i] = ", element, ";\n    }\n  });\n");

    Index at{{"page", "page"}};
    if (!column.empty()) at[column] = "i_" + column;
    std::int64_t parts = 1;
    for (const ir::Axis& other : pages.axes)
      if (other.name != axis) parts *= extent_of(plan_, other);
    std::string decoded;
    std::int64_t stride = parts;
    for (const ir::Axis& other : pages.axes) {
      if (other.name == axis) continue;
      const std::int64_t extent = extent_of(plan_, other);
      stride /= extent;
      at[other.name] = "i_" + other.name;
      decoded += concat("      const int i_", other.name, " = part / ", stride, " % ", extent, ";\n");
    }
    const std::size_t field = layout_.field_of(ir::text_of(node(product.pages).attributes, "name"));
    body_ += concat("  multiply_pages<", parts, ">(tile, ", name, ", c, ", field, ", [&](int page, int part, int ",
                    column.empty() ? "" : "i_" + column, ", float value) {\n      static_cast<void>(part);\n", decoded,
                    "      ", store(value, at, "value"), "\n  });\n");
    product_fields_.push_back(field);
  }
  static std::string other_axis(const ir::Type& type, const std::string& axis) {
    for (const ir::Axis& other : type.axes)
      if (other.name != axis) return other.name;
    return "";
  }

  // Σ over the pages of a number of each head and a vector of the page; false when the operands are not of that kind.
  bool print_weighing(ValueId value) {
    const Node& n = node(value);
    for (const std::size_t which : {0, 1}) {
      const ValueId left = n.inputs[which], right = n.inputs[1 - which];
      const ir::Type &a = node(left).type, &b = node(right).type;
      const std::int64_t lefts = elements_of(plan_, a), rights = elements_of(plan_, b);
      if (!is_page(a) || !is_page(b) || in_set(a.domain) || lefts > kMostColumns || rights > kMostWeighed) continue;
      if (std::ranges::any_of(a.axes, [&](const ir::Axis& axis) { return ir::find_axis(b, axis.name); })) continue;
      const auto operand = [&](const ir::Type& type, ValueId of, const char* at) {
        Index index;
        const std::string decoded = decode(type, "      ", index, at);
        index["page"] = "page";
        Scope scope(plan_, read_, "      ");
        const std::string element = scope.element(of, index);
        return concat("[&](int page, int ", at, ") {\n      static_cast<void>(", at, ");\n", decoded,
                      scope.statements(), "      return ", element, ";\n  }");
      };
      Index index;
      const std::string decoded = decode(a, "      ", index, "left") + decode(b, "      ", index, "right");
      const bool lies = node(right).op->name == "summary" && plan_.program.config.summary_dtype == ir::DType::bf16 &&
                        b.axes.size() == 1 && (rights == 32 || rights == 64 || rights == 128 || rights == 256);
      const std::string vectors =
          lies ? concat("[&](int page) {\n      return field_at<const BFloat16>(c, ",
                        layout_.field_of(ir::text_of(node(right).attributes, "name")), ", summary_page(c, ",
                        first_of(plan_, b.domain), " + page, ", tokens_of(plan_, b.domain), "));\n  }")
               : operand(b, right, "right");
      body_ += concat("  weigh_", lies ? "vectors" : "pages", "<", lefts, ", ", rights, ">(team, ",
                      count_of(plan_, a.domain), ", ", operand(a, left, "left"), ", ", vectors,
                      ", [&](int left, int right, float value) {\n",
                      "      static_cast<void>(left);\n      static_cast<void>(right);\n", decoded, "      ",
                      store(value, index, "value"), "\n  });\n");
      shared_of_rows_ += kMostWeighed * kWarp;
      weighs_pages_ = by_team_ = true;
      return true;
    }
    return false;
  }

  // A set of pages. The numbers it is chosen by lie where a stage stored them, or else where the set will.
  void print_choice(ValueId value) {
    const Node& n = node(value);
    if (n.op->tile != "top_k" && n.op->tile != "top_p") fail_without_cuda(plan_, n);
    const Index index{{"page", "page"}}, first{{"page", "0"}};
    const std::string place = place_of(value, index);
    VORTEX_CHECK(stage_.kind == StageKind::finish && !place.empty(), name_, ": ", n.op->name);
    by_team_ = true;
    const ValueId numbers = n.inputs[0];
    const ir::Domain& from = node(numbers).type.domain;
    const std::string count = count_of(plan_, from);
    const std::string loop = concat("  for (int page = team.thread; page < ", count, "; page += team.size) ");
    const bool given = is_made(numbers) && layout_.slot_of(numbers);
    if (!given) {
      Scope scope(plan_, read_, "    ");
      const std::string number = scope.element(numbers, index);
      body_ += concat(loop, "{\n", in_set(from) ? print_inside(from, "    ", "continue") : std::string(),
                      scope.statements(), "    ", place, " = ", number, ";\n  }\n");
    }
    Scope row(plan_, read_, "  ");
    const std::string amount = row.element(n.inputs[1], {});
    body_ += concat("  {\n", row.statements(), "  choose_", n.op->tile, "(team, ", count, ", ", amount, ", &",
                    place_of(given ? numbers : value, first), ", &", place_of(value, first),
                    in_set(from) ? concat(", &", place_of(set_of(plan_, from), first)) : std::string(), ");\n  }\n");
    if (value == layout_.ranked() && is_function_) body_ += concat(loop, store(value, index, place), "\n");
  }

  // A reduction, a contraction or an `along` op.
  void print_loop(ValueId value) {
    const Node& n = node(value);
    const ir::Type& input = node(n.inputs[0]).type;
    const bool contraction = n.op->kind == OpKind::contraction, along = n.op->kind == OpKind::along;
    const std::string axis = ir::axis_of(n);
    const std::string primitive = contraction ? "reduce_sum" : concat(along ? "along_" : "reduce_", n.op->name);
    if (flow_library().find(concat("struct ", primitive, " ")) == std::string_view::npos) {
      if (n.op->cuda.empty()) fail_without_cuda(plan_, n);
      primitives_[primitive] = n.op->cuda;  // the op brings its own
    }
    const bool over_page = axis == "page";
    VORTEX_CHECK(!over_page || many_pages(), name_, ": ", n.op->name, " over ", axis, " of ", ir::print(input));

    ir::Type rest = n.type;  // the axes that the loop leaves alone
    std::erase_if(rest.axes, [&](const ir::Axis& other) { return other.name == axis; });
    const std::string inner = over_page ? "page" : "i_" + axis;
    const std::string length =
        over_page ? count_of(plan_, input.domain) : concat(extent_of(plan_, *ir::find_axis(input, axis)));
    const std::int64_t elements = elements_of(plan_, rest);
    // A long axis is spread over the team, unless there are elements for all its threads; a short one is walked by one
    // thread, and the team takes the elements.
    const bool spread = over_page || (!along && !(many_pages() && is_page(n.type)) &&
                                      extent_of(plan_, *ir::find_axis(input, axis)) >= kWarp &&
                                      !(stage_.kind == StageKind::summarize && elements >= kWarp));

    Index index;
    const bool masked = over_page && in_set(input.domain);
    if (over_page && !along && stage_.kind == StageKind::finish && elements <= kMostColumns && !masked) {
      shared_of_rows_ += elements * kPlacesOfARow / kWarp * 8;
      const std::string decoded = decode(rest, "      ", index);
      index["page"] = "page";
      Scope scope(plan_, read_, "      ");
      std::string element = scope.element(n.inputs[0], index);
      if (contraction) element = concat(element, " * ", scope.element(n.inputs[1], index));
      body_ += concat("  reduce_rows<", primitive, ", ", elements, ">(team, ", length, ", [&](int page, int at) {\n",
                      "      static_cast<void>(page);\n      static_cast<void>(at);\n", decoded, scope.statements(),
                      "      return ", element, ";\n  }, [&](int at, float value) {\n      static_cast<void>(at);\n",
                      decoded, "      ", store(value, index, "value"), "\n  });\n");
      return;
    }
    if (over_page && contraction && stage_.kind == StageKind::finish && print_weighing(value)) return;
    // A warp an element, where the team is a block that is known to be one.
    const bool by_warps = spread && !over_page && !along && elements > 1 &&
                          (stage_.kind == StageKind::row || stage_.kind == StageKind::summarize);
    const std::string team = by_warps ? "warp" : "team";
    if (by_warps) {
      body_ += concat("  for (int at = team.thread / 32; at < ", elements,
                      "; at += team.size / 32) {\n    const Warp warp;\n", decode(rest, "    ", index));
    } else if (spread) {
      body_ += concat("  for (int at = 0; at < ", elements, "; ++at) {\n", decode(rest, "    ", index));
    } else {
      body_ += open_loop(rest, index);
    }
    if (spread && (is_page(input) || is_page(n.type))) index["page"] = "page";
    index[axis] = inner;
    Scope scope(plan_, read_, "      ");
    std::string read_text = scope.element(n.inputs[0], index);
    if (contraction) read_text = concat(read_text, " * ", scope.element(n.inputs[1], index));
    by_team_ = by_team_ || spread;
    const std::string call = concat(along ? "along_" : "reduce_",
                                    masked   ? "inside<"
                                    : spread ? "over<"
                                             : "alone<",
                                    primitive, ">(", spread ? team + ", " : std::string(), length, ", ",
                                    masked ? inside_of(input.domain) + ", " : std::string(), "[&](int ", inner, ") {\n",
                                    scope.statements(), "      return ", read_text, ";\n    }");
    if (along) {
      body_ +=
          concat("    ", call, ", [&](int ", inner, ", float value) { ", store(value, index, "value"), " });\n  }\n");
    } else {
      body_ += concat("    const float value = ", call, ");\n    ",
                      spread ? concat("if (", team, ".thread == 0) ") : std::string(), store(value, index, "value"),
                      "\n  }\n");
    }
  }

  // An element of a state, as it is ("from") or will be ("to").
  std::string state_at(std::size_t state, const char* side, const ir::Type& type, const Index& index) const {
    const std::string offset = offset_of(plan_, type, index);
    if (!is_page(type)) return concat("state", state, ".", side, "[", offset, "]");
    return concat("state", state, ".", side, "[",
                  offset == "0" ? std::string() : concat("(", offset, ") * state", state, ".room + "), index.at("page"),
                  "]");
  }

  // What the states will be; and the scores, where an earlier stage made them.
  void print_states() {
    if (made_.contains(layout_.ranked()))
      body_ +=
          "  for (int page = team.thread; page < c.plan.candidates; page += team.size)\n"
          "    put(page, a.scores[row * a.capacity + page]);\n";
    for (const ir::State& state : plan_.program.states) {
      const std::size_t which = layout_.state_of(state.name);
      const ir::Type& type = ir::reader_of(plan_.program, state.name)->type;
      used_states_.insert(which);
      Index index;
      body_ += concat("  // what \"", one_line(state.name), "\" will be\n", open_loop(type, index));
      Scope scope(plan_, read_, "    ");
      const std::string element = scope.element(state.value, index);
      body_ += concat(scope.statements(), "    ", state_at(which, "to", type, index), " = ", element, ";\n  }\n");
    }
    body_ += "  team.sync();\n";
  }

  // The summaries, stored.
  void print_fields() {
    body_ += concat("  const int physical = summary_page(c, page, ", tokens(), ");\n");
    for (std::size_t field = 0; field < layout_.fields().size(); ++field) {
      if (layout_.fields()[field].pages != stage_.domain.pages) continue;
      const ValueId value = plan_.program.summaries[field].value;
      const ir::Type& type = node(value).type;
      Index index;
      if (is_page(type)) index["page"] = "page";
      body_ += concat("  // page.", layout_.fields()[field].name, "\n  for (int at = team.thread; at < ",
                      elements_of(plan_, type), "; at += team.size) {\n", decode(type, "    ", index));
      Scope scope(plan_, read_, "    ");
      const std::string name = scope.element(value, index);
      body_ += concat(scope.statements(), "    store(field_at<", element_type(field), ">(c, ", field,
                      ", physical) + at, ", name, ");\n  }\n");
    }
  }

  const CudaLayout& layout_;
  const compiler::Plan& plan_;
  const Stage& stage_;
  std::string name_;
  const std::set<ValueId>& made_;                   // what earlier stages store
  std::map<std::string, std::string>& primitives_;  // structs that flow.cuh lacks: name, body
  std::string inside_;                              // whether a page is in the stage's set
  std::string body_, operands_;                     // operands of products, made before the loop over tiles
  std::vector<ValueId> held_;                       // values printed as loops, in order
  std::map<ValueId, std::int64_t> shared_;          // those in shared memory: floats before them
  std::set<ValueId> printed_;
  std::set<std::size_t> used_fields_, used_states_;
  Read read_;
  std::vector<std::size_t> product_fields_;  // those that products read
  std::int64_t shared_floats_ = 0, shared_of_rows_ = 0;
  int warps_ = kWarpsPerBlock;
  bool uses_q_ = false, uses_workspace_ = false, weighs_pages_ = false, by_team_ = false;
  bool is_function_ = false, by_tiles_ = false;
};

}  // namespace

PrintedStage print_stage(const CudaLayout& layout, const Stage& stage, const std::string& name, bool is_last,
                         const std::set<ValueId>& made, std::map<std::string, std::string>& primitives) {
  return StagePrinter(layout, stage, name, is_last, made, primitives).print();
}

std::string idle_function(const std::string& function) {
  if (function == "finish") {
    return "\n// The last stage has made the scores.\nconstexpr int kFinishFloats = 1;\n"
           "template <class Team, class Put>\n"
           "__device__ inline void finish(const FlowContext& c, const Team& team, float*, const Put& put) {\n"
           "  const FlowArguments& a = c.arguments;\n"
           "  const int64 row = static_cast<int64>(c.sequence) * a.shape.kv_heads + c.head;\n"
           "  for (int page = team.thread; page < c.plan.candidates; page += team.size)\n"
           "    put(page, a.scores[row * a.capacity + page]);\n}\n";
  }
  return concat("\n// Nothing to do in this flow.\nconstexpr int ", shared_name(function),
                " = 1;\n__device__ inline void ", function,
                "(const FlowContext& c, const Block&, float*) { static_cast<void>(c); }\n");
}

}  // namespace vortex::codegen
