// Steps on a CUDA device (or planned on the null device). KV and summaries lie in device memory; a decode step is one
// captured graph from embedding to chosen token, with one graph for each flow, number of sequences and length, both
// rounded up; prompt chunks run kernel by kernel. Lanes of different flows run one after the other. Refuses what the
// device's kernels lack, in words.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "attention/cuda/chain.h"
#include "attention/cuda/prefill.h"
#include "engine/backend.h"
#include "engine/cuda/flow_memory.h"
#include "kernels/cuda/model.h"
#include "models/cuda/decoder.h"

namespace vortex::engine {

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<models::CudaDecoder>, const EngineConfig&, const attention::Geometry&);
  ~CudaBackend() override;

  std::int64_t available_bytes() const override;
  std::int64_t page_bytes() const override { return 2 * geometry_.layers * page_elements_; }
  std::int64_t compile(int number, const ir::Program&) override;
  void build_ahead(const ir::Program&) const override;
  // All that compile() refuses is refused here.
  static std::unique_ptr<CudaFlow> make_flow(const std::shared_ptr<device::Device>&, const ir::Program&,
                                             const attention::Geometry&, int sequences, std::int64_t tokens);
  void forget(int number) override;
  attention::CarriedLayout carried(int number) const override;

  void allocate(std::int64_t pages) override;
  void allocate_summaries(int number) override;
  std::int64_t kv_bytes() const override { return pages_ * page_bytes(); }
  std::int64_t summary_bytes() const override;

  void invalidate(kv::Page) override;
  void copy(kv::Page from, kv::Page to) override;
  void save(std::span<const kv::Page>, std::byte* to) const override;
  void restore(std::span<const kv::Page>, const std::byte* from) override;
  void fill(std::span<const kv::Page>, std::uint64_t seed) override;

  BackendResult run(const BackendStep&) override;
  bool overlaps() const override { return true; }
  void launch(const BackendStep&) override;
  BackendResult finish(StepStatistics*) override;
  bool runs_ahead() const override { return true; }
  void run_ahead(const BackendStep&, std::int64_t steps, std::int32_t* tokens) override;
  StepProfile profile(const BackendStep&) override;

 private:
  static constexpr int kAhead = 64;  // steps without the host

  class PrefillAttention;
  class DecodeAttention;
  // What a step that was launched brings back once `done` has come.
  struct Launched {
    device::Pinned<cuda::ChosenToken> chosen;  // [most_sequences] of its walks, one after the other
    device::Pinned<std::int64_t> counted;      // [2]
    std::unique_ptr<device::Event> done;
    std::vector<std::int32_t> place;  // [rows wanted] where each has its token
    std::int32_t walked = 0;          // of `chosen`
    bool counts = false;
  };

  // Flow, sequences, tokens, whether lists are kept, whether the step makes the next one's input, whether it draws.
  using GraphKey = std::tuple<int, int, int, bool, bool, bool>;

  CudaFlow* flow(int number) const;  // null: full attention
  vortex_kv kv(int layer) const;
  int bucket(std::int64_t sequences) const;
  int longest_of(std::int64_t tokens) const;
  void move(std::span<const kv::Page>, std::byte* host, bool to_pool) const;
  void put_tables(std::span<const attention::Slice* const>, int sequences);
  std::int32_t logit_row(const BackendStep&, const attention::Slice&) const;  // of the step's logits, or −1
  void begin(const BackendStep&, std::int64_t steps);
  // What rows of the walk draw, [walk row] of the step's wanted rows or −1; false: every one takes its likeliest token.
  bool put_draws(const BackendStep&, std::span<const std::int32_t> wanted);
  // What a decode step reads of its sequences, up to the upload; returns the tokens of the longest.
  // Where a flow with state finds that of each sequence.
  void put_carried(const CudaFlow&, std::span<const attention::Slice* const>, int sequences, std::int64_t more);
  std::int64_t put_inputs(const BackendStep&, std::span<const attention::Slice* const>, int sequences);
  void upload_inputs(const BackendStep&);
  void prefill(const BackendStep&, std::span<const attention::Slice* const>);
  // What a step of a flow reads that is not there yet: summaries, and where each sequence's state lies.
  void prepare_flow(CudaFlow&, std::span<const attention::Slice* const>, int sequences, std::int64_t more,
                    StepStatistics*);
  void decode(const BackendStep&, int number, std::span<const attention::Slice* const>);
  device::Graph& graph(const GraphKey&);
  void put_step(device::Stream&, const GraphKey&);  // its kernels, on any stream
  int head_rows() const { return config_.deterministic ? (most_sequences_ + 7) / 8 * 8 : 0; }
  // more: tokens after the step's own that will be decoded before summaries are looked at again.
  void rebuild(CudaFlow&, std::span<const attention::Slice* const>, std::int64_t more, StepStatistics*);
  void summarize(const CudaFlow&, std::span<const std::int32_t> ends, std::span<const std::size_t> first) const;
  void finish_pages(CudaFlow&, std::span<const attention::Slice* const>, std::int64_t steps) const;
  void count(const CudaFlow*, std::span<const attention::Slice* const>, std::int64_t step, StepStatistics&) const;
  void add_counted(const std::int64_t* counted, StepStatistics&) const;
  void keep_lists(const CudaFlow&, std::span<const attention::Slice* const>, const BackendStep&);
  // The step that is being put together, or nothing yet.
  Launched& launching() { return launched_[launches_ % 2]; }
  // Logits and chosen tokens of the walk's rows for the step's wanted rows, [walk row] each or −1, on their way.
  void take(const BackendStep&, std::span<const std::int32_t> wanted);

  std::shared_ptr<models::CudaDecoder> model_;
  std::shared_ptr<device::Device> device_;
  EngineConfig config_;
  attention::Geometry geometry_;
  vortex_geometry shape_;
  std::int64_t page_elements_;  // of one layer
  std::int64_t pages_ = 0;
  int table_stride_ = 0, most_sequences_ = 0;

  std::unique_ptr<device::Stream> stream_;
  attention::CudaPrefill prefill_;  // first: it says which geometries are served
  attention::CudaChain chain_;
  attention::CudaFlowKernels dense_;
  kernels::CudaModelKernels kernels_;

  device::Array<unsigned short> pool_;  // [layers, pages + 1, kv_heads, {K, V}, token, dim]; the last page is nobody's
  std::vector<std::unique_ptr<CudaFlow>> flows_;

  // Inputs of a step, one upload: token ids, lengths, steps (64 bit), how many sequences are real, and where in the
  // tokens of the step before a sequence finds its id, or −1.
  device::Array<std::int64_t> inputs_;
  std::vector<std::int64_t> inputs_host_;  // like all that is uploaded, free to change once the copy is on the stream
  device::Array<cuda::FlowArguments::Carried> carried_;  // [most_sequences]
  std::vector<cuda::FlowArguments::Carried> carried_host_;
  device::Array<int> tables_;  // [most_sequences, table_stride]
  std::vector<std::int32_t> tables_host_;
  device::Array<int> chunk_;  // token ids, lengths and wanted rows of prompt chunks
  std::vector<std::int32_t> chunk_host_;
  device::Array<cuda::Draw> draws_;  // [256]
  std::vector<cuda::Draw> draws_host_;
  device::Array<float> q_, partial_;
  device::Array<int> log_;  // [kAhead, most_sequences] tokens of steps that ran ahead
  device::Pinned<std::int32_t> log_host_;
  device::Pinned<std::int32_t> fed_host_;        // [kAhead + 1, most_sequences] inputs of such steps that are given
  device::Array<std::int64_t> counted_;          // [2] pages and tokens listed in the step
  device::Array<int> page_list_;                 // [pages] of whatever works on pages
  int generation_ = 0;                           // of the model's buffers that graphs were captured over
  mutable device::Array<unsigned short> block_;  // pages on their way

  std::map<GraphKey, std::unique_ptr<device::Graph>> graphs_;
  device::Pinned<float> logits_;  // [max_batch, vocabulary]
  std::vector<Chosen> chosen_;    // [max_batch]
  Launched launched_[2];          // by turns
  std::int64_t launches_ = 0, finished_ = 0;
};

}  // namespace vortex::engine
