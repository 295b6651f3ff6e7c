#include "runtime/model/prompt_encoder.h"

#include "kernels/base/error.h"
#include "runtime/model/prompt.h"

namespace longtake {

namespace {

const TextEncoderConfig& config_of(const ModelFolder& folder) {
  if (!folder.text_encoder_config || folder.tokenizer.empty())
    fail(ExitCode::missing_input,
         "model {}: expected a text encoder and its tokenizer, found none (give --prompt-embeds to "
         "do "
         "without)",
         folder.root.string());
  return *folder.text_encoder_config;
}

}  // namespace

PromptEncoder::PromptEncoder(const ModelFolder& folder, DType compute, StreamRef stream)
    : tokenizer_((config_of(folder), folder.tokenizer)),
      weights_(folder.text_encoder, WeightsOf::text_encoder),
      encoder_(weights_, config_of(folder), compute, stream),
      most_tokens_(folder.transformer_config.text_length) {
  LT_CHECK(config_of(folder).d_model == folder.transformer_config.text_dim,
           "the text encoder gives {} channels, the transformer expects {}",
           config_of(folder).d_model, folder.transformer_config.text_dim);
}

OwnedTensor PromptEncoder::encode(const std::string& prompt, StreamRef stream) const {
  return encoder_.encode(tokenizer_.encode(clean_prompt(prompt), most_tokens_), stream);
}

}  // namespace longtake
