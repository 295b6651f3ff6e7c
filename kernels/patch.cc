#include "kernels/patch.h"

#include "kernels/base/error.h"
#include "kernels/cuda/elementwise.h"

namespace longtake {

namespace {

// Returns the channels.
int64_t check_patches(const char* op, ConstTensor latent, const PatchGrid& g, ConstTensor patches) {
  const int64_t channels = latent.dim(0);
  LT_CHECK(latent.rank() == 4 && latent.dense() && patches.dense() && latent.dtype == DType::f32 &&
               patches.dtype == DType::f32 && latent.dim(1) == g.frames * g.patch[0] &&
               latent.dim(2) == g.rows * g.patch[1] && latent.dim(3) == g.columns * g.patch[2] &&
               patches.shape == Shape({g.tokens(), channels * g.inside()}),
           "{}: {} {} and {} {} do not fit {} x {} x {} patches of {} x {} x {}", op,
           name(latent.dtype), latent.shape.text(), name(patches.dtype), patches.shape.text(),
           g.frames, g.rows, g.columns, g.patch[0], g.patch[1], g.patch[2]);
  return channels;
}

// Visits every element of the patches: token, channel, index within the patch as
// [frame][row][column], and where it lies in [channel, frames, height, width].
template <class F>
void for_patches(const PatchGrid& g, int64_t channels, F f) {
  const auto& p = g.patch;
  const int64_t height = g.rows * p[1], width = g.columns * p[2], frames = g.frames * p[0];
  for (int64_t t = 0; t < g.frames; ++t)
    for (int64_t r = 0; r < g.rows; ++r)
      for (int64_t w = 0; w < g.columns; ++w) {
        const int64_t token = (t * g.rows + r) * g.columns + w;
        for (int64_t c = 0; c < channels; ++c)
          for (int64_t pt = 0; pt < p[0]; ++pt)
            for (int64_t pr = 0; pr < p[1]; ++pr)
              for (int64_t pc = 0; pc < p[2]; ++pc) {
                const int64_t inside = (pt * p[1] + pr) * p[2] + pc;
                const int64_t frame = t * p[0] + pt, row = r * p[1] + pr, column = w * p[2] + pc;
                f(token, c, inside, ((c * frames + frame) * height + row) * width + column);
              }
      }
}

}  // namespace

void patchify(ConstTensor latent, const PatchGrid& grid, Tensor patches, StreamRef stream) {
  const int64_t channels = check_patches("patchify", latent, grid, patches);
  if (stream.on_gpu()) return cuda::patchify(latent, grid, patches, stream.cuda());
  const float* from = latent.as<float>();
  float* to = patches.as<float>();
  for_patches(grid, channels, [&](int64_t token, int64_t c, int64_t i, int64_t at) {
    to[(token * channels + c) * grid.inside() + i] = from[at];
  });
}

void unpatchify(ConstTensor patches, const PatchGrid& grid, Tensor latent, StreamRef stream) {
  const int64_t channels = check_patches("unpatchify", latent, grid, patches);
  if (stream.on_gpu()) return cuda::unpatchify(patches, grid, latent, stream.cuda());
  const float* from = patches.as<float>();
  float* to = latent.as<float>();
  for_patches(grid, channels, [&](int64_t token, int64_t c, int64_t i, int64_t at) {
    to[at] = from[(token * grid.inside() + i) * channels + c];
  });
}

}  // namespace longtake
