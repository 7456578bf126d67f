// Arguments of what a whole model needs around its linears and its attention, read by the compiler of the host and by
// that of the device. Includes nothing.
#pragma once

namespace vortex::cuda {

// Rows of a bf16 matrix into the order of operand.cuh. Row r becomes row first + r; interleaved, row
// first + r / 8 · 16 + r % 8, so that gates and ups (first = 8 more) alternate by eights.
struct PackRowsArguments {
  const unsigned short* from;  // [rows, columns]
  unsigned short* to;          // [.. / tile, columns / 64, tile, 64]
  int rows, columns, tile;
  int first, interleaved;
};

// Rows of the residual stream as the operand of the output head.
struct GatherRowsArguments {
  const float* residual;    // [tokens, width]
  const int* from;          // [count] rows of it
  const float* norm;        // [width]
  unsigned short* operand;  // [width / 64, rows, 64]
  float* squares;           // [rows]
  int width, rows;
};

struct ChosenToken {
  int token;      // −1: the logits are not numbers
  float logprob;  // of softmax(logits)
};

struct ChooseArguments {
  const float* logits;  // [count, vocabulary]
  long long stride;     // of a row
  int vocabulary;
  ChosenToken* chosen;  // [count], out
};

// What a row draws; slope 0: nothing, it takes the likeliest token.
struct Draw {
  float slope;     // 1 / temperature
  float top_p;     // 1: all
  float least;     // of slope · (logit − largest); −inf: any
  int top_k;       // 0: all
  double uniform;  // in [0, 1)
};
struct DrawArguments {
  const float* logits;  // [count, vocabulary]
  long long stride;     // of a row
  int vocabulary;
  const Draw* draws;    // [count]
  ChosenToken* chosen;  // [count] as `choose` left them, out
};

// Sums over the lists of all layers, of the first *sequences sequences.
struct CountListsArguments {
  const int* pages;      // [layers, layer_stride] pages listed of each row
  const int* tokens;     // [layers, layer_stride]
  const int* sequences;  // how many are real
  const int* sources;    // [layers] the layer whose lists each attends
  int layers, layer_stride, kv_heads;
  long long* counted;  // [2] pages, tokens; added to
};

// Tokens that an earlier step chose become inputs of one.
struct FollowArguments {
  const ChosenToken* chosen;  // in the host's memory
  const int* from;            // [sequences] which of them; −1: the input is there
  int* tokens;                // [sequences] ids
  int sequences;
};

// What a step chose becomes the next one's input.
struct AdvanceArguments {
  const ChosenToken* chosen;  // [sequences]
  int* tokens;                // [sequences] ids
  int* lengths;               // [sequences]
  long long* steps;           // [sequences]
  int* progress;              // [2] how many sequences are real; steps so far, one more then
  int* log;                   // [steps, stride] tokens chosen
  int stride;
};

// Pages of one layer between the pool and a block of them side by side.
struct MovePagesArguments {
  unsigned short* pool;   // [pages, elements]
  unsigned short* block;  // [count, elements]
  const int* pages;       // [count]
  long long elements;     // of a page, a multiple of 8
  int to_pool;
};

// A buffer read from end to end.
struct ReadArguments {
  const unsigned* from;  // [4 · count], in pieces of 16 bytes
  long long count;
  unsigned* out;  // [1], hardly ever written
};

// Random normal numbers, none of them zero, in pages of all layers.
struct RandomPagesArguments {
  unsigned short* pool;
  long long layer_stride, elements;  // of a layer, of a page
  // Of pages in bytes (1: int8, 2: e4m3; 0: bf16): how many, and the scales behind them.
  int kind;
  long long vector_bytes, scales;
  const int* pages;  // [grid.x]
  unsigned long long seed;
};

}  // namespace vortex::cuda
