// CPU backend of kernels/attention_merge.h. Arguments have been checked, parts are in order.
#pragma once

#include "kernels/attention_merge.h"

namespace longtake::cpu {

void merge_attention(const AttentionMergeArgs& args, StreamRef stream);

}  // namespace longtake::cpu
