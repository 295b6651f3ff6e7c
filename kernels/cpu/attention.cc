#include "kernels/cpu/attention.h"

#include <algorithm>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kernel_table.h"

namespace longtake::cpu {

namespace {

constexpr int kTileSlot = 2;    // scratch of each worker's tile
constexpr int kPackedSlot = 3;  // packed keys and values, in worker 0's scratch, read by all
// Heads are packed in groups of this size (at least one head), so that memory does not grow with
// the number of heads.
constexpr size_t kGroupBytes = size_t{64} << 20;
constexpr int64_t kPackKeys = 128;  // keys packed by one task
constexpr int64_t kMaxRows = 128;   // queries of one task
constexpr int64_t kMinRows = 32;
constexpr int64_t kEnoughTasks = 64;  // for a balanced load on many cores
constexpr int64_t kMaxPanel = 64;

int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

const void* at(const ConstTensor& x, int64_t row, int64_t head) {
  return static_cast<const char*>(x.data) +
         (row * x.row_stride + head * x.dim(2)) * static_cast<int64_t>(size_bytes(x.dtype));
}

// One call: sizes, then the two kinds of task. Nothing here depends on the number of threads.
struct Call {
  const AttentionArgs& args;
  ThreadPool& pool;
  const AttentionKernel& kernel;
  int64_t queries, heads, head_dim, keys = 0, key_room = 0;
  int64_t tile_rows = kMaxRows, tiles = 0;  // query tiles of a head
  int64_t group = 0;                        // heads in a group
  int64_t first_head = 0;                   // of the current group
  size_t key_floats = 0, value_floats = 0;  // packed, of a head
  const float* key_bias = nullptr;
  float* packed = nullptr;
  PackedKeys* kept = nullptr;  // holds `packed`, if it outlives the call

