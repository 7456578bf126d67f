// Cuts the work of a streamed linear, prints its instruction and launches it.
#include "kernels/cuda/linear.h"

#include <vortex/error.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace vortex::kernels {

std::string_view device_source(std::string_view name);  // made by cmake/embed.cmake

namespace {

constexpr int kMostRows = 256, kMostInCluster = 8, kMostStages = 13, kUnit = StreamedLinear::kPackedRows;
constexpr std::int64_t kSharedBytes = 226 * 1024;

std::int64_t up(std::int64_t x, std::int64_t by) { return (x + by - 1) / by; }
std::int64_t stage_bytes(const LinearShape& s) { return (s.tile + s.part) * 128; }
// What the blocks of a split send each other.
std::int64_t sent_bytes(const LinearShape& s) { return (s.split - 1) * up(s.part / 8, s.split) * s.tile * 2 * 16; }
std::int64_t fixed_bytes(const LinearShape& s) {
  const std::int64_t of_warps = s.tile / 16 * s.part * 4;
  return 2048 + s.part * 4 + sent_bytes(s) +
         (s.epilogue == Epilogue::likeliest  ? of_warps * 2
          : s.epilogue == Epilogue::residual ? of_warps
                                             : 0);
}
std::int64_t tiles_of(const LinearShape& s) { return up(s.out, s.tile); }
std::int64_t row_blocks_of(const LinearShape& s) { return up(s.rows, s.part); }
std::int64_t blocks_of(const LinearShape& s) { return tiles_of(s) * row_blocks_of(s) * s.split; }
int most_stages(const LinearShape& s) {
  return static_cast<int>(std::min<std::int64_t>((kSharedBytes - fixed_bytes(s)) / stage_bytes(s), kMostStages));
}

std::string describe_cut(const LinearShape& s) {
  return concat(s.in, "x", s.out, ", ", s.tile, " channels of ", s.part, " rows a block, split ", s.split);
}

bool can_cut(const LinearShape& s) {
  // Registers of a thread: its sums, what is added to them, and about 40 more.
  const int threads = s.tile * 2 + 128;
  const std::int64_t added = s.epilogue == Epilogue::residual ? up(s.part / 8, s.split) * 4 : 0;
  return s.split <= kMostInCluster && s.in / 64 >= s.split && (s.epilogue != Epilogue::likeliest || s.split == 1) &&
         s.part / 2 + added + 40 <= std::min(65536 / threads, 255) && most_stages(s) >= 2;
}

// wgmma for so many columns, as a function of C++.
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

// The cuts that were fastest on an H200 at widths of 2,048: a block's stages cover what memory has on its way, all
// blocks run at once, and no more blocks join sums than keep the device at work. Blocks of clusters of four fill the
// device only where two fit a multiprocessor.
LinearShape preferred(const LinearShape& asked) {
  LinearShape s = asked;
  const bool fewest = asked.rows <= 8, few = asked.rows <= 16, many = asked.rows > 128, deep = asked.in > 4096;
  const int half = static_cast<int>(up(asked.rows, 16)) * 8;
  s.tile = 64, s.part = many ? half : asked.rows, s.split = 2, s.stages = kMostStages;
  switch (asked.epilogue) {
    case Epilogue::plain:
      if (many) {
        s.split = 1;
      } else if (!fewest) {
        s.stages = 8;
      }
      break;
    case Epilogue::residual:
      if (fewest && !deep) break;
      if (few) s.split = 4;
      if (few || !deep) s.stages = 8;
      break;
    case Epilogue::swiglu:
      s.tile = many ? 192 : 128, s.split = 1;
      if (fewest) s.stages = 10;
      break;
    case Epilogue::likeliest:
      s.tile = 128, s.part = asked.rows, s.split = 1;
      break;
  }
  while (s.split > asked.in / 64) s.split /= 2;
  return s;
}

}  // namespace

const char* name_of(Epilogue epilogue) {
  constexpr const char* kNames[] = {"plain", "swiglu", "residual", "likeliest"};
  return kNames[static_cast<int>(epilogue)];
}

