// A Llama on a device, one decode step captured in a graph and replayed: embedding, layers, sampling. Token, length and
// page list of a step stay on the device; prompts go through the same graph, a token a step, with dense attention.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "compiler/plan.h"
#include "device/device.h"
#include "models/model.h"

namespace vortex::gpu_tests {

struct WalkOptions {
  int page_size = 16;      // physical
  int decode_tokens = 64;  // after the longest prompt
  std::uint64_t seed = 1;  // of the order of physical pages
};

// What was recorded on the device and copied back when all replays were over.
struct WalkResult {
  int positions = 0, sequences = 0, layers = 0, kv_heads = 0, list_stride = 0, vocabulary = 0;
  std::vector<int> tokens;    // [positions + 1, sequences] input token of each position, and what would come next
  std::vector<float> logits;  // [positions, sequences, vocabulary]
  std::vector<int> lists,
      counts;                // [positions, layers, sequences · kv_heads (, list_stride)] in pages of list_page_size
  std::vector<int> lengths;  // [sequences]
  std::vector<std::uint16_t> kv;  // [layers, physical page, kv_head, {K,V}, token, dim]
  int list_page_size = 0;
  bool prompts_recorded = true;  // logits and lists of prompt positions are there
  std::int64_t graph_nodes = 0, device_bytes = 0;
  double milliseconds_per_step = 0;  // median over the replays of decoding
  std::string device;
  device::BuildReport flow_build;  // of the flow's kernels

  std::vector<std::int64_t> list(int position, int layer, int row) const;
  const float* logits_at(int position, int sequence) const {
    return logits.data() + (static_cast<std::size_t>(position) * sequences + sequence) * vocabulary;
  }
};

// Runs prompts [sequences][...] through the graph. plan: the flow of sparse layers; none: full attention.
WalkResult walk(const std::shared_ptr<device::Device>&, const models::ModelConfig&, const models::Weights&,
                const std::optional<compiler::Plan>& plan, const std::vector<std::vector<int>>& prompts,
                const WalkOptions&);

}  // namespace vortex::gpu_tests
