// Prints stages. A stage first decides where each value it must hold lies (shared memory, workspace, summaries,
// scores), then prints a loop for each such value; everything elementwise between them is straight-line code (scope.h).
#include "codegen/cuda/print.h"

#include <vortex/error.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "codegen/cuda/scope.h"

namespace vortex::codegen {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

std::string_view flow_library() { return device_source("codegen/cuda/flow.cuh"); }

std::vector<device::Header> flow_headers() {
  std::vector<device::Header> out = {device::device_header()};
  for (const char* name : {"codegen/cuda/flow_arguments.h", "codegen/cuda/flow.cuh"})
    out.push_back({name, std::string(device_source(name))});
  return out;
}

namespace {

using compiler::Stage;
using compiler::StageKind;
using ir::Node;
using ir::OpKind;
using ir::ValueId;

constexpr int kWarp = 32, kBlock = 128, kWarpsPerBlock = 4;
constexpr std::int64_t kSharedFloats = 11 * 1024;  // of a block, beside the 32 of its sums

bool is_page(const ir::Type& type) { return type.domain.kind == ir::Domain::Kind::page; }
bool is_loop(const Node& node) {
  return node.op->kind == OpKind::reduction || node.op->kind == OpKind::along || node.op->kind == OpKind::contraction;
}

// A name goes into comments: whatever would end the line is not part of it.
std::string one_line(std::string name) {
  for (char& letter : name)
    if (static_cast<unsigned char>(letter) < 0x20 || letter == '\\' || letter == '?') letter = '_';
  return name;
}

// Where a value of the workspace lies: after the floats of the row, or among those of a candidate.
struct Slot {
  bool of_page = false;
  std::int64_t before = 0;  // floats before it of the same kind
};

class Printer {
 public:
  explicit Printer(const compiler::Plan& plan) : plan_(plan) {
    out_.name = one_line(plan.program.name);
    for (const ir::Summary& summary : plan.program.summaries) {
      const Node& node = plan.program.node(summary.value);
      out_.fields.push_back({summary.name, elements_of(plan, node.type), plan.program.config.summary_dtype});
    }
    for (const Stage& stage : plan.stages) {
      if (stage.kind == StageKind::summarize) continue;
      for (const ValueId value : stage.outputs) place(value);
      if (stage.kind != StageKind::finish) continue;
      for (const ValueId value : stage.nodes) {  // of every candidate at once: too many for shared memory
        const Node& node = plan.program.node(value);
        if (is_loop(node) && is_page(node.type)) place(value);
      }
    }
  }

  CudaFlow print() {
    std::string head = concat("// Flow ", out_.name, ", printed for page_size ", plan_.geometry.page_size,
                              ", head_dim ", plan_.geometry.head_dim, ", group ", plan_.geometry.group,
                              ".\n#include \"codegen/cuda/flow.cuh\"\n\n", "namespace vortex::cuda {\n");
    std::map<StageKind, int> counts;
    for (const Stage& stage : plan_.stages) {
      const std::string name = stage.kind == StageKind::summarize
                                   ? "summarize"
                                   : concat(compiler::name_of(stage.kind), "_", counts[stage.kind]++);
      StagePrinter(*this, stage, name).print();
      if (stage.kind != StageKind::summarize) made_.insert(stage.outputs.begin(), stage.outputs.end());
    }
    for (const auto& [name, body] : primitives_) head += concat("\nstruct ", name, " {\n  ", body, "\n};\n");
    out_.text = concat(head, out_.text, "\n}  // namespace vortex::cuda\n");
    return std::move(out_);
  }

 private:
  void place(ValueId value) {
    const Node& node = plan_.program.node(value);
    if (value == plan_.program.score || slots_.contains(value) || node.op->kind == OpKind::source) return;
    const ir::Type& type = node.type;
    std::int64_t& floats = is_page(type) ? out_.page_floats : out_.row_floats;
    slots_[value] = {is_page(type), floats};
    floats += elements_of(plan_, type);
  }

  // Prints the kernel of one stage.
  class StagePrinter {
   public:
    StagePrinter(Printer& printer, const Stage& stage, std::string name)
        : printer_(printer), plan_(printer.plan_), stage_(stage), name_(std::move(name)) {
      const std::set<ValueId> outputs(stage.outputs.begin(), stage.outputs.end());
      for (const ValueId value : stage.nodes) {
        const Node& node = plan_.program.node(value);
        if (node.op->kind == OpKind::source) continue;
        const bool stored =
            stage.kind != StageKind::summarize && (value == plan_.program.score || printer.slots_.contains(value));
        if (is_loop(node) || (stored && outputs.contains(value))) held_.push_back(value);
        if (is_loop(node) && !stored) {
          shared_[value] = shared_floats_;
          shared_floats_ += elements_of(plan_, node.type);
        }
      }
      // Sources are read where they are used; only a score that is one is copied.
      if (outputs.contains(plan_.program.score) && this->node(plan_.program.score).op->kind == OpKind::source)
        held_.push_back(plan_.program.score);
      read_ = [this](ValueId value, const Index& index) { return read(value, index); };
      if (shared_floats_ > kSharedFloats) {
        throw UserError(concat("flow ", plan_.program.name),
                        concat("at most ", kSharedFloats, " numbers held at once in a stage are supported on CUDA"),
                        concat("stage ", name_, " holds ", shared_floats_),
                        "use a smaller page_size, or run the flow on the cpu");
      }
    }

