// Point-wise operators.
#pragma once

#include <span>

#include "kernels/base/stream.h"
#include "kernels/base/tensor.h"

namespace longtake {

// y = x in another dtype (f32, bf16, f16 -> f32, bf16), same number of elements, both dense.
void convert(ConstTensor x, Tensor y, StreamRef stream);

// y = silu(x), f32 dense.
void silu(ConstTensor x, Tensor y, StreamRef stream);

// y = gelu_tanh(a) * b, dense, one dtype (f32 or bf16).
void gated_gelu(ConstTensor a, ConstTensor b, Tensor y, StreamRef stream);

// y += x, f32 dense.
void add(ConstTensor x, Tensor y, StreamRef stream);

// y = sum of weight[i] * x[i], left to right, f32 dense; y may be one of the x.
void linear_combination(std::span<const ConstTensor> x, std::span<const float> weight, Tensor y,
                        StreamRef stream);

// sum[i] = rows[i] + table: f32 [n, dim], [dim] and [n, dim]; row strides free.
void add_rows(ConstTensor rows, ConstTensor table, Tensor sum, StreamRef stream);

// bias[head][query][key] = table[bucket[key - query + n - 1]][head]: table f32 [buckets, heads],
// bucket i32 [2 n - 1], all of them rows of the table, bias f32 [heads, n, n].
void relative_bias(ConstTensor table, ConstTensor bucket, Tensor bias, StreamRef stream);

// True when all elements are finite. f32, bf16, f16, f64; integers are. x on the
// stream's device or on the host.
bool all_finite(ConstTensor x, StreamRef stream);

}  // namespace longtake