std::string describe(const LinearShape& s) {
  return concat(name_of(s.epilogue), " ", describe_cut(s), ", ", s.stages, " stages");
}

LinearShape StreamedLinear::resolve(const LinearShape& asked) {
  const std::string where = concat("linear ", name_of(asked.epilogue));
  if (asked.rows <= 0 || asked.rows % 8 != 0 || asked.rows > kMostRows) {
    throw UserError(where, concat("a multiple of 8 rows, at most ", kMostRows, ", was required"),
                    concat(asked.rows, " rows"), "round up, or run the rows in parts");
  }
  const int whole = asked.epilogue == Epilogue::likeliest ? 8 : asked.epilogue == Epilogue::swiglu ? 2 * kUnit : kUnit;
  if (asked.in <= 0 || asked.in % 64 != 0 || asked.out <= 0 || asked.out % whole != 0) {
    throw UserError(
        where,
        concat("input channels in multiples of 64 and output channels in multiples of ", whole, " were required"),
        concat(asked.in, " in, ", asked.out, " out"), "run this model on the cpu");
  }
  LinearShape shape = preferred(asked);
  if (asked.tile != 0) shape.tile = asked.tile;
  if (asked.part != 0) shape.part = asked.part;
  if (asked.split != 0) shape.split = asked.split;
  if (!can_cut(shape)) {
    throw UserError(where, "a cut that a block and a cluster can hold was required", describe_cut(shape),
                    "leave the cut to the shape");
  }
  shape.stages = std::min(asked.stages != 0 ? asked.stages : shape.stages, most_stages(shape));
  return shape;
}

device::Source StreamedLinear::source(const LinearShape& s) {
  return {
      .name = concat("linear_", name_of(s.epilogue)),
      .text = concat("#define LINEAR_TILE ", s.tile, "\n#define LINEAR_ROWS ", s.rows, "\n#define LINEAR_PART ", s.part,
                     "\n#define LINEAR_SPLIT ", s.split, "\n#define LINEAR_STAGES ", s.stages,
                     "\n#define LINEAR_EPILOGUE ", static_cast<int>(s.epilogue), "\nnamespace vortex::cuda {\n",
                     print_instruction(s.part), "}\n#include \"kernels/cuda/linear.cuh\"\n"),
      .headers = headers({"kernels/cuda/linear_arguments.h", "kernels/cuda/operand.cuh", "kernels/cuda/linear.cuh"}),
      .kernels = {"linear"}};
}

StreamedLinear::StreamedLinear(device::Device& device, const LinearShape& shape)
    : shape_(resolve(shape)), multiprocessors_(device.multiprocessors()) {
  if (device.kind() == device::Kind::cuda && device.architecture() != "sm_90a") {
    throw UserError("linear", "a device of compute capability 9.0 was required", device.describe(),
                    "use the plain linear of CudaStepKernels");
  }
  module_ = device.load(source(shape_));
}

int StreamedLinear::blocks() const {
  const int all = static_cast<int>(blocks_of(shape_));
  if (shape_.epilogue != Epilogue::likeliest) return all;
  const int step = static_cast<int>(row_blocks_of(shape_));
  return std::max(std::min(all, multiprocessors_ / step * step), step);
}

int StreamedLinear::bests() const { return blocks() / static_cast<int>(row_blocks_of(shape_)); }

void StreamedLinear::run(device::Stream& stream, cuda::StreamedLinearArguments a) const {
  VORTEX_CHECK(a.count > 0 && a.count <= shape_.rows, "count ", a.count, " of ", shape_.rows, " rows");
  a.tiles = static_cast<int>(tiles_of(shape_)), a.chunks = static_cast<int>(shape_.in / 64);
  a.channels = static_cast<int>(shape_.out);
  stream.launch(
      module_->kernel("linear"), {static_cast<unsigned>(blocks())}, {static_cast<unsigned>(shape_.tile * 2 + 128)}, a,
      static_cast<unsigned>(shape_.stages * stage_bytes(shape_) + sent_bytes(shape_) + 1024), device::Start::early);
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
