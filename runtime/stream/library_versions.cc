#include "runtime/stream/library_versions.h"

#include <openssl/crypto.h>
#include <png.h>
#include <zlib.h>

#include "runtime/stream/av_handle.h"
#include "runtime/stream/hdf5_handle.h"

namespace longtake {

static std::string av_version(unsigned version) {
  return fmt::format("{}.{}.{}", AV_VERSION_MAJOR(version), AV_VERSION_MINOR(version),
                     AV_VERSION_MICRO(version));
}

std::vector<std::pair<std::string, std::string>> stream_libraries() {
  unsigned major = 0, minor = 0, release = 0;
  {
    const Hdf5Lock lock;
    H5get_libversion(&major, &minor, &release);
  }
  const bool x264 = avcodec_find_encoder_by_name("libx264") != nullptr;
  return {
      {"HDF5", fmt::format("{}.{}.{}", major, minor, release)},
      {"libavcodec", av_version(avcodec_version()) + (x264 ? " with libx264" : " without libx264")},
      {"libavformat", av_version(avformat_version())},
      {"libswscale", av_version(swscale_version())},
      {"libpng", png_get_libpng_ver(nullptr)},
      {"zlib", zlibVersion()},
      {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING)},
  };
}

}  // namespace longtake
