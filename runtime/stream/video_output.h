// Latents to pictures: the decoder, the video file and the contact sheet behind one call. Frames
// appear in the file as their block is pushed.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/model/vae_tiles.h"
#include "runtime/stream/contact_sheet.h"
#include "runtime/stream/encode_thread.h"
#include "runtime/stream/video_writer.h"

namespace longtake {

struct VideoTarget {
  std::filesystem::path video;
  std::filesystem::path preview;  // empty: none
  double fps = 16;
  int64_t begin = 0, end = 0;  // frames of the whole video that are written
  int64_t tile = 0;            // side of the VAE's tiles in pixels, 0: whole pictures
  DType compute = DType::f32;  // of the decoder on a GPU
};

class VideoOutput {
 public:
  // height and width in pixels.
  VideoOutput(const ModelFolder& folder, const VideoTarget& target, int64_t height, int64_t width,
              const VideoWriter::Notice& notice, StreamRef stream);

  // The next latent frames, f32 [frames, channels, h, w] as they are stored. Decoded on the GPU of
  // the constructor's stream if it was one, otherwise by this stream's threads. Where that leaves
  // a core free, frames are encoded in a thread of their own.
  void push(ConstTensor latents, StreamRef stream);
  int64_t at_once() const { return tiles_->at_once(); }  // frames that push() should be given
  int64_t frames() const { return written_; }
  void close();  // finishes the video, writes the preview

 private:
  void take(ConstTensor frame);

  VideoTarget target_;
  std::optional<VaeDecoder> decoder_;
  std::optional<TiledVaeDecoder> tiles_;
  std::optional<VideoWriter> writer_;
  std::optional<EncodeThread> beside_;
  ContactSheet sheet_;
  std::vector<uint8_t> rgb_;
  std::optional<StreamRef> gpu_;
  int64_t decoded_ = 0, written_ = 0;
};

}  // namespace longtake
