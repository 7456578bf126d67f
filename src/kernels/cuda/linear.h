// The weight-streaming linear of a device of sm_90, compiled for a shape: at most 256 rows, weights and activations
// bf16, sums float32. Epilogues: plain float32; SwiGLU of interleaved gate and up channels; residual plus the next
// norm's product and squares; the likeliest channel. Refuses channels that are no multiple of 64. Weights lie packed
// the same way for every shape and number of rows.
#pragma once

#include <memory>

#include "device/device.h"
#include "kernels/cuda/linear_arguments.h"

namespace vortex::kernels {

enum class Epilogue : std::uint8_t { plain, swiglu, residual, likeliest };
const char* name_of(Epilogue);

struct LinearShape {
  Epilogue epilogue = Epilogue::plain;
  int rows = 8;                  // of activations, a multiple of 8, at most 256
  std::int64_t in = 0, out = 0;  // channels; out of swiglu counts gates and ups
  // How the work is cut; 0: as suits the shape.
  int tile = 0;    // channels of a block, a multiple of 64
  int part = 0;    // rows of a block, a multiple of 8
  int split = 0;   // blocks that share the input channels of a tile
  int stages = 0;  // of 64 input channels, in shared memory
};

// "swiglu 2048x12288, 128 channels of 64 rows a block, split 1, 8 stages"
std::string describe(const LinearShape&);

class StreamedLinear {
 public:
  // UserError when the device or the shape is not served.
  StreamedLinear(device::Device&, const LinearShape&);
  static device::Source source(const LinearShape&);  // of a shape that resolve() made
  static LinearShape resolve(const LinearShape&);
  static constexpr int kPackedRows = 64;  // of the weights, a tile of the order of operand.cuh

  const LinearShape& shape() const { return shape_; }
  int blocks() const;                                                       // of the grid
  int bests() const;                                                        // of a row, that likeliest leaves
  int parts() const { return static_cast<int>(shape_.out / kPackedRows); }  // of squares_out
  std::int64_t weight_elements() const {
    return (shape_.out + kPackedRows - 1) / kPackedRows * kPackedRows * shape_.in;
  }
  std::int64_t weight_bytes() const { return shape_.out * shape_.in * 2; }
  // tiles, chunks and channels of the arguments are filled in here.
  void run(device::Stream&, cuda::StreamedLinearArguments) const;

 private:
  LinearShape shape_;
  int multiprocessors_;
  std::unique_ptr<device::Module> module_;
};

// What stands around the linears: packing, random contents, the embedding, the likeliest token.
class LinearHelpers {
 public:
  explicit LinearHelpers(device::Device&);
  static device::Source source();
  void pack(device::Stream&, const cuda::PackArguments&) const;
  void random(device::Stream&, const cuda::RandomArguments&) const;
  void embed(device::Stream&, const cuda::PackedEmbedArguments&, int count) const;
  void take_likeliest(device::Stream&, const cuda::TakeLikeliestArguments&, int count) const;

 private:
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::kernels
