#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/onednn.h"
#include "kernels/elementwise.h"

namespace longtake {

namespace cpu {

namespace {

// Beside columns of a panel: see linear_pack.cc.
constexpr int64_t kMostRows = 128;
constexpr int64_t kLeastRows = 16;
constexpr int64_t kWantedTasks = 8;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Shapes alone decide, so the same rows are summed in the same order on any number of threads.
int64_t tile_rows(int64_t rows, int64_t panels) {
  int64_t tile = kMostRows;
  while (tile > kLeastRows && ceil_div(rows, tile) * panels < kWantedTasks) tile /= 2;
  return std::min(rows, tile);
}

// One call: who computes which tile.
struct LinearRun {
  const LinearArgs& args;
  const Linear& weight;
  const PackedLinear& packed;
  StreamRef stream;
  int64_t rows, tile, tiles, panels;
  bool widen;                                   // x is bf16, the product is in f32
  bool gather;                                  // rows of x are apart: oneDNN would be slow
  std::shared_ptr<const Matmul> matmuls[2][2];  // [last tile][last panel]

  void task(int64_t t, int64_t p, int worker) const;
  const void* x_tile(int64_t begin, int64_t end, int worker) const;
  EpilogueRows epilogue(const float* acc, int64_t row, int64_t n, int64_t column,
                        int64_t columns) const;
};

const void* LinearRun::x_tile(int64_t begin, int64_t end, int worker) const {
  const ConstTensor x = args.x.rows(begin, end);
  if (!widen && !gather) return x.data;
  const int64_t in = x.dim(1);
  const size_t size = size_bytes(x.dtype);
  const size_t row_bytes = static_cast<size_t>(in) * size_bytes(packed.math);
  auto* dense = static_cast<char*>(
      stream.pool().scratch(worker, static_cast<size_t>(x.dim(0)) * row_bytes, 1));
  for (int64_t row = 0; row < x.dim(0); ++row, dense += row_bytes) {
    const char* from =
        static_cast<const char*>(x.data) + static_cast<size_t>(row * x.row_stride) * size;
    if (widen)
      active_kernels().to_f32(reinterpret_cast<const uint16_t*>(from),
                              reinterpret_cast<float*>(dense), in);
    else
      std::memcpy(dense, from, row_bytes);
  }
  return dense - static_cast<size_t>(x.dim(0)) * row_bytes;
}

EpilogueRows LinearRun::epilogue(const float* acc, int64_t row, int64_t n, int64_t column,
                                 int64_t columns) const {
  EpilogueRows e{};
  e.acc = acc;
  e.acc_stride = columns;
  e.bias = weight.bias() ? weight.bias() + column : nullptr;
  e.activation = static_cast<int>(args.activation);
  const Tensor& out = args.y ? args.y : args.residual;
  void* at = out.rows(row, row + n).columns(column, column + columns).data;
  if (args.y) {
    e.y = at;
    e.y_type = row_type(out.dtype);
    e.y_stride = out.row_stride;
  } else {
    e.residual = static_cast<float*>(at);
    e.residual_stride = out.row_stride;
  }
  if (args.gate) {
    e.gate = args.gate.as<float>() + column;
    e.gate_stride = args.gate.row_stride;
    e.gate_row = args.gate_row ? args.gate_row + row : nullptr;
  }
  e.rows = n;
  e.columns = columns;
  return e;
}

void LinearRun::task(int64_t t, int64_t p, int worker) const {
  const int64_t row = t * tile, n = std::min(tile, rows - row);
  const int64_t column = p * packed.panel, columns = std::min(packed.panel, weight.out() - column);
  const size_t bytes = static_cast<size_t>(n * columns) * sizeof(float);
  auto* acc = static_cast<float*>(stream.pool().scratch(worker, bytes, 0));
  const Matmul& matmul = *matmuls[t == tiles - 1][p == panels - 1];
  matmul.run(x_tile(row, row + n, worker), packed.data(p), acc, stream.pool(), worker);
  active_kernels().epilogue(epilogue(acc, row, n, column, columns));
}

}  // namespace

void linear(const LinearArgs& args, const Linear& weight, StreamRef stream) {
  const auto& packed = static_cast<const PackedLinear&>(weight.packed());
  const ConstTensor& x = args.x;
  if (x.dim(0) == 0) return;
  LinearRun run{args, weight, packed, stream, 0, 0, 0, 0, false, false, {}};
  run.rows = x.dim(0);
  run.panels = packed.panels;
  run.tile = tile_rows(run.rows, run.panels);
  run.tiles = ceil_div(run.rows, run.tile);
  run.widen = x.dtype != packed.math;
  run.gather = !x.dense();
  const int64_t in = weight.in();
  const int64_t m[2] = {run.tile, run.rows - (run.tiles - 1) * run.tile};
  const int64_t n[2] = {packed.panel, weight.out() - (run.panels - 1) * packed.panel};
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) run.matmuls[i][j] = Matmul::get({m[i], n[j], in, packed.math});
  stream.pool().parallel_for(run.tiles * run.panels, [&](int64_t task, int worker) {
    run.task(task % run.tiles, task / run.tiles, worker);
  });
}

}  // namespace cpu
}  // namespace longtake
