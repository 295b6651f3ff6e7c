#ifdef LONGTAKE_CUDNN

#include "kernels/cuda/cudnn_conv.h"

namespace longtake::cuda {

namespace {

// [1, channels, frames, rows, columns] (for weights: [out, in, ...]), channels innermost in memory.
GraphDescriptor channels_last(ConvId id, cudnnDataType_t type, int64_t n, int64_t channels,
                              int64_t frames, int64_t rows, int64_t columns) {
  const int64_t row = columns * channels, frame = rows * row;
  return graph_tensor(id, type, {n, channels, frames, rows, columns},
                      {frames * frame, 1, frame, row, channels});
}

// 3-D, without padding in time: the frames that one output frame sees become that frame.
GraphDescriptor description(const DnnConvSize& s) {
  using Three = std::vector<int64_t>;
  GraphDescriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{3});
  d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, Three{1, 1, 1});
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, Three{1, s.stride, s.stride});
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, Three{0, s.pad_top, s.pad_left});
  d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64,
        Three{0, s.pad_bottom, s.pad_right});
  d.finalize();
  return d;
}

}  // namespace

GraphPlan conv_plan(cudnnHandle_t handle, const DnnConvSize& s) {
  std::vector<GraphDescriptor> parts;
  GraphDescriptor op(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  const auto add = [&](cudnnBackendAttributeName_t name, GraphDescriptor part) {
    op.set(name, part);
    parts.push_back(std::move(part));
  };
  add(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, description(s));
  add(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      channels_last(kFrames, CUDNN_DATA_BFLOAT16, 1, s.in, s.taps, s.height, s.width));
  add(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
      channels_last(kWeight, CUDNN_DATA_BFLOAT16, s.out, s.in, s.taps, s.kernel_rows,
                    s.kernel_columns));
  add(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
      channels_last(kSums, CUDNN_DATA_FLOAT, 1, s.out, 1, s.height_out, s.width_out));
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0f);
  op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0f);
  op.finalize();
  return GraphPlan(handle, std::move(op), std::move(parts), GraphPlan::Engines::same_bits);
}

}  // namespace longtake::cuda

#endif
