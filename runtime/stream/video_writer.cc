#include "runtime/stream/video_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "runtime/stream/av_handle.h"
#include "runtime/stream/durable_file.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

// Visually lossless for x264 (its guide calls 17 to 18 so); MPEG-4 has no such scale, 2 is near its
// best.
constexpr const char* kCrf = "18";
constexpr int kMpeg4Quality = 2;

const AVCodec* choose_encoder(const VideoWriter::Notice& notice) {
  const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
  if (codec) return codec;
  codec = avcodec_find_encoder(AV_CODEC_ID_H264);
  if (!codec) codec = avcodec_find_encoder(AV_CODEC_ID_MPEG4);
  if (!codec) fail(ExitCode::error, "libavcodec has no encoder for H.264 or MPEG-4 video");
  if (notice)
    notice(fmt::format("libavcodec has no libx264: the video is encoded by {}", codec->name));
  return codec;
}

// One thread, no B-frames: the same bytes on every machine, and a frame is in the file one second
// later.
AvCodec open_encoder(const AVCodec* codec, int width, int height, double fps,
                     const fs::path& path) {
  AvCodec context(avcodec_alloc_context3(codec));
  LT_CHECK(context, "out of memory");
  context->width = width;
  context->height = height;
  context->pix_fmt = AV_PIX_FMT_YUV420P;
  context->framerate = av_d2q(fps, 100'000);
  context->time_base = av_inv_q(context->framerate);
  context->gop_size = std::max(1, static_cast<int>(std::lround(fps)));
  context->max_b_frames = 0;
  context->thread_count = 1;
  context->color_range = AVCOL_RANGE_MPEG;
  context->colorspace = AVCOL_SPC_BT709;
  context->color_primaries = AVCOL_PRI_BT709;
  context->color_trc = AVCOL_TRC_BT709;
  context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
  if (codec->id == AV_CODEC_ID_MPEG4) {
    context->flags |= AV_CODEC_FLAG_QSCALE;
    context->global_quality = kMpeg4Quality * FF_QP2LAMBDA;
  } else {
    // Encoders other than libx264 may not know these; they then keep their own quality.
    av_opt_set(context->priv_data, "crf", kCrf, 0);
    av_opt_set(context->priv_data, "preset", "medium", 0);
  }
  av_check(avcodec_open2(context.get(), codec, nullptr), ExitCode::error,
           fmt::format("start encoder {} for", codec->name), path);
  return context;
}

// Full-range RGB to limited-range BT.709, as the tags say.
AvScaler open_scaler(int width, int height) {
  AvScaler scaler(sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
                                 SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT,
                                 nullptr, nullptr, nullptr));
  LT_CHECK(scaler, "libswscale refuses {} x {}", width, height);
  const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
  LT_CHECK(sws_setColorspaceDetails(scaler.get(), bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16) >= 0,
           "libswscale refuses BT.709");
  return scaler;
}

AvOutput open_output(const fs::path& path) {
  AVFormatContext* raw = nullptr;
  av_check(avformat_alloc_output_context2(&raw, nullptr, "mp4", path.c_str()), ExitCode::error,
           "prepare", path);
  AvOutput output(raw);
  output->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_FLUSH_PACKETS;
  // "file:" keeps libav from reading a protocol into the name.
  av_check(avio_open(&output->pb, ("file:" + path.string()).c_str(), AVIO_FLAG_WRITE),
           ExitCode::cannot_create, "create", path);
  return output;
}

void write_header(AVFormatContext* output, const char* movflags, const fs::path& path) {
  AVDictionary* options = nullptr;
  av_dict_set(&options, "movflags", movflags, 0);
  const int result = avformat_write_header(output, &options);
  av_dict_free(&options);
  av_check(result, ExitCode::io, "write", path);
}

// The trailer, and what the write buffer still holds: the last chance to hear of a full disk.
void finish(AvOutput output, const fs::path& path) {
  av_check(av_write_trailer(output.get()), ExitCode::io, "write", path);
  avio_flush(output->pb);
  const int error = output->pb->error;
  const int closed = avio_closep(&output->pb);
  av_check(error, ExitCode::io, "write", path);
  av_check(closed, ExitCode::io, "close", path);
}

AvInput open_input(const fs::path& path) {
  AVFormatContext* raw = nullptr;
  av_check(avformat_open_input(&raw, ("file:" + path.string()).c_str(), nullptr, nullptr),
           ExitCode::io, "read back", path);
  AvInput input(raw);
  av_check(avformat_find_stream_info(input.get(), nullptr), ExitCode::io, "read back", path);
  return input;
}

