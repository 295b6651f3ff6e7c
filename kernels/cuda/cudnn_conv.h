// A convolution as a graph of cuDNN.
#pragma once

#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/dnn.h"

namespace longtake::cuda {

enum ConvId : int64_t { kFrames = 1, kWeight, kSums };

// Engines that do not give the same bits on every call are left out.
GraphPlan conv_plan(cudnnHandle_t handle, const DnnConvSize& size);

}  // namespace longtake::cuda
