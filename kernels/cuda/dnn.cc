#include "kernels/cuda/dnn.h"

#include "kernels/base/error.h"

namespace longtake::cuda {

struct Dnn::State {
  std::string why = "to be written";
};
Dnn::Dnn(Stream&) : state_(std::make_unique<State>()) {}
Dnn::~Dnn() = default;
bool Dnn::available() const {
  return false;
}
const std::string& Dnn::why_not() const {
  return state_->why;
}
bool Dnn::attention(const AttentionArgs&) {
  return false;
}

}  // namespace longtake::cuda
