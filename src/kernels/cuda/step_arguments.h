// Arguments of the step kernels, read by the compiler of the host and by that of the device. Includes nothing.
#pragma once

namespace vortex::cuda {

struct EmbedArguments {
  const float* table;  // [vocabulary, width]
  const int* tokens;   // [count]
  float* out;          // [count, width]
  int width;
};

struct NormArguments {
  const float* x;       // [count, width]
  const float* weight;  // [width]
  float* out;           // [count, width]
  int width;
  float epsilon;
};

struct LinearArguments {
  const float* weight;  // [rows, columns]
  const float* x;       // [count, columns]
  float* out;           // [count, rows]; added to when `add`
  int rows, columns;
  int add;
};

struct RopeArguments {
  float* x;           // [count, stride]: heads of head_dim side by side; channels i and i + head_dim/2 rotate
  const int* tokens;  // [count] tokens of the sequence, this one included: its position is one less
  const float* inverse_frequency;  // [head_dim / 2]
  int stride, heads, head_dim;
};

struct SwigluArguments {
  const float* gate_up;  // [count, 2 · width]: gate, up
  float* out;            // [count, width]
  int width;
};

// Takes the likeliest token (lower index at a tie), writes it as the next step's input, and counts it.
struct SampleArguments {
  const float* logits;        // [count, vocabulary]
  const int* prompt;          // [count, prompt_stride] or null; as long as a prompt lasts, its tokens come instead
  const int* prompt_lengths;  // [count]
  int prompt_stride;
  int vocabulary;
  int* next;         // [count] in: this step's token, out: the next one's
  int* tokens;       // [count] tokens of the sequence, this step's included; grows by one
  int capacity;      // a sequence that holds so many stays where it is
  long long* steps;  // [count] decode steps made
};

}  // namespace vortex::cuda
