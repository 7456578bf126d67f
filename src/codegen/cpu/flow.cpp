// CpuFlow: tile programs behind the interface that the attention room calls.
#include "codegen/cpu/flow.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "codegen/cpu/execute.h"
#include "codegen/cpu/program.h"

namespace vortex::codegen {

namespace {

class TileFlow final : public CpuFlow {
 public:
  explicit TileFlow(compiler::Plan plan)
      : plan_(std::move(plan)), rows_(plan_.program), program_(lower(plan_)), read_(bytes_read(program_)) {
    lay_out_parameters();
    if (debug_level() >= 3) write_log(text());
  }

  const compiler::Plan& plan() const override { return plan_; }
  const ir::RowRule& rows() const override { return rows_; }
  const std::vector<FieldLayout>& fields() const override { return program_.fields; }
  std::span<const StateLayout> states() const override { return program_.states; }
  std::string text() const override { return print(program_, plan_); }

  std::vector<std::int64_t> groups() const override {
    std::vector<std::int64_t> out;
    for (const auto& [pages, code] : program_.summarize)
      if (pages > 1) out.push_back(pages);
    return out;
  }

  void summarize(const BFloat16* const* k, const BFloat16* const* v, void* const* outputs, float* scratch,
                 std::int64_t pages, std::int64_t layer, std::int64_t kv_head) const override {
    Frame frame;
    std::array<const float*, kMaxParameters> parameters;
    frame.parameters = parameters_at(layer, kv_head, parameters);
    frame.scratch = scratch;
    frame.fields = program_.fields;
    frame.k = k;
    frame.v = v;
    frame.outputs = outputs;
    frame.tokens = pages * plan_.geometry.page_size;
    frame.head_dim = plan_.geometry.head_dim;
    frame.value_dim = plan_.geometry.value_channels();
    for (const auto& [size, code] : program_.summarize)
      if (size == pages) execute(code, frame);
  }

  std::int64_t scratch_floats() const override { return program_.scratch_floats; }
  int page_stages() const override { return static_cast<int>(program_.page.size()); }

  std::int64_t workspace_floats(std::int64_t candidates) const override {
    return program_.row_floats + program_.spill_elements * capacity(candidates) + tile::kPadding;
  }

  void run_row(const RowArguments& row, float* scratch) const override {
    Frame frame = frame_of(row, scratch);
    std::array<const float*, kMaxParameters> parameters;
    frame.parameters = parameters_at(row.layer, row.kv_head, parameters);
    execute(program_.row, frame);
  }

  void run_page(int stage, std::span<const RowArguments> rows, std::int64_t begin, std::int64_t end,
                float* scratch) const override {
    VORTEX_CHECK(stage >= 0 && stage < page_stages() && !rows.empty() && begin >= 0 && end <= rows[0].candidates,
                 "stage ", stage, ", candidates ", begin, " to ", end, " of ", rows.size(), " rows");
    const bool last = stage + 1 == page_stages();
    const Lanes& lanes = program_.page[static_cast<std::size_t>(stage)];
    if (lanes.domain > 0 && program_.domains[static_cast<std::size_t>(lanes.domain)].of >= 0) {
      for (const RowArguments& row : rows) {  // each has a set of its own
        Frame frame = frame_of(row, scratch);
        run_lanes(lanes, frame, begin, end);
      }
      return;
    }
    Frame frames[kRowsAtOnce];
    for (; !rows.empty(); rows = rows.subspan(std::min(kRowsAtOnce, rows.size()))) {
      const std::size_t count = std::min(kRowsAtOnce, rows.size());
      for (std::size_t r = 0; r < count; ++r)
        frames[r] = frame_of(rows[r], scratch + static_cast<std::int64_t>(r) * program_.scratch_floats);
      for (std::size_t r = 0; r < count; ++r) frames[r].instances = instances_of(lanes.domain, frames[r]);
      const std::int64_t stop = std::min(end, frames[0].instances.count);
      for (std::int64_t at = begin; at < stop; at += program_.chunk) {
        for (std::size_t r = 0; r < count; ++r) {
          frames[r].begin = at;
          frames[r].count = std::min(program_.chunk, stop - at);
        }
        execute(lanes.code, std::span(frames, count));
        for (std::size_t r = 0; last && r < count; ++r)
          std::memcpy(rows[r].scores + at, address(program_.score, frames[r]),
                      static_cast<std::size_t>(frames[r].count) * sizeof(float));
      }
    }
  }

  void run_finish(int stage, const RowArguments& row, float* scratch) const override {
    VORTEX_CHECK(stage >= 0 && stage + 1 < page_stages(), "stage ", stage, " of ", page_stages());
    for (const Sweep& sweep : program_.finish[static_cast<std::size_t>(stage)]) {
      execute(sweep.rows, frame_of(row, scratch));
      for (const Lanes& lanes : sweep.lanes) {
        Frame frame = frame_of(row, scratch);
        run_lanes(lanes, frame, 0, row.candidates);
      }
    }
    if (stage + 2 == page_stages() && program_.rest.space != Space::none && row.rest != nullptr)
      std::memcpy(row.rest, address(program_.rest, frame_of(row, scratch)),
                  static_cast<std::size_t>(rest_floats()) * sizeof(float));
  }

