// A flow on a device as the engine holds it: its kernels, its summaries by physical page with a valid bit each, and
// what scoring and selecting work in, sized for the largest step. Flows that some of its layers have of their own
// belong to it. Knows no sequences.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "attention/cuda/chain.h"
#include "attention/row_memory.h"
#include "attention/types.h"
#include "kv/pool.h"

namespace vortex::engine {

class CudaFlow {
 public:
  // sequences, tokens: most of a step, and of a sequence.
  CudaFlow(std::shared_ptr<device::Device>, const ir::Program&, const attention::Geometry&, int sequences, int tokens);

  // The flow of a layer: this one, or the layer's own.
  const CudaFlow& at(std::int64_t layer) const { return *by_layer_[static_cast<std::size_t>(layer)]; }
  // This flow and those of its layers.
  const std::vector<CudaFlow*>& all() const { return all_; }
  bool works_in(std::int64_t layer) const { return places_[static_cast<std::size_t>(layer)] >= 0; }
  bool has_fields() const { return !kernels_.flow().fields.empty(); }

  const attention::CudaFlowKernels& kernels() const { return kernels_; }
  const ir::FlowConfig& config() const { return kernels_.config(); }
  bool chooses() const { return kernels_.rows().chooses(); }
  bool has_state() const { return !kernels_.flow().states.empty(); }
  bool keeps() const { return config().refresh_every > 1; }  // lists, from step to step
  int kept_elements() const { return keeps() ? 2 + list_stride_ : 0; }
  // Whether a row that memory belongs to attends in a step what it attended before.
  bool recalls(const attention::RowMemory& memory, const ir::RowPages&, std::int64_t step, std::int64_t layer) const;
  // What rows carry from step to step in all layers' flows together; and the numbers, of a page and of a sequence, that
  // the flows before this one have.
  attention::CarriedLayout carried() const;
  std::pair<int, int> carried_before() const { return {carried_pages_, carried_rows_}; }
  int first_chooser() const { return first_chooser_; }            // the first layer whose lists this flow makes
  const attention::RowMemory& nobody() const { return nobody_; }  // what a place that no sequence fills works on
  // What layers do among each other.
  bool is_sparse(std::int64_t layer) const { return !arrangement_.is_full(layer); }
  std::int64_t source_of(std::int64_t layer) const { return arrangement_.source_of(layer); }
  // The budget may differ from layer to layer.
  bool plans_layers() const { return kernels_.rows().by_layer(); }
  ir::RowPages rows(std::int64_t tokens, std::int64_t step, std::int64_t layer) const;

  std::int64_t page_bytes() const;  // of all summaries, over all layers
  // Of summaries that scoring a row of so many tokens reads: those of its candidates, and of their groups.
  std::int64_t read_bytes(const ir::RowPages&, std::int64_t tokens) const;
  // Whether such a row reads what is stored with a page: candidates, and groups that end among the recent pages.
  bool reads(const ir::RowPages&, std::int64_t page) const;
  void allocate(std::int64_t pages);
  std::int64_t bytes() const { return pages_ * page_bytes(); }
  std::vector<vortex_field> fields(int layer) const;
  const attention::CudaParameters* parameters() const { return &parameters_; }

  bool is_valid(kv::Page page) const { return valid_[static_cast<std::size_t>(page)] != 0; }
  void set_valid(kv::Page page, bool valid) {
    if (!valid_.empty()) valid_[static_cast<std::size_t>(page)] = valid ? 1 : 0;
  }
  void invalidate(kv::Page page) {
    for (CudaFlow* each : all_) each->set_valid(page, false);
  }

  // Pages of the flow that a row of so many tokens attends at most.
  int budget(std::int64_t tokens) const;

  attention::CudaScores scores(int layer, int sequences, std::int64_t tokens) const;
  // The lists of a layer that chooses. keep: those of each layer stay where they are for the next.
  attention::CudaSelection selection(int layer, bool keep) const;
  const float* rest() const { return rest_.data(); }  // null without one
  cuda::SequencePlan* plans() const { return plans_.data(); }
  const int* sources() const { return sources_.data(); }  // [layers] whose lists a layer attends
  bool keeps_lists() const { return keeps_; }             // all flows of the layers do
  void keep_lists();  // from now on there is room for the lists of all layers, elsewhere
  int list_stride() const { return list_stride_; }
  std::int64_t lists() const { return lists_; }                    // of a layer
  const int* kept_pages() const { return pages_of_rows_.data(); }  // [layers, lists, list_stride]
  const int* counts() const { return counts_.data(); }             // [layers, lists]
  const int* listed() const { return listed_.data(); }             // [layers, lists] tokens

 private:
  CudaFlow(std::shared_ptr<device::Device>, const ir::Program&, const ir::FlowConfig& arrangement,
           std::vector<int> places, const attention::Geometry&, int sequences, int tokens);
  int place_slots();  // returns how many

  std::shared_ptr<device::Device> device_;
  ir::Program program_;  // without the flows of other layers
  attention::CudaFlowKernels kernels_;
  attention::CudaParameters parameters_;
  attention::RowMemory nobody_;
  ir::FlowConfig arrangement_;
  std::vector<int> places_;  // [layers] where a layer's summaries lie among those of the layers this flow works in; −1
  std::vector<std::unique_ptr<CudaFlow>> others_;
  std::vector<const CudaFlow*> by_layer_;  // [layers], of the flow that has others
  std::vector<CudaFlow*> all_;
  int carried_pages_ = 0, carried_rows_ = 0, first_chooser_ = 0;
  attention::Geometry geometry_;
  std::int64_t page_bytes_ = 0, pages_ = 0, lists_, workspace_stride_ = 0;
  int list_stride_ = 0, physical_stride_ = 0;
  std::vector<int> slots_;  // [layers] which of the physical lists a layer that chooses writes
  bool keeps_ = false;
  // [fields] of [layers it works in, pages + 1, kv_heads, elements]; the last page is that of places nobody fills.
  std::vector<device::Array<std::uint8_t>> fields_;
  std::vector<std::uint8_t> valid_;  // [pages]
  device::Array<float> scores_, workspace_, rest_;
  device::Array<int> pages_of_rows_, counts_, physical_, listed_, arrivals_, sources_;
  device::Array<cuda::SequencePlan> plans_;
};

}  // namespace vortex::engine
