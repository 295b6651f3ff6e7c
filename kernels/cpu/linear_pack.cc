// Packing of weights, a few rows at a time, so that they are still in cache from being read.
#include <algorithm>

#include "kernels/base/isa.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/onednn.h"
#include "kernels/elementwise.h"

namespace longtake::cpu {

namespace {

// A tile of 128 x 1024 floats stays in a 1 MiB level-2 cache beside a part of x and of the panel.
// Without AVX-512 oneDNN takes weights as plain rows: those of a narrow panel lie close together,
// while rows 4 KiB apart would share the same few lines of its level-1 cache.
constexpr int64_t kMostColumns = 1024, kMostColumnsOfRows = 192;
constexpr int64_t kColumnUnit = 64;  // also the rows of a task
// Rows that are read at once: 16 fill a cache line of packed units.
constexpr int64_t kFewestRows = 16;
constexpr int64_t kReadBytes = int64_t{512} << 10;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t panel_columns(int64_t out) {
  const int64_t most = active_isa() < Isa::avx512 ? kMostColumnsOfRows : kMostColumns;
  const int64_t panels = ceil_div(out, most);
  return std::min(out, ceil_div(ceil_div(out, panels), kColumnUnit) * kColumnUnit);
}

// The type that packing starts from. f16, and f32 that must first be rounded to bf16, go through a
// copy.
DType source_type(DType stored, DType compute) {
  return stored == DType::f16 || compute == DType::bf16 ? compute : stored;
}

size_t matrix_bytes(int64_t rows, int64_t columns, DType dtype) {
  return static_cast<size_t>(rows) * static_cast<size_t>(columns) * size_bytes(dtype);
}

// Rows [first, first + n) as `to`, read into `room` and converted into `converted`, both large
// enough. Runs inside a task.
const void* read_rows(const RowSource& from, int64_t first, int64_t n, DType to, void* room,
                      void* converted) {
  const void* rows = from.read(first, n, room);
  if (from.dtype == to) return rows;
  ThreadPool alone(1);
  const Shape shape{n, from.columns};
  convert(ConstTensor(rows, from.dtype, shape), Tensor(converted, to, shape), StreamRef(alone));
  return converted;
}

// A weight on its way into panels of known layout.
struct Packing {
  const RowSource& from;
  PackedLinear& packed;
  DType source;
  ThreadPool& pool;
  PackedLayout layouts[2];  // of every panel but the last, of the last

  const PackedLayout& layout(int64_t panel) const { return layouts[panel + 1 == packed.panels]; }
  const void* read(int64_t first, int64_t n, int worker) const;
  void pack(int64_t panel, int64_t begin, int64_t end, int worker) const;
  void run() const;
};

const void* Packing::read(int64_t first, int64_t n, int worker) const {
  void* room = pool.scratch(worker, matrix_bytes(n, from.columns, from.dtype), 0);
  void* converted = from.dtype == source
                        ? nullptr
                        : pool.scratch(worker, matrix_bytes(n, from.columns, source), 1);
  return read_rows(from, first, n, source, room, converted);
}

// Columns [begin, end) of a panel, those past the matrix too.
void Packing::pack(int64_t panel, int64_t begin, int64_t end, int worker) const {
  const PackedLayout& to = layout(panel);
  const int64_t first = panel * packed.panel, there = std::min(packed.panel, from.rows - first);
  const int64_t row_bytes = static_cast<int64_t>(matrix_bytes(1, from.columns, from.dtype));
  const int64_t at_once = std::max(kReadBytes / row_bytes / kFewestRows * kFewestRows, kFewestRows);
  auto* units = reinterpret_cast<float*>(packed.data(panel));
  for (int64_t c = begin, n = 0; c < end; c += n) {
    n = std::min({end - c, to.block - c % to.block, at_once});
    PackRows rows{};
    rows.rows = std::clamp<int64_t>(there - c, 0, n);
    if (rows.rows > 0) rows.x = read(first + c, rows.rows, worker);
    rows.type = row_type(source);
    rows.pairs = packed.math == DType::bf16;
    rows.dim = from.columns;
    rows.room = n;
    rows.units = to.units;
    rows.to = units + c / to.block * to.block * to.units + c % to.block;
    rows.stride = to.block;
    active_kernels().pack_rows(rows);
  }
}

void Packing::run() const {
  const int64_t groups = ceil_div(layout(0).columns, kColumnUnit);
  pool.parallel_for(packed.panels * groups, [&](int64_t task, int worker) {
    const int64_t panel = task / groups, begin = task % groups * kColumnUnit;
    pack(panel, begin, std::min(begin + kColumnUnit, layout(panel).columns), worker);
  });
}

int64_t last_columns(const RowSource& weight, const PackedLinear& packed) {
  return weight.rows - (packed.panels - 1) * packed.panel;
}

std::unique_ptr<PackedLinear> empty_panels(const RowSource& weight, DType compute) {
  auto packed = std::make_unique<PackedLinear>();
  packed->math = compute == DType::bf16 && multiplies_bf16() ? DType::bf16 : DType::f32;
  packed->panel = panel_columns(weight.rows);
  packed->panels = ceil_div(weight.rows, packed->panel);
  packed->panel_bytes = Matmul::packed_bytes(packed->panel, weight.columns, packed->math);
  const size_t last =
      Matmul::packed_bytes(last_columns(weight, *packed), weight.columns, packed->math);
  packed->memory = Buffer(static_cast<size_t>(packed->panels - 1) * packed->panel_bytes + last);
  return packed;
}

void pack_by_onednn(const RowSource& weight, DType source, PackedLinear& packed, ThreadPool& pool) {
  pool.parallel_for(packed.panels, [&](int64_t i, int) {
    const int64_t begin = i * packed.panel, n = std::min(packed.panel, weight.rows - begin);
    const Buffer room(matrix_bytes(n, weight.columns, weight.dtype));
    Buffer converted;
    if (weight.dtype != source) converted = Buffer(matrix_bytes(n, weight.columns, source));
    const void* rows = read_rows(weight, begin, n, source, room.data(), converted.data());
    Matmul::pack(rows, source, n, weight.columns, packed.math, packed.data(i));
  });
}

}  // namespace

std::unique_ptr<Linear::Packed> pack_linear(const RowSource& weight, DType compute,
                                            StreamRef stream) {
  auto packed = empty_panels(weight, compute);
  const auto most = Matmul::packed_layout(packed->panel, weight.columns, packed->math);
  const auto last =
      Matmul::packed_layout(last_columns(weight, *packed), weight.columns, packed->math);
  const DType source = source_type(weight.dtype, compute);
  if (most && last)
    Packing{weight, *packed, source, stream.pool(), {*most, *last}}.run();
  else
    pack_by_onednn(weight, source, *packed, stream.pool());
  return packed;
}

std::unique_ptr<Linear::Packed> pack_linear_by_onednn(const RowSource& weight, DType compute,
                                                      StreamRef stream) {
  auto packed = empty_panels(weight, compute);
  pack_by_onednn(weight, source_type(weight.dtype, compute), *packed, stream.pool());
  return packed;
}

}  // namespace longtake::cpu