  std::int64_t summary_bytes(const RowArguments& row) const override {
    const Frame frame = frame_of(row, nullptr);
    std::int64_t bytes = 0;
    for (const auto& [domain, each] : read_) bytes += each * instances_of(domain, frame).count;
    return bytes;
  }

 private:
  static constexpr std::size_t kMaxParameters = ir::kMaxParameters;

  // The numbers of a parameter as the stages read them.
  struct Laid {
    std::vector<float> data;
    const ir::Parameter* tensor = nullptr;
    std::size_t axes = 0;
  };

  void lay_out_parameters() {
    const ir::Weights& weights = plan_.program.weights;
    if (weights.tensors == nullptr) return;
    for (const ir::Node* node : ir::parameters_of(plan_.program)) {
      const ParameterLayout& layout = program_.parameters[laid_.size()];
      const ir::Parameter& tensor = weights.tensors->at(layout.name);
      Laid laid{std::vector<float>(tensor.data.size()), &tensor, node->type.axes.size()};
      const auto elements = static_cast<std::size_t>(layout.elements);
      VORTEX_CHECK(elements > 0 && laid.data.size() % elements == 0, laid.data.size(), " floats of ", elements);
      for (std::size_t i = 0; i < laid.data.size(); ++i)
        laid.data[i / elements * elements + static_cast<std::size_t>(layout.table[i % elements])] = tensor.data[i];
      laid_.push_back(std::move(laid));
    }
  }

  // Where each parameter of a layer and KV head lies.
  const float* const* parameters_at(std::int64_t layer, std::int64_t kv_head,
                                    std::array<const float*, kMaxParameters>& out) const {
    if (program_.parameters.empty()) return nullptr;
    if (laid_.empty()) ir::require_weights(plan_.program, plan_.geometry, 1, 1);  // says that there are none
    for (std::size_t p = 0; p < laid_.size(); ++p) {
      const std::int64_t offset = ir::offset_of(*laid_[p].tensor, laid_[p].axes, layer, kv_head);
      VORTEX_CHECK(offset + program_.parameters[p].elements <= static_cast<std::int64_t>(laid_[p].data.size()),
                   "layer ", layer, ", KV head ", kv_head, " of ", program_.parameters[p].name);
      out[p] = laid_[p].data.data() + offset;
    }
    return out.data();
  }

  // Bytes of summaries that each loop over instances reads of one, by the domain it runs over.
  static std::vector<std::pair<int, std::int64_t>> bytes_read(const TileProgram& program) {
    std::vector<std::pair<int, std::int64_t>> out;
    const auto add = [&](const Lanes& lanes) {
      std::vector<bool> read(program.fields.size(), false);
      for (const Instruction& at : lanes.code)
        if (at.code == Opcode::gather || at.code == Opcode::stream) read[static_cast<std::size_t>(at.field)] = true;
      std::int64_t each = 0;
      for (std::size_t f = 0; f < read.size(); ++f)
        if (read[f]) each += program.fields[f].elements * (program.fields[f].dtype == ir::DType::bf16 ? 2 : 4);
      if (each > 0) out.emplace_back(lanes.domain, each);
    };
    for (const Lanes& lanes : program.page) add(lanes);
    for (const auto& sweeps : program.finish)
      for (const Sweep& sweep : sweeps)
        for (const Lanes& lanes : sweep.lanes) add(lanes);
    return out;
  }

  void run_lanes(const Lanes& lanes, Frame& frame, std::int64_t begin, std::int64_t end) const {
    frame.instances = instances_of(lanes.domain, frame);
    end = std::min(end, frame.instances.count);
    for (frame.begin = begin; frame.begin < end; frame.begin += program_.chunk) {
      frame.count = std::min(program_.chunk, end - frame.begin);
      execute(lanes.code, frame);
    }
  }

  // Floats of one spilled element: a chunk may be read a vector past its end without meeting the next element.
  static std::int64_t capacity(std::int64_t candidates) {
    return (candidates + tile::kLanes - 1) / tile::kLanes * tile::kLanes + tile::kLanes;
  }

  Frame frame_of(const RowArguments& row, float* scratch) const {
    Frame frame;
    frame.scratch = scratch;
    frame.scratch_unit = program_.chunk;
    frame.rows = row.workspace;
    frame.spill = row.workspace + program_.row_floats;
    frame.capacity = capacity(row.candidates);
    frame.row = &row;
    frame.domains = program_.domains;
    frame.page_tokens = plan_.geometry.page_size;
    frame.fields = program_.fields;
    frame.head_dim = plan_.geometry.head_dim;
    frame.group = plan_.geometry.group;
    return frame;
  }

  compiler::Plan plan_;
  ir::RowRule rows_;
  TileProgram program_;
  std::vector<std::pair<int, std::int64_t>> read_;
  std::vector<Laid> laid_;
};

}  // namespace

std::shared_ptr<const CpuFlow> CpuFlow::build(compiler::Plan plan) {
  return std::make_shared<TileFlow>(std::move(plan));
}

}  // namespace vortex::codegen
