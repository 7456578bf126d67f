// Arguments of the recording kernels. Includes nothing.
#pragma once

namespace vortex::cuda {

struct RecordListsArguments {
  const int* tokens;  // [sequences]
  const int* pages;   // [rows, stride]
  const int* counts;  // [rows]
  long long stride;
  int layer, layers;
  int* list_log;   // [positions, layers, rows, stride]
  int* count_log;  // [positions, layers, rows]
};

struct RecordStepArguments {
  const int* tokens;    // [sequences]
  const int* input;     // [sequences] token of this position
  const float* logits;  // [sequences, vocabulary]
  int vocabulary;
  int* token_log;    // [positions, sequences]
  float* logit_log;  // [positions, sequences, vocabulary]
};

}  // namespace vortex::cuda