    void print() {
      const bool page = stage_.kind == StageKind::page;
      if (held_.empty() && stage_.kind != StageKind::summarize) return;  // it hands on sources only
      warps_ = static_cast<int>(
          std::clamp<std::int64_t>(kSharedFloats / std::max<std::int64_t>(shared_floats_, 1), 1, kWarpsPerBlock));
      for (const ValueId value : held_) print_value(value);
      if (stage_.kind == StageKind::summarize) print_fields();
      printer_.out_.text += concat("\n", header(), prologue(), body_, "}\n");
      printer_.out_.stages.push_back({stage_.kind, name_, page ? warps_ * kWarp : kBlock, page ? warps_ : 1});
    }

   private:
    bool many_pages() const { return stage_.kind == StageKind::finish; }  // a block sees all candidates of the row
    const Node& node(ValueId value) const { return plan_.program.node(value); }

    std::string header() const {
      std::vector<std::string> held;
      for (const ValueId value : stage_.outputs)
        if (value == plan_.program.score || node(value).op->kind != OpKind::source)
          held.push_back(concat("v", value, " ", ir::print(node(value).type)));
      const char* grid = stage_.kind == StageKind::page
                             ? "candidates of a block, kv_heads, sequences; a warp a candidate"
                             : "kv_heads, sequences";
      return concat("// Makes ", join(held, ", "), ".\n// grid: ", grid, "\nextern \"C\" __global__ void ", name_,
                    "(FlowArguments a) {\n");
    }

    std::string prologue() const {
      std::string out;
      const auto line = [&](const auto&... parts) { out += concat("  ", parts..., "\n"); };
      const bool page = stage_.kind == StageKind::page, summarize = stage_.kind == StageKind::summarize;
      const std::int64_t size = plan_.geometry.page_size;
      if (page) {
        if (shared_floats_ > 0) line("__shared__ float shared_of_block[", warps_, "][", shared_floats_, "];");
        line("const Warp team;");
        line("const int sequence = blockIdx.z, head = blockIdx.y, page = blockIdx.x * ", warps_,
             " + threadIdx.x / 32;");
      } else {
        line("__shared__ float scratch[32];");
        if (shared_floats_ > 0) line("__shared__ float shared[", shared_floats_, "];");
        line("const Block team(scratch);");
        line("const int sequence = blockIdx.y, head = blockIdx.x;");
      }
      if (summarize) {
        line("const int tokens = a.batch.tokens[sequence];");
        line("if (tokens % ", size, " != 0) return;  // no page was finished");
        line("const int page = tokens / ", size, " - 1;");
        line("const FlowContext c{a, {}, sequence, head, page};");
      } else {
        line("const FlowContext c{a, a.plans[sequence], sequence, head, ", page ? "page" : "0", "};");
        line("if (c.plan.chosen == c.plan.candidates", page ? " || page >= c.plan.candidates" : "", ") return;");
        line("const int64 row = static_cast<int64>(sequence) * a.shape.kv_heads + head;");
        if (uses_workspace_) line("float* const workspace = a.workspace + row * a.workspace_stride;");
        if (uses_q_)
          line("const float* const q = a.q + sequence * a.q_stride + head * ",
               plan_.geometry.group * plan_.geometry.head_dim, ";");
      }
      if (page && shared_floats_ > 0) line("float* const shared = shared_of_block[threadIdx.x / 32];");
      if (page && !used_fields_.empty()) {
        line("const int physical = summary_page(c, c.plan.first_candidate + page, ", size, ");");
        for (const std::size_t field : used_fields_)
          line("const ", element_type(field), "* const field", field, " = field_at<const ", element_type(field),
               ">(c, ", field, ", physical);");
      }
      return out;
    }

    const char* element_type(std::size_t field) const {
      const ir::DType dtype = printer_.out_.fields[field].dtype;
      VORTEX_CHECK(dtype == ir::DType::bf16 || dtype == ir::DType::f32, ir::name_of(dtype));
      return dtype == ir::DType::bf16 ? "BFloat16" : "float";
    }

