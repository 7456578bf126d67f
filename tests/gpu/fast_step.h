// A decode step of a Llama- or Qwen3-shaped model on a device of sm_90, all of it tuned kernels in one captured graph:
// embedding to sampled token. Weights are random bf16 and KV is random: what it shows is speed, and that the pieces
// fit; `weights()` lets a test follow it in double precision. At most 256 sequences.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/cuda/chain.h"
#include "compiler/plan.h"
#include "kernels/cuda/linear.h"

namespace vortex::gpu_tests {

struct StepModel {
  int layers = 28, heads = 16, kv_heads = 8, head_dim = 128, width = 2048, ffn_width = 6144, vocabulary = 151936;
  bool qk_norm = true;
  double rope_base = 1e6;
  float epsilon = 1e-6f;

  int q_width() const { return heads * head_dim; }
  int kv_width() const { return kv_heads * head_dim; }
  int group() const { return heads / kv_heads; }
  std::int64_t weight_bytes() const;
};

// Parts of a step, for timing some of them alone.
enum class Part : unsigned {
  plan = 1,
  embed = 2,
  qkv = 4,
  prepare = 8,
  score = 16,
  select = 32,
  attend = 64,
  output = 128,
  gate_up = 256,
  down = 512,
  head = 1024,
  sample = 2048,
  all = 4095
};
const char* name_of(Part);

// KV of every layer, filled at random once; batches of different shapes share it.
class StepPool {
 public:
  StepPool(std::shared_ptr<device::Device>, const StepModel&, int page_size, std::int64_t tokens, unsigned seed);
  const StepModel& model() const { return model_; }
  int page_size() const { return page_size_; }
  std::int64_t pages() const { return pages_; }
  vortex_kv kv(int layer) const;
  std::int64_t layer_elements() const { return pages_ * model_.kv_heads * 2 * page_size_ * model_.head_dim; }
  const device::Array<unsigned short>& memory() const { return memory_; }

 private:
  StepModel model_;
  int page_size_;
  std::int64_t pages_;
  device::Array<unsigned short> memory_;  // [layers, pages, kv_heads, {K, V}, page_size, head_dim]
};

struct StepOptions {
  int sequences = 1, context = 1024, more = 64;  // tokens of each sequence at the start, and those it can grow by
  unsigned seed = 1;
  int stagger = 16;                     // sequence i starts i % stagger tokens longer
  int tile = 0, split = 0, stages = 0;  // of the linears; 0: as suits
  bool fused = true;          // kernels that the last of their blocks finishes; false: a kernel of its own each
  bool select_apart = false;  // one kernel finishes scores and another selects, whatever `fused` says
};

class FastStep {
 public:
  // plan: the flow of all layers; none: full attention.
  FastStep(std::shared_ptr<device::Device>, const StepPool&, const std::optional<compiler::Plan>&, const StepOptions&);
  ~FastStep();

  // A graph of those parts; `log`: keeps lists and logits of the step it runs, and is no longer timed.
  std::unique_ptr<device::Graph> capture(unsigned parts, bool log = false);
  // The same parts launched one by one, without a graph.
  void launch(unsigned parts);
  // What the kernel of Part::plan does, on the host, which waits for the lengths first.
  void plan_on_host();
  std::vector<int> next_tokens();  // waits
  device::Stream& stream();
  // Milliseconds of each of n launches.
  std::vector<double> time(device::Graph&, int n);

  // What the last logged step left, copied to the host.
  struct Log {
    std::vector<int> listed;    // [layers, lists] tokens attended
    std::vector<int> physical;  // [layers, lists, stride]
    std::int64_t stride = 0;
    std::vector<float> logits;      // [sequences, vocabulary]
    std::vector<int> tokens, next;  // [sequences]
  };
  Log log();
  void set_inputs(const std::vector<int>& next,
                  const std::vector<int>& lengths);  // of the next step, its own token included

  std::int64_t bytes_of(
      Part) const;  // least bytes of one layer's part (head: of the step), attended KV as the budget has it
  std::string describe_linears() const;

  struct Weights;
  const Weights& weights() const { return *weights_; }
  const std::vector<int>& tables() const { return tables_host_; }
  int table_stride() const { return table_stride_; }

 private:
  struct State;
  void put(unsigned parts, bool log);

  std::shared_ptr<device::Device> device_;
  const StepPool& pool_;
  StepModel model_;
  StepOptions options_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<State> state_;
  std::vector<int> tables_host_;
  int table_stride_ = 0;
};

// Packed as the linears want them; random.
struct FastStep::Weights {
  std::unique_ptr<kernels::StreamedLinear> qkv, output, gate_up, down, head;
  std::vector<device::Array<unsigned short>> qkv_of, output_of, gate_up_of, down_of;  // [layers]
  device::Array<unsigned short> head_of;
  device::Array<float> norm;       // [width] around one, for every norm but those of heads
  device::Array<float> head_norm;  // [head_dim] around one
};

}  // namespace vortex::gpu_tests
