// A decoder of grouped-query attention and dense feed-forward blocks on a device of sm_90: weights as bf16, packed for
// the streamed linears, and the walk through its layers. The same walk serves decode steps, which may be captured, and
// prompt chunks, in blocks of 256 tokens. Refuses what those linears do not serve.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "attention/cuda/layer.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/model.h"
#include "models/grouped_query.h"
#include "models/model.h"

namespace vortex::models {

// One walk. Pointers are of the device.
struct CudaWalk {
  const int* tokens = nullptr;  // [count] ids
  int count = 0;                // at most what was reserved
  int rows = 8;                 // of a block of the linears: a multiple of 8, at most 256
  // The rows whose logits are wanted, [logit_rows] tokens of the walk, at most 256; null: all of them, in a walk of one
  // block.
  const int* logit_tokens = nullptr;
  int logit_rows = 0;
  int head_rows = 0;  // rows that the output head is cut for, with logit_tokens; 0: those that are wanted
  const cuda::Draw* draws = nullptr;  // [logit_rows] what they draw; null: all take the likeliest token
};

class CudaDecoder final : public Model {
 public:
  CudaDecoder(const ModelConfig&, const WeightSource&, ThreadPool&, std::shared_ptr<device::Device>,
              GroupedQueryOptions);
  ~CudaDecoder() override;

  const ModelConfig& config() const override { return config_; }
  std::int64_t weight_bytes() const override;
  std::shared_ptr<device::Device> device() const override { return device_; }
  void step(const StepInput&, attention::LayerAttention&, ThreadPool&) override;  // UserError: this model is elsewhere

  static constexpr int kMostRows = 256;  // of a block, and logits of a walk

  // What a walk works in, for so many tokens at positions below `positions`. Enough for two engines is enough for one:
  // it only grows. MachineError when the memory is not there.
  void reserve(int tokens, int positions);
  int generation() const { return generation_; }  // grows when what was reserved moves: captured walks are void
  // Compiles the linears for blocks of so many rows; before a capture.
  void prepare(int rows);
  // What walks work in is one caller's at a time: take() lets the stream wait until the caller before has given it.
  void take(device::Stream&);
  void give(device::Stream&);
  // One at a time. The logits and the chosen tokens of the wanted rows are in logits() and chosen() then.
  void walk(device::Stream&, const CudaWalk&, attention::CudaLayerAttention&);
  float* logits() const;              // [256, vocabulary]
  cuda::ChosenToken* chosen() const;  // [256]

 private:
  struct Linears;
  struct Weights;
  struct Buffers;

  const Linears& linears(int rows);
  void make_buffers(device::Stream&, std::int64_t blocks);
  void head(device::Stream&, const unsigned short* operand, const float* squares, int parts, int rows, int count,
            const cuda::Draw* draws);

  ModelConfig config_;
  std::shared_ptr<device::Device> device_;
  GroupedQueryOptions options_;
  kernels::LinearHelpers helpers_;
  kernels::CudaModelKernels kernels_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Buffers> buffers_;
  std::map<int, std::unique_ptr<Linears>> linears_;  // by rows
  std::unique_ptr<device::Event> given_;
  int generation_ = 0;
};

}  // namespace vortex::models