    // The place of an element that is held; "" when the value is not held by this stage or an earlier one.
    std::string place_of(ValueId value, const Index& index) {
      const ir::Type& type = node(value).type;
      const std::string offset = offset_of(plan_, type, index);
      if (const auto found = shared_.find(value); found != shared_.end()) {
        return concat("shared[", found->second == 0 ? std::string() : concat(found->second, " + "), offset, "]");
      }
      if (value == plan_.program.score) return concat("a.scores[row * a.capacity + ", index.at("page"), "]");
      const auto found = printer_.slots_.find(value);
      if (found == printer_.slots_.end()) return "";
      uses_workspace_ = true;
      std::vector<std::string> terms;
      const std::int64_t before = found->second.before;
      if (!found->second.of_page) {
        if (before != 0) terms.push_back(concat(before));
        terms.push_back(offset);
        return concat("workspace[", join(terms, " + "), "]");
      }
      const std::int64_t elements = elements_of(plan_, type);
      if (printer_.out_.row_floats != 0) terms.push_back(concat(printer_.out_.row_floats));
      if (before != 0) terms.push_back(concat(before, " * static_cast<int64>(a.capacity)"));
      terms.push_back(elements == 1 ? index.at("page") : concat(index.at("page"), " * ", elements, " + ", offset));
      return concat("workspace[", join(terms, " + "), "]");
    }

    // Stored by an earlier stage, or by this one above this point of the text.
    bool is_made(ValueId value) const { return printed_.contains(value) || printer_.made_.contains(value); }

    std::string read(ValueId value, const Index& index) {
      const Node& n = node(value);
      if (is_made(value) && n.op->kind != OpKind::source) {
        const std::string place = place_of(value, index);
        VORTEX_CHECK(!place.empty(), name_, " reads v", value, ", which no stage stores");
        return place;
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
      if (name == "page_k" || name == "page_v") {
        return concat("to_float(channels_at(c, a.", name == "page_k" ? "k" : "v", ", page * ", plan_.geometry.page_size,
                      " + ", index.at("token"), ")[", index.at("dim"), "])");
      }
      if (name == "summary") {
        const std::size_t field = field_of(ir::text_of(n.attributes, "name"));
        used_fields_.insert(field);
        if (!many_pages()) return concat("to_float(field", field, "[", offset, "])");
        return concat("to_float(field_at<const ", element_type(field), ">(c, ", field,
                      ", summary_page(c, c.plan.first_candidate + ", index.at("page"), ", ", plan_.geometry.page_size,
                      "))[", offset, "])");
      }
      if (!n.op->cuda.empty()) return n.op->cuda;
      if (flow_library().find(concat(" source_", name, "(")) == std::string_view::npos) fail_without_cuda(plan_, n);
      return concat("source_", name, "(c)");
    }

    std::size_t field_of(const std::string& name) const {
      for (std::size_t i = 0; i < printer_.out_.fields.size(); ++i)
        if (printer_.out_.fields[i].name == name) return i;
      VORTEX_CHECK(false, "no field ", name);
    }

    // "    const int i_head = at / 64, ..." for the axes of a type, from the flat position `at`.
    std::string decode(const ir::Type& type, const std::string& indent, Index& index) const {
      std::string out;
      std::int64_t stride = elements_of(plan_, type);
      for (std::size_t i = 0; i < type.axes.size(); ++i) {
        const std::int64_t extent = extent_of(plan_, type.axes[i]);
        stride /= extent;
        const std::string name = index[type.axes[i].name] = "i_" + type.axes[i].name;
        out += concat(indent, "const int ", name, " = at", stride == 1 ? std::string() : concat(" / ", stride),
                      i == 0 ? std::string() : concat(" % ", extent), ";\n");
      }
      return out;
    }

    void print_value(ValueId value) {
      const Node& n = node(value);
      const std::string comment = concat("  // v", value, ": ", n.op->name, ", ", ir::print(n.type), "\n");
      body_ += comment;
      if (is_loop(n)) {
        print_loop(value);
      } else {
        print_elementwise(value);
      }
      body_ += "  team.sync();\n";
      printed_.insert(value);
    }

    // Opens the loop of a team over the elements of a value, of all candidates in a finish stage.
    std::string open_loop(const ir::Type& type, Index& index) const {
      const std::int64_t elements = elements_of(plan_, type);
      if (is_page(type)) index["page"] = "page";
      std::string out;
      if (many_pages() && is_page(type) && elements == 1) {
        out = "  for (int page = team.thread; page < c.plan.candidates; page += team.size) {\n";
      } else if (many_pages() && is_page(type)) {
        out = concat("  for (int page_at = team.thread; page_at < c.plan.candidates * ", elements,
                     "; page_at += team.size) {\n", "    const int page = page_at / ", elements, ", at = page_at % ",
                     elements, ";\n");
      } else {
        out = concat("  for (int at = team.thread; at < ", elements, "; at += team.size) {\n");
      }
      return type.axes.empty() ? out : out + decode(type, "    ", index);
    }

    // A value whose elements do not depend on each other.
    void print_elementwise(ValueId value) {
      const ir::Type& type = node(value).type;
      Index index;
      body_ += open_loop(type, index);
      Scope scope(plan_, read_, "    ");
      const std::string name = scope.element(value, index);
      body_ += concat(scope.statements(), "    ", place_of(value, index), " = ", name, ";\n  }\n");
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
        printer_.primitives_[primitive] = n.op->cuda;  // the op brings its own
      }
      const bool over_page = axis == "page";
      VORTEX_CHECK(!over_page || many_pages(), name_, ": ", n.op->name, " over ", axis, " of ", ir::print(input));

      ir::Type rest = n.type;  // the axes that the loop leaves alone
      std::erase_if(rest.axes, [&](const ir::Axis& other) { return other.name == axis; });
      const std::string inner = over_page ? "page" : "i_" + axis;
      const std::string length =
          over_page ? "c.plan.candidates" : concat(extent_of(plan_, *ir::find_axis(input, axis)));
      const std::int64_t elements = elements_of(plan_, rest);
      // A long axis is spread over the team; a short one is walked by one thread, and the team takes the elements.
      const bool spread = over_page || (!along && !(many_pages() && is_page(n.type)) &&
                                        extent_of(plan_, *ir::find_axis(input, axis)) >= kWarp);

      Index index;
      if (spread) {
        body_ += concat("  for (int at = 0; at < ", elements, "; ++at) {\n", decode(rest, "    ", index));
        if (is_page(input) || is_page(n.type)) index["page"] = "page";
      } else {
        body_ += open_loop(rest, index);
      }
      index[axis] = inner;
      Scope scope(plan_, read_, "      ");
      std::string read_text = scope.element(n.inputs[0], index);
      if (contraction) read_text = concat(read_text, " * ", scope.element(n.inputs[1], index));
      const std::string call =
          concat(along ? "along_" : "reduce_", spread ? "over<" : "alone<", primitive, ">(", spread ? "team, " : "",
                 length, ", [&](int ", inner, ") {\n", scope.statements(), "      return ", read_text, ";\n    }");
      if (along) {
        body_ += concat("    ", call, ", [&](int ", inner, ", float value) { ", place_of(value, index),
                        " = value; });\n  }\n");
      } else {
        body_ += concat("    const float value = ", call, ");\n    ", spread ? "if (team.thread == 0) " : "",
                        place_of(value, index), " = value;\n  }\n");
      }
    }

