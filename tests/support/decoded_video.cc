#include "tests/support/decoded_video.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/stream/av_handle.h"

namespace longtake::testing {

namespace {

Picture to_rgb(const AVFrame& frame) {
  const int width = frame.width, height = frame.height;
  Picture rgb(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double luma = (frame.data[0][y * frame.linesize[0] + x] - 16) / 219.0;
      const double cb = (frame.data[1][y / 2 * frame.linesize[1] + x / 2] - 128) / 224.0;
      const double cr = (frame.data[2][y / 2 * frame.linesize[2] + x / 2] - 128) / 224.0;
      const std::array<double, 3> colour = {luma + 1.5748 * cr, luma - 0.1873 * cb - 0.4681 * cr,
                                            luma + 1.8556 * cb};
      for (size_t c = 0; c < 3; ++c)
        rgb[3 * static_cast<size_t>(y * width + x) + c] =
            static_cast<uint8_t>(std::lround(255 * std::clamp(colour[c], 0.0, 1.0)));
    }
  }
  return rgb;
}

void receive(AVCodecContext* codec, const AVStream* stream, DecodedVideo& out) {
  const AvFrame frame(av_frame_alloc());
  while (avcodec_receive_frame(codec, frame.get()) >= 0) {
    REQUIRE(frame->format == AV_PIX_FMT_YUV420P);
    if (out.pictures.empty())
      out.first_second = static_cast<double>(frame->pts) * av_q2d(stream->time_base);
    out.width = frame->width, out.height = frame->height;
    out.colorspace = frame->colorspace;
    out.pictures.push_back(to_rgb(*frame));
  }
}

}  // namespace

DecodedVideo decode_video(const std::filesystem::path& path) {
  DecodedVideo out;
  AVFormatContext* raw = nullptr;
  REQUIRE(avformat_open_input(&raw, path.c_str(), nullptr, nullptr) >= 0);
  const AvInput input(raw);
  REQUIRE(avformat_find_stream_info(input.get(), nullptr) >= 0);
  const AVStream* stream = input->streams[0];
  out.fps = av_q2d(stream->avg_frame_rate);
  const AvCodec codec(avcodec_alloc_context3(avcodec_find_decoder(stream->codecpar->codec_id)));
  avcodec_parameters_to_context(codec.get(), stream->codecpar);
  REQUIRE(avcodec_open2(codec.get(), nullptr, nullptr) >= 0);
  const AvPacket packet(av_packet_alloc());
  while (av_read_frame(input.get(), packet.get()) >= 0) {
    REQUIRE(avcodec_send_packet(codec.get(), packet.get()) >= 0);
    av_packet_unref(packet.get());
    receive(codec.get(), stream, out);
  }
  avcodec_send_packet(codec.get(), nullptr);
  receive(codec.get(), stream, out);
  return out;
}

}  // namespace longtake::testing
