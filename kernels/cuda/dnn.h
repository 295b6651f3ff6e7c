// cuDNN, when it can be opened: a second provider of dense attention and of convolution.
#pragma once

#include <memory>
#include <string>

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace longtake::cuda {

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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longtake::cuda
