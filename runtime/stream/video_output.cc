#include "runtime/stream/video_output.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "runtime/stream/frame.h"

namespace longtake {

VideoOutput::VideoOutput(const ModelFolder& folder, const VideoTarget& target, int64_t height,
                         int64_t width, const VideoWriter::Notice& notice, StreamRef stream)
    : target_(target),
      sheet_(target.end - target.begin, static_cast<int>(width), static_cast<int>(height)),
      rgb_(static_cast<size_t>(3 * height * width)) {
  if (!folder.vae_config)
    fail(ExitCode::missing_input,
         "model {}: expected a VAE, found none (--latents-only needs none)", folder.root.string());
  if (stream.on_gpu()) gpu_ = stream;
  const Weights weights(folder.vae, WeightsOf::vae);
  decoder_.emplace(weights, *folder.vae_config, target.compute, stream);
  const std::filesystem::path beside = target.video.parent_path();
  tiles_.emplace(*decoder_, target.tile, beside.empty() ? "." : beside);
  // Only now: a video of that name may be there already, and bad weights must not cost it.
  writer_.emplace(target.video, static_cast<int>(width), static_cast<int>(height), target.fps,
                  notice);
}

void VideoOutput::push(ConstTensor latents, StreamRef stream) {
  LT_CHECK(latents.rank() == 4, "expected latents [frames, channels, h, w], found {}",
           latents.shape.text());
  const int64_t frames = latents.dim(0), step = at_once();
  if (gpu_) gpu_->make_current();
  if (!beside_ && (gpu_ || stream.pool().threads() > 1)) beside_.emplace(*writer_);
  for (int64_t t = 0; t < frames && decoded_ < target_.end; t += step)
    tiles_->decode(
        latents.rows(t, std::min(frames, t + step)), [this](ConstTensor picture) { take(picture); },
        gpu_.value_or(stream));
}

void VideoOutput::take(ConstTensor frame) {
  const int64_t index = decoded_++;
  if (index < target_.begin || index >= target_.end) return;
  LT_CHECK(frame.numel() == static_cast<int64_t>(rgb_.size()), "a decoded frame has the shape {}",
           frame.shape.text());
  to_rgb(frame, rgb_.data());
  if (beside_)
    beside_->write(rgb_);
  else
    writer_->write(rgb_.data());
  sheet_.offer(index - target_.begin, rgb_.data());
  ++written_;
}

void VideoOutput::close() {
  if (beside_) beside_->drain();
  writer_->close();
  if (!target_.preview.empty()) sheet_.write(target_.preview);
}

}  // namespace longtake
