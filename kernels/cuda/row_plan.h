// How a row of `dim` elements is shared out: `threads` threads with `vectors` chunks each. Thread t
// holds chunks t, t + threads, ... of a row. It depends on the chunk and on dim alone, never on
// where memory lies: it fixes the order of the sums.
#pragma once

#include <cstdint>

namespace longtake::cuda {

struct RowPlan {
  int threads = 0;  // a power of two; below a warp several rows share one
  int vectors = 0;

  constexpr int block() const { return threads > 32 ? threads : 128; }
  constexpr int64_t rows_per_block() const { return block() / threads; }
  constexpr int64_t capacity(int chunk) const { return int64_t{threads} * vectors * chunk; }
};

constexpr int64_t kLongestRow = 16384;

// f.operator()<RowPlan>() with the plan of dim <= kLongestRow; plans are made for the sizes of
// models: 96 2^i channels of a VAE, 1536, 3072, 4096, 5120.
template <int chunk, class F>
auto with_row_plan(int64_t dim, F&& f) {
  constexpr int k = 4;  // threads below are for chunks of 4
  if (dim <= 96) return f.template operator()<8 * k / chunk, 3>();
  if (dim <= 192) return f.template operator()<16 * k / chunk, 3>();
  if (dim <= 384) return f.template operator()<32 * k / chunk, 3>();
  if (dim <= 1024) return f.template operator()<128 * k / chunk, 2>();
  if (dim <= 1536) return f.template operator()<128 * k / chunk, 3>();
  if (dim <= 3072) return f.template operator()<256 * k / chunk, 3>();
  if (dim <= 4096) return f.template operator()<256 * k / chunk, 4>();
  if (dim <= 5120) return f.template operator()<256 * k / chunk, 5>();
  if (dim <= 8192) return f.template operator()<256 * k / chunk, 8>();
  return f.template operator()<512 * k / chunk, 8>();
}

template <int chunk>
RowPlan row_plan(int64_t dim) {
  return with_row_plan<chunk>(dim, []<int threads, int vectors>() {
    return RowPlan{threads, vectors};
  });
}

}  // namespace longtake::cuda
