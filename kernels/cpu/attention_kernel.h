// The vector part of attention: packing keys and values, and the online softmax of a tile of
// queries over packed keys. Packed data comes in units of 32 bits, one f32 or (pairs) two bf16 that
// lie next to each other along the summed index. Only plain data crosses this interface; the driver
// is attention.cc.
//   keys    [keys / panel][depth][panel] units, depth = head_dim or, for pairs, head_dim / 2
//   rounded up values  per column panel [packed keys][columns] units, packed keys = keys or keys /
//   2
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/kernel_table.h"

namespace longtake::cpu {

// One panel of consecutive keys of a head and their values.
struct AttentionPanel {
  const void* const* key_rows;    // [count] rows of head_dim elements
  const void* const* value_rows;  // [count]
  int64_t count;                  // at most `panel`; the rest of the panel is filled with zeros
  RowType type;
  int64_t head_dim;
  int64_t first;     // index of the panel's first key
  int64_t key_room;  // keys of the head, rounded up to whole panels
  float* keys;       // packed keys and values of the head
  float* values;
};

// Consecutive keys [begin, end); begin is a multiple of the panel.
struct KeyRun {
  int64_t begin, end;
};

// A tile of queries of one head.
struct AttentionTile {
  const void* q;
  int64_t q_stride;
  void* out;
  int64_t out_stride;
  RowType type;
  int64_t rows, head_dim, key_room;
  const float* keys;
  const float* values;
  float scale;
  const float* key_bias;  // [key_room] or null: added to the scaled logits
  const float* bias;      // [rows, all keys] or null
  int64_t bias_stride;
  float* lse;  // [rows] or null
  const KeyRun* runs;
  int64_t run_count;
  void* scratch;  // scratch_bytes(rows, head_dim), aligned to 64
};

struct AttentionKernel {
  int width;   // lanes: columns of values are rounded up to it
  int panel;   // keys in a panel; divides 128
  bool pairs;  // bf16 is packed in pairs, else widened to f32
  size_t (*scratch_bytes)(int64_t rows, int64_t head_dim);
  void (*pack)(const AttentionPanel&);
  void (*tile)(const AttentionTile&);
};

}  // namespace longtake::cpu
