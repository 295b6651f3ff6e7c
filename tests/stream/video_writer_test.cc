#include "runtime/stream/video_writer.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "runtime/stream/av_handle.h"
#include "tests/stream/sample_run.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

constexpr int kWidth = 64, kHeight = 48;
using Picture = std::vector<uint8_t>;  // [kHeight, kWidth, 3]

// Two halves, whose colours change with time.
Picture sample_picture(int index) {
  Picture rgb(kWidth * kHeight * 3);
  for (int i = 0; i < kWidth * kHeight; ++i) {
    const bool left = i % kWidth < kWidth / 2;
    rgb[3 * i] = static_cast<uint8_t>(left ? 220 - 4 * index : 30);
    rgb[3 * i + 1] = static_cast<uint8_t>(left ? 40 : 20 + 5 * index);
    rgb[3 * i + 2] = static_cast<uint8_t>(left ? 30 : 200);
  }
  return rgb;
}

struct Decoded {
  std::vector<Picture> pictures;
  double fps = 0;
  AVColorSpace colorspace{};
  double first_second = -1;
};

// An independent decoder of its own: limited-range BT.709 by the formulas of the recommendation.
Picture to_rgb(const AVFrame& frame) {
  Picture rgb(kWidth * kHeight * 3);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const double luma = (frame.data[0][y * frame.linesize[0] + x] - 16) / 219.0;
      const double cb = (frame.data[1][y / 2 * frame.linesize[1] + x / 2] - 128) / 224.0;
      const double cr = (frame.data[2][y / 2 * frame.linesize[2] + x / 2] - 128) / 224.0;
      const std::array<double, 3> colour = {luma + 1.5748 * cr, luma - 0.1873 * cb - 0.4681 * cr,
                                            luma + 1.8556 * cb};
      for (int c = 0; c < 3; ++c) {
        rgb[3 * (y * kWidth + x) + c] = static_cast<uint8_t>(
            std::lround(255 * std::min(1.0, std::max(0.0, colour[static_cast<size_t>(c)]))));
      }
    }
  }
  return rgb;
}

void receive(AVCodecContext* codec, const AVStream* stream, Decoded& out) {
  const AvFrame frame(av_frame_alloc());
  while (avcodec_receive_frame(codec, frame.get()) >= 0) {
    if (out.pictures.empty()) {
      out.first_second = static_cast<double>(frame->pts) * av_q2d(stream->time_base);
    }
    out.colorspace = frame->colorspace;
    out.pictures.push_back(to_rgb(*frame));
  }
}

Decoded decode(const fs::path& path) {
  Decoded out;
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

void write_frames(VideoWriter& video, int begin, int end) {
  for (int i = begin; i < end; ++i) video.write(sample_picture(i).data());
}

// Of the middle of each half, away from the edge between them.
int largest_difference(const Picture& a, const Picture& b) {
  int largest = 0;
  for (const int x : {kWidth / 4, 3 * kWidth / 4}) {
    for (int c = 0; c < 3; ++c) {
      const int i = 3 * (kHeight / 2 * kWidth + x) + c;
      largest = std::max(largest, std::abs(a[static_cast<size_t>(i)] - b[static_cast<size_t>(i)]));
    }
  }
  return largest;
}

}  // namespace

TEST_CASE("a video decodes to the frames that were written") {
  const ScratchFolder scratch;
  VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 16);

  write_frames(video, 0, 37);
  CHECK(video.frames() == 37);
  video.close();

  const Decoded found = decode(scratch / "v.mp4");
  REQUIRE(found.pictures.size() == 37);
  CHECK(found.fps == doctest::Approx(16));
  CHECK(found.first_second == 0);
  CHECK(found.colorspace == AVCOL_SPC_BT709);
  for (int i = 0; i < 37; ++i) {
    // 8-bit YUV costs up to 2 levels in blue (1.8556 x 255 / 224 / 2, plus luma); crf 18 on flat
    // colour a few more. BT.601 instead of BT.709 would be off by more than 15.
    CHECK(largest_difference(found.pictures[static_cast<size_t>(i)], sample_picture(i)) <= 6);
  }
  CHECK_FALSE(fs::exists(scratch / ".tmp.v.mp4"));
}

TEST_CASE("the closed file has its index in front") {
  const ScratchFolder scratch;
  VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 24);
  write_frames(video, 0, 5);
  video.close();

  const std::string file = contents(scratch / "v.mp4");

  CHECK(file.find("moov") < file.find("mdat"));
  CHECK(file.find("moof") == std::string::npos);
}

TEST_CASE("frames can be seen while the video is being written") {
  const ScratchFolder scratch;
  VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 4);

  write_frames(video, 0, 40);
  const Decoded found = decode(scratch / "v.mp4");

  // x264 looks one keyframe interval ahead, and the fragment that is being filled is not in the
  // file yet.
  CHECK(found.pictures.size() >= 40 - 3 * 4);
}

TEST_CASE("equal frames give equal files") {
  const ScratchFolder scratch;
  for (const char* name : {"a.mp4", "b.mp4"}) {
    VideoWriter video(scratch / name, kWidth, kHeight, 16);
    write_frames(video, 0, 20);
    video.close();
  }

  CHECK(contents(scratch / "a.mp4") == contents(scratch / "b.mp4"));
}

TEST_CASE("an unfinished video is removed") {
  const ScratchFolder scratch;
  {
    VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 16);
    write_frames(video, 0, 3);
    CHECK(fs::exists(scratch / "v.mp4"));
  }

  CHECK_FALSE(fs::exists(scratch / "v.mp4"));
}

TEST_CASE("bad sizes and places are refused") {
  const ScratchFolder scratch;

  const Error odd = error_of([&] { VideoWriter video(scratch / "v.mp4", 63, 48, 16); });
  const Error place = error_of([&] { VideoWriter video(scratch / "no/v.mp4", 64, 48, 16); });
  const Error rate = error_of([&] { VideoWriter video(scratch / "v.mp4", 64, 48, 0); });

  CHECK(odd.code() == ExitCode::usage);
  CHECK(mentions(odd, "found 63 x 48"));
  CHECK(place.code() == ExitCode::cannot_create);
  CHECK(mentions(place, "No such file or directory"));
  CHECK(rate.code() == ExitCode::usage);
}

TEST_CASE("a full disk is an I/O error and leaves no video") {
  const ScratchFolder scratch;
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{2000, before.rlim_max};

  const Error error = error_of([&] {
    VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 4);
    setrlimit(RLIMIT_FSIZE, &limit);
    write_frames(video, 0, 40);
    video.close();
  });
  setrlimit(RLIMIT_FSIZE, &before);

  CHECK(error.code() == ExitCode::io);
  CHECK(mentions(error, "File too large"));
  CHECK(fs::is_empty(scratch.path()));
}

}  // namespace longtake
