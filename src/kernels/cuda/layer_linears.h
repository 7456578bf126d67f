// The linears between two attentions as one kernel of sm_90, compiled for a shape: output, gate and up, down, and q, k,
// v of the next layer, at most 64 rows. What each makes is what the StreamedLinear of its epilogue makes. Serves
// widths that it can cut into equal parts for all multiprocessors; others run linear by linear.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "device/device.h"
#include "kernels/cuda/layer_linears_arguments.h"

namespace vortex::kernels {

struct LayerLinearsShape {
  int rows = 8;  // of activations, a multiple of 8, at most 64
  std::int64_t width = 0, q_width = 0, ffn_width = 0, qkv_width = 0;
  std::array<int, 4> packs{};  // channels of a tile as packed: output, gate and up, down, q k v
  // How the work is cut; 0: as suits the shape.
  int cluster = 0, blocks = 0, units = 0, stages = 0, sums = 0;
  std::array<int, 4> tiles{}, splits{};  // channels of a tile, blocks that share one
  int window = 8;                        // slabs of weights on their way at a time
  device::Start start = device::Start::early;
};

class LayerLinears {
 public:
  // None when the shape cannot be cut evenly.
  static std::optional<LayerLinearsShape> resolve(const LayerLinearsShape&, int multiprocessors);
  static device::Source source(const LayerLinearsShape&);  // of a shape that resolve() made
  // None also when the device cannot have all blocks at work at once, or is not of sm_90.
  static std::unique_ptr<LayerLinears> make(device::Device&, const LayerLinearsShape&);

  const LayerLinearsShape& shape() const { return shape_; }
  int parts() const;  // of the squares that a launch leaves
  std::int64_t weight_bytes() const;
  std::string describe() const;
  void run(device::Stream&, const cuda::LayerLinearsArguments&) const;

 private:
  LayerLinears(device::Device&, const LayerLinearsShape&);

  LayerLinearsShape shape_;
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::kernels
