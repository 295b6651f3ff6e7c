// What a rank's device and its links reach in practice, not on paper.
#pragma once

namespace longtake {

struct HardwareProfile {
  double linear_flops = 0;      // FLOP/s of matrix products
  double attention_flops = 0;   // FLOP/s of softmax(QK^T)V
  double conv_flops = 0;        // FLOP/s of the VAE
  double memory_bandwidth = 0;  // bytes/s
  double memory_bytes = 0;
  double link_bandwidth = 0;  // bytes/s, one direction
  double link_latency_s = 0;
  double operator_s = 0;  // launch of one operator
  // Speed of background work when no rank has anything else to do, in that of one rank: a machine
  // whose ranks share its cores decodes the end of a video with all of them.
  double spare_speed = 1;
};

}  // namespace longtake
