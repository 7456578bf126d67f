// Cuts the work of a streamed linear, prints its instruction and launches it.
#include "kernels/cuda/linear.h"

#include <vortex/error.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace vortex::kernels {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr int kMostRows = 256, kMultiprocessors = 132;
constexpr std::int64_t kShared = 220 * 1024;

std::int64_t stage_bytes(const LinearShape& s) { return (s.tile + s.rows) * 128; }
std::int64_t sum_bytes(const LinearShape& s) {
  return s.epilogue == Epilogue::likeliest ? 0 : std::int64_t{s.rows} * (s.tile + 4 * s.split) * 4;
}
std::int64_t tiles_of(const LinearShape& s) { return (s.out + s.tile - 1) / s.tile; }

// Stages that fit; 0 when the shape's sums do not.
int stages_of(const LinearShape& s) {
  const std::int64_t least = std::max<std::int64_t>((sum_bytes(s) + stage_bytes(s) - 1) / stage_bytes(s), 2);
  const std::int64_t stages = std::max(least, kShared / stage_bytes(s));
  return stages * stage_bytes(s) <= kShared ? static_cast<int>(std::min<std::int64_t>(stages, 8)) : 0;
}

bool can_cut(const LinearShape& s) {
  if (s.epilogue == Epilogue::likeliest) return s.split == 1;
  if (s.out % s.tile != 0 || s.tile % s.split != 0 || s.in / 64 < s.split) return false;
  const int share = s.tile / s.split;
  if (s.epilogue == Epilogue::swiglu) return share % 16 == 0 && s.out % 128 == 0;
  return share % 8 == 0 && (s.epilogue == Epilogue::plain || (share & (share - 1)) == 0);
}

// wgmma for kRows columns, as a function of C++.
std::string print_instruction(int rows) {
  std::vector<std::string> places, operands;
  for (int i = 0; i < rows / 2; ++i) {
    places.push_back(concat("%", i));
    operands.push_back(concat("\"+f\"(d[", i, "])"));
  }
  return concat("// d += 64 × 16 weights · 16 × ", rows, " activations, both in shared memory.\n",
                "__device__ inline void multiply_tile(float (&d)[", rows / 2,
                "], unsigned long long weights, unsigned long long rows) {\n  asm volatile(\"{.reg .pred add; "
                "setp.ne.b32 add, 1, 0; "
                "wgmma.mma_async.sync.aligned.m64n",
                rows, "k16.f32.bf16.bf16 {", join(places, ", "), "}, %", rows / 2, ", %", rows / 2 + 1,
                ", add, 1, 1, 0, 0;}\"\n               : ", join(operands, ", "),
                "\n               : \"l\"(weights), \"l\"(rows));\n}\n");
}

std::vector<device::Header> headers(std::initializer_list<const char*> own) {
  std::vector<device::Header> out;
  for (const char* name : {"device/cuda/device.cuh", "device/cuda/async.cuh", "device/cuda/matrix.cuh"})
    out.push_back(device::device_header(name));
  for (const char* name : own) out.push_back({name, std::string(device_source(name))});
  return out;
}

}  // namespace

const char* name_of(Epilogue epilogue) {
  constexpr const char* kNames[] = {"plain", "swiglu", "residual", "likeliest"};
  return kNames[static_cast<int>(epilogue)];
}

LinearShape StreamedLinear::resolve(const LinearShape& asked, int multiprocessors) {
  const std::string where = concat("linear ", name_of(asked.epilogue));
  if (asked.rows <= 0 || asked.rows % 8 != 0 || asked.rows > kMostRows) {
    throw UserError(where, concat("a multiple of 8 rows, at most ", kMostRows, ", was required"),
                    concat(asked.rows, " rows"), "round up, or run the rows in parts");
  }
  if (asked.in <= 0 || asked.in % 64 != 0 || asked.out <= 0 || asked.out % 8 != 0) {
    throw UserError(where, "input channels in multiples of 64 and output channels in multiples of 8 were required",
                    concat(asked.in, " in, ", asked.out, " out"), "run this model on the cpu");
  }
  // Cuts that were fastest on an H200 at widths of 2,048: sums of many rows are dear to share among blocks.
  const bool few = asked.rows <= 16, deep = asked.in > 4096;
  LinearShape preferred = asked;
  switch (asked.epilogue) {
    case Epilogue::plain:
      preferred.tile = 64, preferred.split = few ? 4 : 2;
      break;
    case Epilogue::residual:
      preferred.tile = deep ? 128 : 64, preferred.split = few || deep ? 4 : 2;
      break;
    case Epilogue::swiglu:
      preferred.tile = few ? 192 : 128, preferred.split = few ? 2 : 1;
      break;
    case Epilogue::likeliest:
      preferred.tile = 128, preferred.split = 1;
      break;
  }
  if (asked.tile == 0 && asked.split == 0 && can_cut(preferred)) {
    if (asked.stages == 0) preferred.stages = stages_of(preferred);
    if (preferred.stages != 0) return preferred;
  }
  LinearShape best;
  double best_use = 0;
  for (const int tile : {192, 128, 64}) {
    if (asked.tile != 0 && asked.tile != tile) continue;
    if (tile == 192 && (asked.epilogue == Epilogue::likeliest || asked.rows > 128)) continue;  // registers
    for (const int split : {1, 2, 4, 8}) {
      if (asked.split != 0 && asked.split != split) continue;
      LinearShape shape = asked;
      shape.tile = tile, shape.split = split;
      if (shape.stages == 0) shape.stages = stages_of(shape);
      if (shape.stages == 0 || !can_cut(shape)) continue;
      // Share of the device at work, over all waves; sums of splits and activations read again cost a little.
      const double blocks = static_cast<double>(tiles_of(shape) * split), waves = std::ceil(blocks / multiprocessors);
      const double use = blocks / (waves * multiprocessors) * (1.0 - 0.004 * split - 0.03 * shape.rows / tile);
      if (use > best_use) best_use = use, best = shape;
    }
  }
  if (best_use == 0) {
    throw UserError(where, "channels that tiles of 64, 128 or 192 divide were required",
                    concat(asked.out, " output channels, ", asked.rows, " rows"), "run this model on the cpu");
  }
  return best;
}