// The same packets in an ordinary mp4.
void remux(const fs::path& from, const fs::path& to) {
  const AvInput input = open_input(from);
  AvOutput output = open_output(to);
  const AVStream* source = input->streams[0];
  AVStream* sink = avformat_new_stream(output.get(), nullptr);
  LT_CHECK(sink, "out of memory");
  av_check(avcodec_parameters_copy(sink->codecpar, source->codecpar), ExitCode::error, "prepare",
           to);
  sink->codecpar->codec_tag = 0;
  sink->time_base = source->time_base;
  sink->avg_frame_rate = source->avg_frame_rate;
  write_header(output.get(), "+faststart", to);
  const AvPacket packet(av_packet_alloc());
  LT_CHECK(packet, "out of memory");
  int result = 0;
  while ((result = av_read_frame(input.get(), packet.get())) >= 0) {
    av_packet_rescale_ts(packet.get(), source->time_base, sink->time_base);
    packet->pos = -1;
    av_check(av_interleaved_write_frame(output.get(), packet.get()), ExitCode::io, "write", to);
  }
  if (result != AVERROR_EOF) av_check(result, ExitCode::io, "read back", from);
  finish(std::move(output), to);
}

}  // namespace

struct VideoWriter::Encoder {
  AvCodec codec;
  AvScaler scaler;
  AvOutput output;
  AVStream* stream = nullptr;
  AvFrame frame{av_frame_alloc()};
  AvPacket packet{av_packet_alloc()};
  int64_t frames = 0;

  void allocate_frame();
  // nullptr: the last frame was sent.
  void encode(const AVFrame* picture, const fs::path& path);
};

void VideoWriter::Encoder::allocate_frame() {
  LT_CHECK(frame && packet, "out of memory");
  frame->format = codec->pix_fmt;
  frame->width = codec->width;
  frame->height = codec->height;
  frame->color_range = codec->color_range;
  frame->colorspace = codec->colorspace;
  frame->color_primaries = codec->color_primaries;
  frame->color_trc = codec->color_trc;
  LT_CHECK(av_frame_get_buffer(frame.get(), 0) >= 0, "out of memory");
}

void VideoWriter::Encoder::encode(const AVFrame* picture, const fs::path& path) {
  av_check(avcodec_send_frame(codec.get(), picture), ExitCode::error, "encode a frame of", path);
  for (;;) {
    const int result = avcodec_receive_packet(codec.get(), packet.get());
    if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return;
    av_check(result, ExitCode::error, "encode a frame of", path);
    packet->duration = 1;
    packet->stream_index = stream->index;
    av_packet_rescale_ts(packet.get(), codec->time_base, stream->time_base);
    av_check(av_interleaved_write_frame(output.get(), packet.get()), ExitCode::io, "write", path);
    av_check(output->pb->error, ExitCode::io, "write", path);
  }
}

VideoWriter::VideoWriter(const fs::path& path, int width, int height, double fps,
                         const Notice& notice)
    : encoder_(std::make_unique<Encoder>()), path_(path) {
  if (width < 2 || height < 2 || width % 2 != 0 || height % 2 != 0) {
    fail(ExitCode::usage, "a video must have an even width and height, found {} x {}", width,
         height);
  }
  if (!(fps > 0 && fps <= 1000))
    fail(ExitCode::usage, "a video cannot have {} frames per second", fps);
  av_log_set_level(AV_LOG_QUIET);  // errors are reported by exceptions
  Encoder& e = *encoder_;
  e.codec = open_encoder(choose_encoder(notice), width, height, fps, path);
  e.scaler = open_scaler(width, height);
  e.allocate_frame();
  e.output = open_output(path);
  e.stream = avformat_new_stream(e.output.get(), nullptr);
  LT_CHECK(e.stream, "out of memory");
  e.stream->time_base = e.codec->time_base;
  e.stream->avg_frame_rate = e.codec->framerate;
  av_check(avcodec_parameters_from_context(e.stream->codecpar, e.codec.get()), ExitCode::error,
           "prepare", path);
  try {
    write_header(e.output.get(), "+frag_keyframe+empty_moov+default_base_moof", path);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

VideoWriter::~VideoWriter() {
  if (encoder_) ::unlink(path_.c_str());
}

int64_t VideoWriter::frames() const {
  return encoder_ ? encoder_->frames : 0;
}

void VideoWriter::write(const uint8_t* rgb) {
  LT_CHECK(encoder_, "the video is closed");
  Encoder& e = *encoder_;
  LT_CHECK(av_frame_make_writable(e.frame.get()) >= 0, "out of memory");
  const int stride = 3 * e.codec->width;
  LT_CHECK(sws_scale(e.scaler.get(), &rgb, &stride, 0, e.codec->height, e.frame->data,
                     e.frame->linesize) == e.codec->height,
           "libswscale stopped early");
  e.frame->pts = e.frames;
  e.encode(e.frame.get(), path_);
  ++e.frames;
}

void VideoWriter::close() {
  LT_CHECK(encoder_, "the video is closed");
  if (encoder_->frames == 0) fail(ExitCode::error, "no frame was written to {}", path_.string());
  encoder_->encode(nullptr, path_);
  finish(std::move(encoder_->output), path_);
  TemporaryFile whole(path_);
  remux(path_, whole.path());
  whole.publish();
  encoder_.reset();
}

}  // namespace longtake
