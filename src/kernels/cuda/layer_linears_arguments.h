// Arguments of the kernel that runs the linears between two attentions, read by the compiler of the host and by that of
// the device. Includes nothing. Operands are bf16 in the order of operand.cuh, widths as compiled.
#pragma once

namespace vortex::cuda {

struct LayerLinearsArguments {
  const unsigned short *output, *gate_up, *down;  // weights
  const unsigned short* qkv;                      // weights of the next layer; null: there is none
  const unsigned short* attended;                 // [q width / 64, rows, 64]
  unsigned short* operand;                        // [width / 64, rows, 64] out: the residual times next_norm
  unsigned short* hidden;                         // [ffn width / 64, rows, 64] scratch
  float* residual;                                // [count, width] added to
  float* squares;                                 // [parts, rows] out: of the residual, by parts of the width
  const float *ffn_norm, *next_norm;              // [width]
  float* qkv_out;                                 // [count, qkv width]
  unsigned long long* counters;                   // [3] zeros once; kept from launch to launch
  int count;                                      // rows that are sequences
  float epsilon;
};

}  // namespace vortex::cuda
