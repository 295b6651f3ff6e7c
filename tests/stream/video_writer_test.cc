#include "runtime/stream/video_writer.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "runtime/stream/encode_thread.h"
#include "tests/stream/sample_run.h"
#include "tests/support/decoded_video.h"
#include "tests/support/expect_error.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;
namespace fs = std::filesystem;

namespace {

constexpr int kWidth = 64, kHeight = 48;

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

  const DecodedVideo found = decode_video(scratch / "v.mp4");
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
  const DecodedVideo found = decode_video(scratch / "v.mp4");

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

TEST_CASE("a thread of its own encodes the same video") {
  const ScratchFolder scratch;
  VideoWriter here(scratch / "here.mp4", kWidth, kHeight, 16);
  write_frames(here, 0, 40);
  here.close();

  VideoWriter there(scratch / "there.mp4", kWidth, kHeight, 16);
  {
    EncodeThread thread(there);
    for (int i = 0; i < 40; ++i) thread.write(sample_picture(i));
    thread.drain();
    CHECK(there.frames() == 40);
  }
  there.close();

  CHECK(contents(scratch / "there.mp4") == contents(scratch / "here.mp4"));
}

TEST_CASE("what goes wrong in the encoding thread is told to who writes and who waits") {
  const ScratchFolder scratch;
  VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 16);
  write_frames(video, 0, 1);
  video.close();
  EncodeThread thread(video);  // a closed video takes no frame

  thread.write(sample_picture(0));
  const Error waiting = error_of([&] { thread.drain(); });
  const Error writing = error_of([&] { thread.write(sample_picture(1)); });

  CHECK(mentions(waiting, "the video is closed"));
  CHECK(mentions(writing, "the video is closed"));
}

TEST_CASE("a thread that is not waited for drops its frames") {
  const ScratchFolder scratch;
  VideoWriter video(scratch / "v.mp4", kWidth, kHeight, 16);
  {
    EncodeThread thread(video);
    for (int i = 0; i < 8; ++i) thread.write(sample_picture(i));
  }
  CHECK(video.frames() <= 8);
}

}  // namespace longtake