  Call(const AttentionArgs& a, ThreadPool& p);
  void run();
  void reserve();
  void pack(int64_t task, int64_t chunks);
  void pack_panel(int64_t head, int64_t first);
  void attend(int64_t task, int worker);
  int64_t runs_of(int64_t head, int64_t query, KeyRun* runs) const;
  RowType type() const { return args.q.dtype == DType::f32 ? RowType::f32 : RowType::bf16; }
};

Call::Call(const AttentionArgs& a, ThreadPool& p)
    : args(a),
      pool(p),
      kernel(*active_kernels().attention),
      queries(a.q.dim(0)),
      heads(a.q.dim(1)),
      head_dim(a.q.dim(2)) {
  for (const KeySegment& segment : args.segments) keys += segment.k.dim(0);
  key_room = round_up(keys, kernel.panel);
  while (tile_rows > kMinRows && heads * ((queries + tile_rows - 1) / tile_rows) < kEnoughTasks)
    tile_rows /= 2;
  tiles = (queries + tile_rows - 1) / tile_rows;
  const int64_t unit = kernel.pairs && type() == RowType::bf16 ? 2 : 1;  // elements in a unit
  key_floats = static_cast<size_t>(key_room * ((head_dim + unit - 1) / unit));
  value_floats = static_cast<size_t>(key_room / unit * round_up(head_dim, kernel.width));
  const size_t head_bytes = (key_floats + value_floats) * sizeof(float);
  group = std::clamp<int64_t>(static_cast<int64_t>(kGroupBytes / head_bytes), 1, heads);
  if (group == heads) kept = args.packed;
}

// Memory for the packed heads of a group, behind it the bias of every key.
void Call::reserve() {
  const size_t floats = (key_floats + value_floats) * static_cast<size_t>(group);
  const size_t bytes = (floats + static_cast<size_t>(key_room)) * sizeof(float);
  if (kept && kept->memory.bytes() < bytes) *kept = {Buffer(bytes), false};
  packed = static_cast<float*>(kept ? kept->memory.data() : pool.scratch(0, bytes, kPackedSlot));
  const auto biased = [](const KeySegment& s) { return s.logit_bias != 0 && s.k.dim(0) > 0; };
  if (std::none_of(args.segments.begin(), args.segments.end(), biased)) return;
  float* bias = packed + floats;
  key_bias = bias;
  for (const KeySegment& segment : args.segments)
    bias = std::fill_n(bias, segment.k.dim(0), segment.logit_bias);
  std::fill_n(bias, key_room - keys, 0.0f);
}

void Call::run() {
  reserve();
  const int64_t chunks = (keys + kPackKeys - 1) / kPackKeys;
  for (; first_head < heads; first_head += group) {
    const int64_t n = std::min(group, heads - first_head);
    if (!kept || !kept->filled)
      pool.parallel_for(n * chunks, [&](int64_t task, int) { pack(task, chunks); });
    if (kept) kept->filled = true;
    pool.parallel_for(n * tiles, [&](int64_t task, int worker) { attend(task, worker); });
  }
}

void Call::pack(int64_t task, int64_t chunks) {
  const int64_t begin = task % chunks * kPackKeys;
  const int64_t end = std::min(begin + kPackKeys, keys);
  for (int64_t first = begin; first < end; first += kernel.panel) pack_panel(task / chunks, first);
}

void Call::pack_panel(int64_t head, int64_t first) {
  const void* key_rows[kMaxPanel];
  const void* value_rows[kMaxPanel];
  const int64_t count = std::min<int64_t>(kernel.panel, keys - first);
  int64_t begin = 0;  // of the segment
  for (const KeySegment& segment : args.segments) {
    const int64_t end = begin + segment.k.dim(0);
    for (int64_t k = std::max(begin, first); k < std::min(end, first + count); ++k) {
      key_rows[k - first] = at(segment.k, k - begin, first_head + head);
      value_rows[k - first] = at(segment.v, k - begin, first_head + head);
    }
    begin = end;
  }
  float* base = packed + static_cast<size_t>(head) * (key_floats + value_floats);
  kernel.pack(
      {key_rows, value_rows, count, type(), head_dim, first, key_room, base, base + key_floats});
}

// The keys that the tile of queries with `query` in it sees: adjacent tiles become one run.
int64_t Call::runs_of(int64_t head, int64_t query, KeyRun* runs) const {
  constexpr int64_t kTile = AttentionTiles::kTile;
  if (!args.tiles) {
    runs[0] = {0, keys};
    return 1;
  }
  const int64_t row = head * ((queries + kTile - 1) / kTile) + query / kTile;
  const auto& offsets = args.tiles->offsets;
  int64_t count = 0;
  for (int64_t i = offsets[static_cast<size_t>(row)]; i < offsets[static_cast<size_t>(row) + 1];
       ++i) {
    const int64_t begin = args.tiles->keys[static_cast<size_t>(i)] * kTile;
    const int64_t end = std::min(begin + kTile, keys);
    if (count > 0 && runs[count - 1].end == begin)
      runs[count - 1].end = end;
    else
      runs[count++] = {begin, end};
  }
  return count;
}

void Call::attend(int64_t task, int worker) {
  const int64_t head = first_head + task / tiles, query = task % tiles * tile_rows;
  const int64_t rows = std::min(tile_rows, queries - query);
  const int64_t max_runs = args.tiles ? (keys / AttentionTiles::kTile + 2) / 2 : 1;
  const size_t tile_bytes = kernel.scratch_bytes(tile_rows, head_dim);
  char* scratch = static_cast<char*>(
      pool.scratch(worker, tile_bytes + static_cast<size_t>(max_runs) * sizeof(KeyRun), kTileSlot));
  KeyRun* runs = reinterpret_cast<KeyRun*>(scratch + tile_bytes);
  const float* base = packed + static_cast<size_t>(head - first_head) * (key_floats + value_floats);
  AttentionTile tile{};
  tile.q = at(args.q, query, head);
  tile.q_stride = args.q.row_stride;
  tile.out = const_cast<void*>(at(args.out, query, head));
  tile.out_stride = args.out.row_stride;
  tile.type = type();
  tile.rows = rows;
  tile.head_dim = head_dim;
  tile.key_room = key_room;
  tile.keys = base;
  tile.values = base + key_floats;
  tile.scale = args.scale;
  tile.key_bias = key_bias;
  if (args.bias) {
    tile.bias = args.bias.as<float>() + head * args.bias.row_stride + query * keys;
    tile.bias_stride = keys;
  }
  if (args.lse) tile.lse = args.lse.as<float>() + head * args.lse.row_stride + query;
  tile.runs = runs;
  tile.run_count = runs_of(head, query, runs);
  tile.scratch = scratch;
  kernel.tile(tile);
}

}  // namespace

void attention(const AttentionArgs& args, ThreadPool& pool) {
  Call(args, pool).run();
}

}  // namespace longtake::cpu
