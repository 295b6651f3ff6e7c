// Owners of libav objects, and errors with libav's own text.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/base/error.h"

namespace longtake {

inline std::string av_text(int error) {
  char text[AV_ERROR_MAX_STRING_SIZE] = "";
  av_strerror(error, text, sizeof text);
  return text;
}

// Passes a result >= 0 on; fails with "cannot <action> <path>: <libav's text>" otherwise.
inline int av_check(int result, ExitCode code, std::string_view action,
                    const std::filesystem::path& path) {
  if (result < 0) fail(code, "cannot {} {}: {}", action, path.string(), av_text(result));
  return result;
}

struct AvFree {
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
  void operator()(AVFrame* p) const { av_frame_free(&p); }
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(SwsContext* p) const { sws_freeContext(p); }
};
struct AvCloseInput {
  void operator()(AVFormatContext* p) const { avformat_close_input(&p); }
};
struct AvCloseOutput {
  void operator()(AVFormatContext* p) const {
    if (p->pb) avio_closep(&p->pb);
    avformat_free_context(p);
  }
};

using AvCodec = std::unique_ptr<AVCodecContext, AvFree>;
using AvFrame = std::unique_ptr<AVFrame, AvFree>;
using AvPacket = std::unique_ptr<AVPacket, AvFree>;
using AvScaler = std::unique_ptr<SwsContext, AvFree>;
using AvInput = std::unique_ptr<AVFormatContext, AvCloseInput>;
using AvOutput = std::unique_ptr<AVFormatContext, AvCloseOutput>;

}  // namespace longtake
