// Reductions and `along` ops over the members of a set: inside(i) says whether candidate i of [0, n) is one.
#pragma once

#include "codegen/cuda/flow.cuh"

namespace vortex::cuda {

template <class Op, class Team, class Inside, class Read>
__device__ inline float reduce_inside(const Team& team, int n, Inside inside, Read read) {
  Op op;
  float members = 0.0f;
  for (int i = team.thread; i < n; i += team.size)
    if (inside(i)) op.add(read(i)), members += 1.0f;
  op.join(team);
  return op.result(static_cast<int>(team.sum(members)));
}

template <class Op, class Team, class Inside, class Read, class Write>
__device__ inline void along_inside(const Team& team, int n, Inside inside, Read read, Write write) {
  Op op;
  if constexpr (Op::in_order) {
    if (team.thread == 0) {
      for (int i = 0; i < n; ++i)
        if (inside(i)) write(i, op.give(read(i)));
    }
  } else {
    for (int i = team.thread; i < n; i += team.size)
      if (inside(i)) op.look(read(i));
    op.join(team);
    for (int i = team.thread; i < n; i += team.size)
      if (inside(i)) write(i, op.give(read(i)));
  }
}

}  // namespace vortex::cuda
