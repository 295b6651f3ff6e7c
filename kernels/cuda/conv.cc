#include "kernels/cuda/conv.h"

#include <algorithm>
#include <cstring>

#include "kernels/copy.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/conv_direct.h"
#include "kernels/cuda/conv_rows.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"

namespace longtake::cuda {

namespace {

constexpr int kScratchSlot = 3, kSumsSlot = 4;      // of the stream
constexpr int64_t kPartBytes = int64_t{256} << 20;  // of the matrix at a time

// bf16 rows of the matrix stay multiples of 16 bytes.
int64_t padded(int64_t columns) {
  return (columns + 7) / 8 * 8;
}

// [out, in, kt, kh, kw] -> [out, (kt, kh, kw, in), zeros].
OwnedTensor as_matrix(ConstTensor weight) {
  const int64_t out = weight.dim(0), in = weight.dim(1);
  const int64_t plane = weight.dim(2) * weight.dim(3) * weight.dim(4);
  OwnedTensor matrix(DType::f32, {out, padded(plane * in)});
  matrix.fill_zero();
  const float* from = weight.as<float>();
  for (int64_t o = 0; o < out; ++o) {
    float* row = matrix.as<float>() + o * matrix.dim(1);
    for (int64_t i = 0; i < in; ++i)
      for (int64_t p = 0; p < plane; ++p) row[p * in + i] = *from++;
  }
  return matrix;
}

OwnedTensor rounded(const OwnedTensor& x) {
  OwnedTensor out(DType::bf16, x.shape());
  for (int64_t i = 0; i < x.numel(); ++i) out.as<bf16>()[i] = to_bf16(x.as<float>()[i]);
  return out;
}

ConvRows rows_of(std::span<const ConstTensor> frames, const ConvSize& size, Padding padding,
                 int64_t columns, const Tensor& y) {
  ConvRows r{};
  const ConstTensor& newest = frames.back();
  for (size_t i = 0; i < frames.size(); ++i) r.frames[i] = frames[i] ? frames[i].data : nullptr;
  r.taps = static_cast<int>(size.taps);
  r.kernel_rows = static_cast<int>(size.rows);
  r.kernel_columns = static_cast<int>(size.columns);
  r.stride = static_cast<int>(size.stride);
  r.height = static_cast<int>(newest.dim(0));
  r.width = static_cast<int>(newest.dim(1));
  r.in = static_cast<int>(newest.dim(2));
  r.pad_top = static_cast<int>(padding.top);
  r.pad_left = static_cast<int>(padding.left);
  r.columns = static_cast<int>(columns);
  r.width_out = static_cast<int>(y.dim(1));
  return r;
}

// y rows [first, first + rows) of output, from a matrix [rows * width, k].
GemmArgs product(const PackedConv& w, const void* matrix, int64_t k, bool accumulate,
                 const Tensor& y) {
  GemmArgs g;
  g.m = y.dim(0) * y.dim(1);
  g.n = w.weight.dim(0);
  g.k = k;
  g.a = matrix;
  g.lda = k;
  g.w = w.weight.view().data;
  g.ldw = w.weight.dim(1);
  g.in = w.weight.dtype();
  g.d = y.data;
  g.ldd = g.n;
  g.out = DType::f32;
  g.accumulate = accumulate;
  g.epilogue = w.bias ? GemmArgs::Epilogue::bias : GemmArgs::Epilogue::none;
  g.bias = w.bias ? w.bias.view().data : nullptr;
  return g;
}

bool direct_takes(const PackedConv& w, const ConvSize& size) {
  return size.rows == 3 && size.columns == 3 && size.stride == 1 &&
         w.weight.dim(0) <= kDirectMostOut;
}

void conv_direct(const ConvRows& rows, DType frames, const PackedConv& w, bool accumulate, Tensor y,
                 Stream& queue) {
  DirectConvArgs a{};
  a.rows = rows;
  a.rows.rows = static_cast<int>(y.dim(0));
  a.frame_type = frames;
  a.weight_type = w.weight.dtype();
  a.weight = w.weight.view().data;
  a.bias = w.bias ? w.bias.as<float>() : nullptr;
  a.y = y.as<float>();
  a.out = static_cast<int>(y.dim(2));
  a.accumulate = accumulate;
  start(a, queue.handle());
  LT_CUDA(cudaGetLastError());
}

void conv_by_rows(ConvRows rows, DType frames, const PackedConv& w, bool accumulate, Tensor y,
                  Stream& queue) {
  const int64_t columns = w.weight.dim(1);
  const DType compute = w.weight.dtype();
  const int64_t row_bytes = y.dim(1) * columns * static_cast<int64_t>(size_bytes(compute));
  const int64_t part = std::clamp<int64_t>(kPartBytes / row_bytes, 1, y.dim(0));
  void* matrix = queue.scratch(static_cast<size_t>(part * row_bytes), kScratchSlot);
  for (int64_t first = 0; first < y.dim(0); first += part) {
    const int64_t end = std::min(y.dim(0), first + part);
    rows.first_row = static_cast<int>(first);
    rows.rows = static_cast<int>(end - first);
    conv_rows(rows, frames, compute, matrix, queue.handle());
    queue.gemm().run(product(w, matrix, columns, accumulate, y.rows(first, end)));
  }
}

bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

// The frames one after the other in bf16; one alone stays where it is.
const void* in_one_piece(std::span<const ConstTensor> frames, Stream& queue) {
  const ConstTensor& newest = frames.back();
  if (frames.size() == 1 && newest.dtype == DType::bf16 && aligned(newest.data)) return newest.data;
  const size_t bytes = static_cast<size_t>(newest.numel()) * sizeof(bf16);
  auto* to = static_cast<char*>(queue.scratch(frames.size() * bytes, kScratchSlot));
  for (size_t i = 0; i < frames.size(); ++i) {
    char* part = to + i * bytes;
    if (frames[i])
      convert(frames[i], Tensor(part, DType::bf16, newest.shape, newest.device), queue);
    else
      LT_CUDA(cudaMemsetAsync(part, 0, bytes, queue.handle()));
  }
  return to;
}

bool dnn_takes(const PackedConv& w, int64_t in) {
  return w.weight.dtype() == DType::bf16 && in % 8 == 0;
}

// False when cuDNN has no plan; then y is as it was.
bool conv_by_dnn(std::span<const ConstTensor> frames, const PackedConv& w, const ConvSize& size,
                 Padding p, bool accumulate, Tensor y, Stream& queue) {
  const ConstTensor& newest = frames.back();
  const int64_t in = newest.dim(2), out = y.dim(2);
  const DnnConvSize s{size.taps, newest.dim(0), newest.dim(1), in,      out,
                      size.rows, size.columns,  size.stride,   p.top,   p.bottom,
                      p.left,    p.right,       y.dim(0),      y.dim(1)};
  if (!queue.dnn().has_plan(s)) return false;
  const bool apart = accumulate || !aligned(y.data);
  float* sums = apart ? static_cast<float*>(queue.scratch(y.bytes(), kSumsSlot)) : y.as<float>();
  if (!queue.dnn().conv(s, in_one_piece(frames, queue), w.weight.view().data, sums)) return false;
  const Tensor rows = y.reshape({y.dim(0) * y.dim(1), out});
  if (accumulate)
    add_gated(ConstTensor(sums, DType::f32, rows.shape, y.device), {}, nullptr, rows, queue);
  else if (apart)
    LT_CUDA(cudaMemcpyAsync(y.data, sums, y.bytes(), cudaMemcpyDeviceToDevice, queue.handle()));
  if (w.bias) bias_activation(rows, w.bias.as<float>(), PointWise::none, queue);
  return true;
}

}  // namespace

const char* name(ConvProvider provider) {
  switch (provider) {
    case ConvProvider::automatic:
      return "automatic";
    case ConvProvider::rows:
      return "rows";
    case ConvProvider::direct:
      return "direct";
    case ConvProvider::cudnn:
      return "cudnn";
  }
  return "?";
}

size_t PackedConv::bytes() const {
  return weight.bytes() + (bias ? bias.bytes() : 0);
}

std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor weight, ConstTensor bias, DType compute,
                                               StreamRef stream) {
  LT_CHECK(compute == DType::f32 || compute == DType::bf16, "conv: cannot compute in {}",
           name(compute));
  const OwnedTensor host =
      weight.device.type == DeviceType::cpu ? OwnedTensor() : to_host(weight, stream);
  const OwnedTensor matrix = as_matrix(host ? host.view() : weight);
  auto packed = std::make_unique<PackedConv>();
  packed->weight =
      to_device(compute == DType::f32 ? matrix.view() : rounded(matrix).view(), stream);
  if (bias) packed->bias = to_device(bias, stream);
  return packed;
}

