// How a linear reads its operands: blocks of 64 columns (128 bytes a row) whose 16-byte pieces are swizzled by the row,
// as the matrix unit of sm_90 wants them in shared memory, so that one bulk copy brings a block. Activations: [columns
// / 64, rows, 64]; weights: [rows / tile, columns / 64, tile, 64].
#pragma once

#include "device/cuda/device.cuh"

namespace vortex::cuda {

// Element (row, column) of activations of `rows` rows (a multiple of 8).
__device__ inline int64 operand_at(int row, int column, int rows) {
  const int piece = (column % 64 / 8) ^ (row & 7);
  return (static_cast<int64>(column / 64) * rows + row) * 64 + piece * 8 + column % 8;
}

// Element (row, column) of weights in tiles of `tile` rows.
__device__ inline int64 weight_at(int row, int column, int columns, int tile) {
  return operand_at(row % tile, column, tile) + static_cast<int64>(row / tile) * tile * columns;
}

}  // namespace vortex::cuda
