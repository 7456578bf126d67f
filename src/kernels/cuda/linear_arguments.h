// Arguments of the weight-streaming linear and of the kernels that prepare its operands, read by the compiler of the
// host and by that of the device. Includes nothing. Operands are bf16 in the order of operand.cuh; `rows` is the count
// of sequences rounded up to a multiple of 8.
#pragma once

namespace vortex::cuda {

struct StreamedLinearArguments {
  const unsigned short* weight;  // [channels / 64, chunks, 64, 64]
  const unsigned short* x;       // [chunks, rows, 64], rows as compiled
  int tiles, chunks;             // tiles of the output channels, input channels / 64
  int count;                     // rows that are sequences
  // A row's sums are multiplied by 1/√(mean square + epsilon), the squares summed over `parts`. parts 0: by 1.
  const float* squares;  // [parts, rows]
  int parts;
  float width, epsilon;

  float* out;               // plain: [count, channels]; likeliest: the same or null
  unsigned short* operand;  // swiglu: [channels / 128, rows, 64]; residual: the sum times `norm`
  float* residual;          // residual: [count, channels], added to
  const float* norm;        // residual: [channels]
  float* squares_out;       // residual: [channels / 64, rows] of 64 channels each
  float* best;              // likeliest: [bests, rows] largest value of a block's channels
  int* best_channel;        // likeliest: [bests, rows]
  int channels;             // likeliest: any number, else a multiple of 64; the weights are padded to one
};

// Rows of a row-major matrix into the order of operand.cuh. row_of: [rows_out] row to take for each row out, −1: zeros;
// null: the same.
struct PackArguments {
  const float* from;   // [rows, columns]
  unsigned short* to;  // [rows_out / tile, columns / 64, tile, 64]
  const int* row_of;
  int rows_out, columns, tile;
};

// bf16 at random, uniform in ±size, for weights and caches whose values do not matter.
struct RandomArguments {
  unsigned short* to;
  long long count;
  unsigned seed;
  float size;
};

// The embedding of each sequence's token out of the packed head: the residual, its product with `norm` as an operand,
// its squares.
struct PackedEmbedArguments {
  const unsigned short* table;  // [vocabulary / tile, width / 64, tile, 64]
  const int* tokens;            // [count]
  const float* norm;            // [width]
  float* residual;              // [count, width]
  unsigned short* operand;      // [width / 64, rows, 64]
  float* squares;               // [rows]
  int width, tile, rows;
};

// The likeliest token of each row out of the blocks' best becomes the next step's input.
struct TakeLikeliestArguments {
  const float* best;        // [blocks, rows]
  const int* best_channel;  // [blocks, rows]
  int blocks, rows;
  int* next;         // [count] out
  int* tokens;       // [count] tokens of the sequence, grows by one
  long long* steps;  // [count] grows by one
  int capacity;      // a sequence that holds so many stays where it is
};

}  // namespace vortex::cuda
