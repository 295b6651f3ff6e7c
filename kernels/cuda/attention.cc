// Which kernel does an attention call, and what it is given.
#include "kernels/cuda/attention.h"

#include <cmath>
#include <limits>
#include <optional>

#include "kernels/base/error.h"
#include "kernels/cuda/attention_hopper.h"
#include "kernels/cuda/attention_params.h"
#include "kernels/cuda/attention_products.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_tiles.h"
#include "kernels/cuda/dnn.h"

namespace longtake::cuda {

namespace {

static_assert(kAttentionTile == AttentionTiles::kTile);

int64_t stride(const ConstTensor& x) {
  return x.dim(0) <= 1 ? x.shape.inner_numel() : x.row_stride;
}

bool aligned(const ConstTensor& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && stride(x) % 8 == 0;
}

AttentionParams params_of(const AttentionArgs& args) {
  AttentionParams p;
  p.q = args.q.data;
  p.out = args.out.data;
  p.lse = args.lse ? args.lse.as<float>() : nullptr;
  p.bias = args.bias ? args.bias.as<float>() : nullptr;
  p.q_stride = stride(args.q);
  p.out_stride = stride(args.out);
  p.lse_stride = args.lse ? stride(args.lse) : 0;
  p.bias_stride = args.bias ? stride(args.bias) : 0;
  p.queries = static_cast<int>(args.q.dim(0));
  p.heads = static_cast<int>(args.q.dim(1));
  p.head_dim = static_cast<int>(args.q.dim(2));
  p.scale = args.scale;
  int64_t keys = 0;
  for (const KeySegment& segment : args.segments) {
    if (segment.k.dim(0) == 0) continue;
    LT_CHECK(p.segments.count < kAttentionSegments,
             "attention: expected at most {} segments with keys, found more", kAttentionSegments);
    const float unseen = -std::numeric_limits<float>::infinity();
    p.segment[p.segments.count] = {segment.k.data, segment.v.data, stride(segment.k),
                                   stride(segment.v),
                                   segment.logit_bias < -1e30f ? unseen : segment.logit_bias};
    keys += segment.k.dim(0);
    p.segments.begin[++p.segments.count] = static_cast<int>(keys);
  }
  // Tiles beyond the last key are counted in int as well.
  constexpr int64_t kMost = std::numeric_limits<int>::max() - 2 * kAttentionTile;
  LT_CHECK(keys > 0 && keys <= kMost && args.q.dim(0) <= kMost,
           "attention: expected 1 to {} keys and at most as many queries, found {} and {}", kMost,
           keys, args.q.dim(0));
  return p;
}

void set_tiles(const DeviceTiles& tiles, const Stream& stream, AttentionParams& p) {
  LT_CHECK(tiles.device() == stream.device(),
           "attention tiles: expected lists on GPU {}, found them on GPU {}", stream.device(),
           tiles.device());
  p.tile_offsets = tiles.offsets();
  p.row_order = tiles.row_order();
  p.tile_keys = tiles.keys();
}

// ---- Hopper's tensor maps

auto* encode_function() {
  using Encode = decltype(&::cuTensorMapEncodeTiled);
  static const Encode found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    LT_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                             cudaEnableDefault, &result));
#else
    LT_CUDA(
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result));
#endif
    LT_CHECK(result == cudaDriverEntryPointSuccess && function,
             "the GPU's driver lacks cuTensorMapEncodeTiled: expected one of CUDA 12.0 or later");
    return reinterpret_cast<Encode>(function);
  }();
  return found;
}

// [rows, heads * head_dim], boxes of 128 rows x 64 columns.
CUtensorMap encode(const void* data, int64_t rows, int64_t columns, int64_t row_stride) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_stride) * 2};  // bytes, of rows
  const cuuint32_t box[] = {64, kAttentionTile}, steps[] = {1, 1};
  CUtensorMap map;
  const CUresult error = encode_function()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), sizes, strides, box,
      steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  LT_CHECK(error == CUDA_SUCCESS,
           "cuTensorMapEncodeTiled: error {} for [{}, {}], row stride {}, at {}",
           static_cast<int>(error), rows, columns, row_stride, data);
  return map;
}

HopperMaps maps_of(const AttentionParams& p) {
  HopperMaps maps{};
  const int64_t columns = static_cast<int64_t>(p.heads) * p.head_dim;
  maps.q = encode(p.q, p.queries, columns, p.q_stride);
  for (int s = 0; s < p.segments.count; ++s) {
    const int64_t rows = p.segments.begin[s + 1] - p.segments.begin[s];
    maps.k[s] = encode(p.segment[s].k, rows, columns, p.segment[s].k_stride);
    maps.v[s] = encode(p.segment[s].v, rows, columns, p.segment[s].v_stride);
  }
  return maps;
}

// ---- What each provider asks for

