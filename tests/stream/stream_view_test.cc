// stream.h5 as another program sees it: through the plain C API, from another working folder.
#include <doctest/doctest.h>
#include <hdf5.h>

#include <array>
#include <cstring>
#include <vector>

#include "tests/stream/sample_run.h"
#include "tests/support/scratch_folder.h"

namespace longtake {

using namespace testing;

TEST_CASE("stream.h5 shows all committed blocks as one data set") {
  const ScratchFolder scratch;
  LatentStore store(scratch / "run", sample_identity());
  store.append(sample_block(2, 1));
  store.append(sample_block(3, 2));

  const hid_t file = H5Fopen((scratch / "run/stream.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  REQUIRE(file >= 0);
  const hid_t dataset = H5Dopen2(file, "/latents", H5P_DEFAULT);
  REQUIRE(dataset >= 0);
  std::array<hsize_t, 4> dims{};
  const hid_t space = H5Dget_space(dataset);
  H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  H5Sclose(space);
  std::vector<float> found(5 * 4 * 6 * 5);
  const herr_t read =
      H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, found.data());
  H5Dclose(dataset);

  CHECK(read >= 0);
  CHECK(dims == std::array<hsize_t, 4>{5, 4, 6, 5});
  const OwnedTensor a = sample_block(2, 1), b = sample_block(3, 2);
  CHECK(std::memcmp(found.data(), a.as<float>(), a.bytes()) == 0);
  CHECK(std::memcmp(found.data() + a.numel(), b.as<float>(), b.bytes()) == 0);
  H5Fclose(file);
}

TEST_CASE("stream.h5 carries the attributes") {
  const ScratchFolder scratch;
  const LatentStore store(scratch / "run", sample_identity());

  const hid_t file = H5Fopen((scratch / "run/stream.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  REQUIRE(file >= 0);
  double fps = 0;
  int64_t seed = 0;
  std::array<int64_t, 2> prompt_frames{};
  std::array<char*, 2> prompts{};
  const hid_t text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, H5T_VARIABLE);
  H5Tset_cset(text, H5T_CSET_UTF8);
  const auto read = [&](const char* name, hid_t type, void* to) {
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    REQUIRE(attribute >= 0);
    REQUIRE(H5Aread(attribute, type, to) >= 0);
    H5Aclose(attribute);
  };
  read("fps", H5T_NATIVE_DOUBLE, &fps);
  read("seed", H5T_NATIVE_INT64, &seed);
  read("prompt_frames", H5T_NATIVE_INT64, prompt_frames.data());
  read("prompts", text, static_cast<void*>(prompts.data()));

  CHECK(fps == 16);
  CHECK(seed == 7);
  CHECK(prompt_frames == std::array<int64_t, 2>{0, 12});
  CHECK(std::string(prompts[1]) == "ein blaues Quadrat, größer");
  for (char* p : prompts) H5free_memory(p);
  H5Tclose(text);
  H5Fclose(file);
}

}  // namespace longtake
