#include "kernels/cpu/norm.h"

namespace longtake::cpu {

void layer_norm(const LayerNormArgs& a, StreamRef stream) {
  const KernelTable& kernels = active_kernels();
  parallel_rows(a.x.dim(0), a.x.dim(1), stream, [&](int64_t begin, int64_t end) {
    kernels.modulate({a.x.as<float>(), a.x.row_stride, a.y.data, row_type(a.y.dtype),
                      a.y.row_stride, a.shift, a.scale, a.modulation_stride, a.modulation_row,
                      a.one_plus_scale, a.eps, begin, end, a.x.dim(1)});
  });
}

void rms_norm(ConstTensor x, ConstTensor weight, float eps, ConstTensor cosine, ConstTensor sine,
              int64_t heads, Tensor y, StreamRef stream) {
  const KernelTable& kernels = active_kernels();
  parallel_rows(x.dim(0), x.dim(1), stream, [&](int64_t begin, int64_t end) {
    kernels.rms({x.data, row_type(x.dtype), x.row_stride, y.data, row_type(y.dtype), y.row_stride,
                 weight.as<float>(), eps, static_cast<const float*>(cosine.data),
                 static_cast<const float*>(sine.data), cosine.row_stride, heads, begin, end,
                 x.dim(1)});
  });
}

void channel_norm(ConstTensor x, ConstTensor gamma, bool activate, Tensor y, StreamRef stream) {
  const KernelTable& kernels = active_kernels();
  parallel_rows(x.dim(0), x.dim(1), stream, [&](int64_t begin, int64_t end) {
    kernels.channel_norm({x.data, row_type(x.dtype), y.data, row_type(y.dtype), gamma.as<float>(),
                          activate, begin, end, x.dim(1)});
  });
}

}  // namespace longtake::cpu
