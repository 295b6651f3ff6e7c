// y = x W^T + b with what follows it. W is packed once into the layout the backend wants.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"
#include "kernels/norm.h"

namespace longtake {

enum class Activation { none, gelu_tanh, silu };

// A dense matrix [rows, columns] of f32, bf16 or f16 on the host that arrives piece by piece.
struct RowSource {
  int64_t rows, columns;
  DType dtype;
  // Rows [first, first + n): read into `room`, or where they already lie. Threads call it together.
  std::function<const void*(int64_t first, int64_t n, void* room)> read;
};

// A packed weight matrix [out, in] and its bias. Compute dtype f32 or bf16, accumulation in f32.
class Linear {
 public:
  struct Packed {  // what a backend makes of them
    virtual ~Packed() = default;
    virtual size_t bytes() const = 0;  // bias left out
  };

  Linear();
  // weight [out, in] and bias [out] (or empty) of dtype f32, bf16 or f16, on the host.
  Linear(ConstTensor weight, ConstTensor bias, DType compute, StreamRef stream);
  // On the host. Every row is read once, straight before it is packed.
  Linear(const RowSource& weight, ConstTensor bias, DType compute, StreamRef stream);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  DType compute() const { return compute_; }
  size_t bytes() const;
  const Packed& packed() const { return *packed_; }
  const float* bias() const;  // [out] or null; on the device

 private:
  void check(ConstTensor bias) const;
  void pack(const RowSource& weight, ConstTensor bias, StreamRef stream);

  int64_t in_ = 0, out_ = 0;
  DType compute_ = DType::f32;
  std::unique_ptr<Packed> packed_;
  OwnedTensor bias_;
};

struct LinearArgs {
  ConstTensor x;  // [rows, in], the compute dtype
  Activation activation = Activation::none;
  // Either y = activation(x W^T + b), f32 or bf16 [rows, out] ...
  Tensor y = {};
  // ... or residual += gate * activation(x W^T + b), residual f32 [rows, out]. gate is f32 [n, out]
  // or empty (1); with n > 1 row i uses gate[gate_row[i]].
  Tensor residual = {};
  ConstTensor gate = {};
  const int32_t* gate_row = nullptr;  // on the device of x
  // Then, if not null, normed = this norm of the residual; on a GPU in the same pass over memory,
  // with the same bits as by itself.
  const LayerNorm* next = nullptr;
  Tensor normed = {};
};

// Rows are cut into tiles whose size depends on the shapes only: the same bits on any thread count.
void linear(const LinearArgs& args, const Linear& weight, StreamRef stream);

}  // namespace longtake