device::Source StreamedLinear::source(const LinearShape& s) {
  return {
      .name = concat("linear_", name_of(s.epilogue)),
      .text = concat("#define LINEAR_TILE ", s.tile, "\n#define LINEAR_ROWS ", s.rows, "\n#define LINEAR_SPLIT ",
                     s.split, "\n#define LINEAR_STAGES ", s.stages, "\n#define LINEAR_EPILOGUE ",
                     static_cast<int>(s.epilogue), "\nnamespace vortex::cuda {\n", print_instruction(s.rows),
                     "}\n#include \"kernels/cuda/linear.cuh\"\n"),
      .headers = headers({"kernels/cuda/linear_arguments.h", "kernels/cuda/operand.cuh", "kernels/cuda/linear.cuh"}),
      .kernels = {"linear"}};
}

StreamedLinear::StreamedLinear(device::Device& device, const LinearShape& shape)
    : shape_(resolve(shape, device.kind() == device::Kind::cuda ? device.multiprocessors() : kMultiprocessors)),
      multiprocessors_(device.multiprocessors()) {
  if (device.kind() == device::Kind::cuda && device.architecture() != "sm_90a") {
    throw UserError("linear", "a device of compute capability 9.0 was required", device.describe(),
                    "use the plain linear of CudaStepKernels");
  }
  module_ = device.load(source(shape_));
}

int StreamedLinear::blocks() const {
  const int all = tiles() * shape_.split;
  return shape_.epilogue == Epilogue::likeliest ? std::min(all, multiprocessors_) : all;
}

void StreamedLinear::run(device::Stream& stream, cuda::StreamedLinearArguments a) const {
  VORTEX_CHECK(a.count > 0 && a.count <= shape_.rows, "count ", a.count, " of ", shape_.rows, " rows");
  a.tiles = tiles(), a.chunks = static_cast<int>(shape_.in / 64), a.channels = static_cast<int>(shape_.out);
  stream.launch(module_->kernel("linear"), {static_cast<unsigned>(blocks())},
                {static_cast<unsigned>(shape_.tile * 2 + 128)}, a,
                static_cast<unsigned>(shape_.stages * stage_bytes(shape_) + 1024), device::Start::early);
}

device::Source LinearHelpers::source() {
  return {.name = "linear_helpers",
          .text = "#include \"kernels/cuda/linear_helpers.cuh\"\n",
          .headers = headers(
              {"kernels/cuda/linear_arguments.h", "kernels/cuda/operand.cuh", "kernels/cuda/linear_helpers.cuh"}),
          .kernels = {"pack", "random_values", "embed_packed", "take_likeliest"}};
}

LinearHelpers::LinearHelpers(device::Device& device) : module_(device.load(source())) {}

void LinearHelpers::pack(device::Stream& stream, const cuda::PackArguments& a) const {
  VORTEX_CHECK(a.rows_out > 0 && a.rows_out % a.tile == 0 && a.columns % 64 == 0, a.rows_out, " rows of ", a.columns);
  stream.launch(module_->kernel("pack"), {static_cast<unsigned>(a.rows_out)}, {128}, a);
}

void LinearHelpers::random(device::Stream& stream, const cuda::RandomArguments& a) const {
  stream.launch(module_->kernel("random_values"), {4096}, {256}, a);
}

void LinearHelpers::embed(device::Stream& stream, const cuda::PackedEmbedArguments& a, int count) const {
  VORTEX_CHECK(count > 0 && count <= a.rows, "count ", count);
  stream.launch(module_->kernel("embed_packed"), {static_cast<unsigned>(count)}, {256}, a, 0, device::Start::early);
}

void LinearHelpers::take_likeliest(device::Stream& stream, const cuda::TakeLikeliestArguments& a, int count) const {
  VORTEX_CHECK(count > 0 && count <= a.rows, "count ", count);
  stream.launch(module_->kernel("take_likeliest"), {static_cast<unsigned>(count)}, {128}, a, 0, device::Start::early);
}

}  // namespace vortex::kernels
