// What a computed budget is made of: numbers of one sequence and layer, in double precision as the host computes them.
// The names are those of the text that ops print for float; inside the namespace they mean double.
#pragma once

namespace vortex::cuda {

struct BudgetContext {
  int tokens, pages;
  long long step;
  int layer, layers;
  double scale;
};

namespace in_double {

// A double whose operations are rounded one by one: none is fused with the next.
struct Number {
  double value;
  __device__ Number(double x) : value(x) {}
};
__device__ inline Number operator+(Number x, Number y) { return __dadd_rn(x.value, y.value); }
__device__ inline Number operator-(Number x, Number y) { return __dadd_rn(x.value, -y.value); }
__device__ inline Number operator*(Number x, Number y) { return __dmul_rn(x.value, y.value); }
__device__ inline Number operator/(Number x, Number y) { return __ddiv_rn(x.value, y.value); }
__device__ inline Number operator-(Number x) { return -x.value; }
__device__ inline bool operator==(Number x, Number y) { return x.value == y.value; }
__device__ inline bool operator!=(Number x, Number y) { return x.value != y.value; }
__device__ inline bool operator<(Number x, Number y) { return x.value < y.value; }
__device__ inline bool operator<=(Number x, Number y) { return x.value <= y.value; }
__device__ inline bool operator>(Number x, Number y) { return x.value > y.value; }
__device__ inline bool operator>=(Number x, Number y) { return x.value >= y.value; }

__device__ inline Number source_seq_tokens(const BudgetContext& c) { return c.tokens; }
__device__ inline Number source_seq_pages(const BudgetContext& c) { return c.pages; }
__device__ inline Number source_seq_step(const BudgetContext& c) { return static_cast<double>(c.step); }
__device__ inline Number source_layer_index(const BudgetContext& c) { return c.layer; }
__device__ inline Number source_layer_count(const BudgetContext& c) { return c.layers; }
__device__ inline Number source_layer_scale(const BudgetContext& c) { return c.scale; }

__device__ inline Number fabsf(Number x) { return fabs(x.value); }
__device__ inline Number fminf(Number x, Number y) { return fmin(x.value, y.value); }
__device__ inline Number fmaxf(Number x, Number y) { return fmax(x.value, y.value); }
__device__ inline Number expf(Number x) { return exp(x.value); }
__device__ inline Number logf(Number x) { return log(x.value); }
__device__ inline Number floorf(Number x) { return floor(x.value); }
__device__ inline Number powf(Number x, Number y) { return pow(x.value, y.value); }
__device__ inline Number rsqrtf(Number x) { return 1.0 / sqrt(x.value); }
__device__ inline Number sqrtf(Number x) { return sqrt(x.value); }
__device__ inline Number tanhf(Number x) { return tanh(x.value); }
__device__ inline Number vortex_random(Number a, Number b) {
  return static_cast<double>(cuda::vortex_random(static_cast<float>(a.value), static_cast<float>(b.value)));
}

}  // namespace in_double

}  // namespace vortex::cuda