    // The summaries, stored.
    void print_fields() {
      body_ += concat("  const int physical = summary_page(c, page, ", plan_.geometry.page_size, ");\n");
      for (std::size_t field = 0; field < printer_.out_.fields.size(); ++field) {
        const ValueId value = plan_.program.summaries[field].value;
        const ir::Type& type = node(value).type;
        Index index;
        if (is_page(type)) index["page"] = "page";
        body_ += concat("  // page.", printer_.out_.fields[field].name, "\n  for (int at = team.thread; at < ",
                        elements_of(plan_, type), "; at += team.size) {\n", decode(type, "    ", index));
        Scope scope(plan_, read_, "    ");
        const std::string name = scope.element(value, index);
        body_ += concat(scope.statements(), "    store(field_at<", element_type(field), ">(c, ", field,
                        ", physical) + at, ", name, ");\n  }\n");
      }
    }

    Printer& printer_;
    const compiler::Plan& plan_;
    const Stage& stage_;
    std::string name_, body_;
    std::vector<ValueId> held_;               // values printed as loops, in order
    std::map<ValueId, std::int64_t> shared_;  // those in shared memory: floats before them
    std::set<ValueId> printed_;
    std::set<std::size_t> used_fields_;
    Read read_;
    std::int64_t shared_floats_ = 0;
    int warps_ = kWarpsPerBlock;
    bool uses_q_ = false, uses_workspace_ = false;
  };

  const compiler::Plan& plan_;
  CudaFlow out_;
  std::map<ValueId, Slot> slots_;
  std::map<std::string, std::string> primitives_;  // structs that flow.cuh lacks: name, body
  std::set<ValueId> made_;                         // outputs of the stages printed so far
};

}  // namespace

CudaFlow print_cuda(const compiler::Plan& plan) {
  for (const ir::RootDef& root : ir::all_roots()) {
    if (plan.program.*root.value < 0 || root.value == &ir::Program::score) continue;
    throw UserError(concat("flow ", one_line(plan.program.name)), "a flow of summaries and a score on CUDA",
                    concat(root.name, ", which has no CUDA implementation"), "run the flow on the cpu");
  }
  return Printer(plan).print();
}

}  // namespace vortex::codegen
