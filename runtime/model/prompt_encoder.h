// A prompt to the rows that the transformer reads: cleaning, tokens, UMT5. Let go of once all
// prompts are encoded, so that its weights are not resident beside the transformer's.
#pragma once

#include <string>

#include "runtime/model/model_config.h"
#include "runtime/model/text_encoder.h"
#include "runtime/model/tokenizer.h"

namespace longtake {

class PromptEncoder {
 public:
  PromptEncoder(const ModelFolder& folder, DType compute, StreamRef stream);

  // f32 [tokens, text_dim]; the transformer pads with zero rows.
  OwnedTensor encode(const std::string& prompt, StreamRef stream) const;

 private:
  Tokenizer tokenizer_;
  Weights weights_;
  TextEncoder encoder_;
  int64_t most_tokens_;
};

}  // namespace longtake
