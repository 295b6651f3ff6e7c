// cuDNN, when it can be opened: a second provider of dense attention and of convolution.
#pragma once

#include <memory>
#include <string>

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

// A convolution of bf16 frames [taps, height, width, in] by weights [out, taps, kernel_rows,
// kernel_columns, in] into sums f32 [height_out, width_out, out].
struct DnnConvSize {
  int64_t taps, height, width, in, out;
  int64_t kernel_rows, kernel_columns, stride;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  int64_t height_out, width_out;
  auto operator<=>(const DnnConvSize&) const = default;
};

class Dnn {
 public:
  explicit Dnn(Stream& stream);  // never fails: see available()
  ~Dnn();
  Dnn(const Dnn&) = delete;
  Dnn& operator=(const Dnn&) = delete;

  bool available() const;
  const std::string& why_not() const;

  // Dense bf16 attention of one segment without bias or tiles. False when cuDNN has no plan for it;
  // then nothing was done.
  bool attention(const AttentionArgs& args);
  // The same for a convolution; all memory aligned to 16 bytes. A plan that has run once and then
  // does not is an error: the answer for one size stays the same.
  bool conv(const DnnConvSize& size, const void* frames, const void* weight, float* sums);
  bool has_plan(const DnnConvSize& size);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longtake::cuda