void conv(std::span<const ConstTensor> frames, const PackedConv& w, const ConvSize& size,
          Padding padding, bool accumulate, Tensor y, StreamRef stream, ConvProvider provider) {
  LT_CHECK(size.taps <= ConvRows::kMostTaps, "conv: at most {} frames, found {}",
           ConvRows::kMostTaps, size.taps);
  const ConstTensor& newest = frames.back();
  const DType compute = w.weight.dtype();
  LT_CHECK(newest.dtype == DType::f32 || newest.dtype == compute,
           "conv: expected frames f32 or {}, found {}", name(compute), name(newest.dtype));
  if (y.numel() == 0) return;
  Stream& queue = stream.cuda();
  const int64_t columns = w.weight.dim(1), in = newest.dim(2);
  // A frame is the matrix of a 1 x 1 kernel already.
  if (size.taps * size.rows * size.columns == 1 && size.stride == 1 && newest.dtype == compute &&
      (compute == DType::f32 || in == columns) && provider != ConvProvider::cudnn &&
      y.dim(0) == newest.dim(0) && y.dim(1) == newest.dim(1) && padding.top == 0 &&
      padding.left == 0) {
    queue.gemm().run(product(w, newest.data, in, accumulate, y));
    return;
  }
  if (provider == ConvProvider::cudnn) {
    LT_CHECK(dnn_takes(w, in),
             "conv by cudnn: expected bf16 and a multiple of 8 channels, found {} and {}",
             name(compute), in);
    LT_CHECK(conv_by_dnn(frames, w, size, padding, accumulate, y, queue), "conv by cudnn: {}",
             queue.dnn().why_not());
    return;
  }
  const bool direct = direct_takes(w, size);
  if (provider == ConvProvider::automatic) {
    const bool one_position = size.taps * size.rows * size.columns == 1;
    if (y.dim(2) > kDirectMostOut && !one_position && dnn_takes(w, in) &&
        conv_by_dnn(frames, w, size, padding, accumulate, y, queue))
      return;
    provider = direct ? ConvProvider::direct : ConvProvider::rows;
  }
  LT_CHECK(provider != ConvProvider::direct || direct,
           "conv by direct: expected a kernel 3 x 3 of stride 1 to at most {} channels, found "
           "{} x {} of stride {} to {}",
           kDirectMostOut, size.rows, size.columns, size.stride, w.weight.dim(0));
  const ConvRows rows = rows_of(frames, size, padding, columns, y);
  if (provider == ConvProvider::direct)
    conv_direct(rows, newest.dtype, w, accumulate, y, queue);
  else
    conv_by_rows(rows, newest.dtype, w, accumulate, y, queue);
}

void conv(std::span<const ConstTensor> frames, const ConvWeights& w, Padding padding,
          bool accumulate, Tensor y, StreamRef stream) {
  conv(frames, static_cast<const PackedConv&>(w.packed()),
       {w.taps(), w.kernel_rows(), w.kernel_columns(), w.stride()}, padding, accumulate, y, stream);
}

void upsample_nearest(ConstTensor x, Tensor y, StreamRef stream) {
  upsample_nearest(x.data, x.dtype, x.dim(0), x.dim(1), x.dim(2), y.data, stream.cuda().handle());
}

void upsample_duplicate(ConstTensor x, int64_t times, int64_t time, Tensor y, StreamRef stream) {
  upsample_duplicate(x.as<float>(), x.dim(0), x.dim(1), x.dim(2), y.dim(2), times, time,
                     y.as<float>(), stream.cuda().handle());
}

}  // namespace longtake::cuda