std::string tensor_core_obstacle(const AttentionArgs& args) {
  const int64_t dim = args.q.dim(2);
  if (args.q.dtype != DType::bf16) return "expected bf16";
  if (args.bias) return "expected no bias";
  if (!(args.scale > 0)) return fmt::format("expected a positive scale, found {}", args.scale);
  if (dim % 8 != 0 || dim > kMmaMostDims)
    return fmt::format("expected a head_dim of 8, 16, ... {}, found {}", kMmaMostDims, dim);
  bool good = aligned(args.q) && reinterpret_cast<uintptr_t>(args.out.data) % 4 == 0 &&
              stride(args.out) % 2 == 0;
  for (const KeySegment& segment : args.segments)
    if (segment.k.dim(0) > 0) good = good && aligned(segment.k) && aligned(segment.v);
  return good ? "" : "expected rows at multiples of 16 bytes";
}

std::string hopper_obstacle(const AttentionArgs& args, const Stream& stream) {
  const DeviceInfo& info = stream.info();
  if (info.compute_major != 9 || info.compute_minor != 0)
    return fmt::format("expected a GPU of compute 9.0, found {}.{}", info.compute_major,
                       info.compute_minor);
  std::string why = tensor_core_obstacle(args);
  if (!why.empty()) return why;
  if (args.q.dim(2) != 64 && args.q.dim(2) != 128)
    return fmt::format("expected a head_dim of 64 or 128, found {}", args.q.dim(2));
  const SegmentBounds bounds = params_of(args).segments;
  if (bounds.count > kHopperSegments)
    return fmt::format("expected at most {} segments, found {}", kHopperSegments, bounds.count);
  if (args.tiles && !segment_tiles(bounds).same_as_listed())
    return "expected segments of whole tiles with a list of tiles";
  return "";
}

std::string dnn_obstacle(const AttentionArgs& args, Stream& stream) {
  if (args.q.dtype != DType::bf16 || args.bias || args.tiles || args.segments.size() != 1)
    return "expected bf16, one segment, no bias and no tiles";
  return stream.dnn().available() ? "" : stream.dnn().why_not();
}

AttentionProvider choose(const AttentionArgs& args, Stream& stream) {
  for (const AttentionProvider provider : {AttentionProvider::wgmma, AttentionProvider::mma})
    if (attention_obstacle(args, stream, provider).empty()) return provider;
  return args.q.dim(2) <= kPlainMostDims ? AttentionProvider::plain : AttentionProvider::products;
}

}  // namespace

const char* name(AttentionProvider provider) {
  switch (provider) {
    case AttentionProvider::automatic:
      return "automatic";
    case AttentionProvider::plain:
      return "plain";
    case AttentionProvider::mma:
      return "mma";
    case AttentionProvider::wgmma_simple:
      return "wgmma_simple";
    case AttentionProvider::wgmma:
      return "wgmma";
    case AttentionProvider::cudnn:
      return "cudnn";
    case AttentionProvider::products:
      return "products";
  }
  return "?";
}

std::string attention_obstacle(const AttentionArgs& args, Stream& stream,
                               AttentionProvider provider) {
  switch (provider) {
    case AttentionProvider::automatic:
      // Plain takes everything else.
      return args.q.dim(2) <= kPlainMostDims ? "" : products_obstacle(args);
    case AttentionProvider::products:
      return products_obstacle(args);
    case AttentionProvider::plain:
      return args.q.dim(2) <= kPlainMostDims
                 ? ""
                 : fmt::format("expected a head_dim of at most {}, found {}", kPlainMostDims,
                               args.q.dim(2));
    case AttentionProvider::mma:
      if (stream.info().compute_major < 8)
        return fmt::format("expected a GPU of compute 8.0, found {}.{}",
                           stream.info().compute_major, stream.info().compute_minor);
      return tensor_core_obstacle(args);
    case AttentionProvider::wgmma_simple:
    case AttentionProvider::wgmma:
      return hopper_obstacle(args, stream);
    case AttentionProvider::cudnn:
      return dnn_obstacle(args, stream);
  }
  return "no such provider";
}

void attention(const AttentionArgs& args, Stream& stream) {
  attention(args, stream, AttentionProvider::automatic);
}

void attention(const AttentionArgs& args, Stream& stream, AttentionProvider provider) {
  if (args.q.dim(0) == 0) return;
  if (provider == AttentionProvider::automatic) provider = choose(args, stream);
  const std::string why = attention_obstacle(args, stream, provider);
  LT_CHECK(why.empty(), "attention by {}: {}", name(provider), why);
  if (provider == AttentionProvider::cudnn) {
    LT_CHECK(stream.dnn().attention(args), "attention: cuDNN has no plan for q {} and k {}",
             args.q.shape.text(), args.segments[0].k.shape.text());
    return;
  }
  if (provider == AttentionProvider::products) return attention_by_products(args, stream);
  AttentionParams p = params_of(args);
  std::optional<DeviceTiles> copied;  // its memory is used again only by later work of the stream
  if (args.tiles && !args.tiles->on_device) copied.emplace(*args.tiles, stream);
  if (args.tiles) set_tiles(copied ? *copied : *args.tiles->on_device, stream, p);
  if (provider == AttentionProvider::plain)
    launch_attention_plain(p, args.q.dtype == DType::bf16, stream.handle());
  else if (provider == AttentionProvider::mma)
    launch_attention_mma(p, stream.handle());
  else
    launch_attention_hopper(p, maps_of(p), provider == AttentionProvider::wgmma_simple,
                            stream.handle());
}

}  // namespace longtake::cuda
