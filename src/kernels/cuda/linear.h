// The weight-streaming linear of a device of sm_90, compiled for a shape: at most 256 rows, weights and activations
// bf16, sums float32. Epilogues: plain float32; SwiGLU of interleaved gate and up channels; residual plus the next
// norm's product and squares; the likeliest channel. Refuses shapes that its tiles do not divide.
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
  int tile = 0, split = 0, stages = 0;
};

class StreamedLinear {
 public:
  // UserError when the device or the shape is not served.
  StreamedLinear(device::Device&, const LinearShape&);
  static device::Source source(const LinearShape&);  // of a shape that resolve() made
  static LinearShape resolve(const LinearShape&, int multiprocessors);

  const LinearShape& shape() const { return shape_; }
  int tiles() const { return static_cast<int>((shape_.out + shape_.tile - 1) / shape_.tile); }
  int blocks() const;                                   // of the grid
  int parts() const { return tiles() * shape_.split; }  // of squares_out
  std::int64_t weight_elements() const { return tiles() * shape_.tile * shape_.in; }
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
