#include "runtime/stream/block_file.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "runtime/stream/hdf5_handle.h"

namespace longtake {

namespace {

constexpr const char* kDataset = "latents";
using Dims = std::array<hsize_t, 4>;

Dims dims_of(const RunIdentity& id, int64_t frames) {
  return {static_cast<hsize_t>(frames), static_cast<hsize_t>(id.channels),
          static_cast<hsize_t>(id.height), static_cast<hsize_t>(id.width)};
}

// One chunk per frame, so that a reader of few frames reads few bytes; Fletcher-32 for readers that
// come through stream.h5 and do not check the hash. No times in the file: equal latents, equal
// bytes.
Hdf5Handle creation_properties(const Dims& dims) {
  const Dims chunk = {1, dims[1], dims[2], dims[3]};
  const hid_t id = H5Pcreate(H5P_DATASET_CREATE);
  LT_CHECK(id >= 0 && H5Pset_chunk(id, 4, chunk.data()) >= 0 && H5Pset_fletcher32(id) >= 0 &&
               H5Pset_obj_track_times(id, false) >= 0 &&
               H5Pset_fill_time(id, H5D_FILL_TIME_NEVER) >= 0,
           "libhdf5 refuses chunks of [1, {}, {}, {}]", dims[1], dims[2], dims[3]);
  return Hdf5Handle(id, H5Pclose);
}

// The root group keeps its times unless told not to, just as the data set does.
Hdf5Handle file_creation() {
  const hid_t id = H5Pcreate(H5P_FILE_CREATE);
  LT_CHECK(id >= 0 && H5Pset_obj_track_times(id, false) >= 0,
           "libhdf5 refuses a root group without times");
  return Hdf5Handle(id, H5Pclose);
}

bool is_plain(const Hdf5Handle& dataset) {
  const Hdf5Handle properties(H5Dget_create_plist(dataset.id()), H5Pclose);
  if (!properties || H5Pget_layout(properties.id()) != H5D_CHUNKED) return false;
  if (H5Pget_external_count(properties.id()) != 0) return false;
  unsigned flags = 0, config = 0;
  size_t values = 0;
  return H5Pget_nfilters(properties.id()) == 1 &&
         H5Pget_filter2(properties.id(), 0, &flags, &values, nullptr, 0, nullptr, &config) ==
             H5Z_FILTER_FLETCHER32;
}

void check_layout(const Hdf5Handle& dataset, const Dims& expected,
                  const std::filesystem::path& path) {
  const Hdf5Handle space(H5Dget_space(dataset.id()), H5Sclose);
  Dims found{};
  if (H5Sget_simple_extent_ndims(space.id()) != 4 ||
      H5Sget_simple_extent_dims(space.id(), found.data(), nullptr) != 4 || found != expected) {
    fail(ExitCode::bad_data, "{}: /latents is [{}], expected [{}]", path.string(),
         fmt::join(found, ", "), fmt::join(expected, ", "));
  }
  const Hdf5Handle type(H5Dget_type(dataset.id()), H5Tclose);
  if (H5Tequal(type.id(), H5T_IEEE_F32LE) <= 0) {
    fail(ExitCode::bad_data, "{}: /latents is not float32", path.string());
  }
  if (!is_plain(dataset)) {
    fail(ExitCode::bad_data, "{}: /latents is not stored the way longtake stores it",
         path.string());
  }
}

bool write_text_list(hid_t file, const char* name, const std::vector<const char*>& texts) {
  const hsize_t count = texts.size();
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  if (H5Tset_size(type.id(), H5T_VARIABLE) < 0) return false;
  if (H5Tset_cset(type.id(), H5T_CSET_UTF8) < 0) return false;
  const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(file, name, type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT),
                       H5Aclose);
  const bool written =
      attribute &&
      (texts.empty() ||  // no prompts: the text was given as embeddings
       H5Awrite(attribute.id(), type.id(), static_cast<const void*>(texts.data())) >= 0);
  return written && attribute.close();
}

bool write_number_list(hid_t file, const char* name, const std::vector<int64_t>& numbers) {
  const hsize_t count = numbers.size();
  const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  Hdf5Handle attribute(
      H5Acreate2(file, name, H5T_NATIVE_INT64, space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const bool written = attribute && (numbers.empty() || H5Awrite(attribute.id(), H5T_NATIVE_INT64,
                                                                 numbers.data()) >= 0);
  return written && attribute.close();
}

bool write_view_attributes(hid_t file, const RunIdentity& id) {
  std::vector<const char*> texts;
  std::vector<int64_t> frames;
  for (const PromptAt& prompt : id.prompts) {
    texts.push_back(prompt.text.c_str());
    frames.push_back(prompt.frame);
  }
  return write_attribute(file, "fps", id.fps) && write_attribute(file, "model", id.model) &&
         write_attribute(file, "seed", id.seed) && write_attribute(file, "version", id.version) &&
         write_attribute(file, "frames", id.video_frames) &&
         write_text_list(file, "prompts", texts) &&
         write_number_list(file, "prompt_frames", frames);
}

Hdf5Handle view_mappings(const RunIdentity& id, const std::vector<CommittedBlock>& blocks,
                         const Hdf5Handle& space) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  for (const CommittedBlock& b : blocks) {
    const Dims count = dims_of(id, b.frames);
    const Dims start = {static_cast<hsize_t>(b.first_frame), 0, 0, 0};
    const Hdf5Handle source(H5Screate_simple(4, count.data(), nullptr), H5Sclose);
    LT_CHECK(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                                 nullptr) >= 0 &&
                 H5Pset_virtual(properties, space.id(), b.file.c_str(), kDataset, source.id()) >= 0,
             "libhdf5 refuses block {} in a virtual data set", b.index);
  }
  return Hdf5Handle(properties, H5Pclose);
}

}  // namespace

OwnedTensor time_first(ConstTensor x) {
  const int64_t c = x.dim(0), t = x.dim(1), plane = x.dim(2) * x.dim(3);
  OwnedTensor out(DType::f32, {t, c, x.dim(2), x.dim(3)});
  for (int64_t i = 0; i < c; ++i)
    for (int64_t j = 0; j < t; ++j)
      std::memcpy(out.as<float>() + (j * c + i) * plane, x.as<float>() + (i * t + j) * plane,
                  static_cast<size_t>(plane) * sizeof(float));
  return out;
}

void write_block_file(const std::filesystem::path& path, const CommittedBlock& block,
                      const std::string& version, ConstTensor latents) {
  const Hdf5Lock lock;
  const Hdf5Handle creation = file_creation(), access = file_access();
  Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.id(), access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::cannot_create, "create", path);
  Dims dims{};
  for (int i = 0; i < 4; ++i) dims[static_cast<size_t>(i)] = static_cast<hsize_t>(latents.dim(i));
  const Hdf5Handle space(H5Screate_simple(4, dims.data(), nullptr), H5Sclose);
  const Hdf5Handle properties = creation_properties(dims);
  Hdf5Handle dataset(H5Dcreate2(file.id(), kDataset, H5T_IEEE_F32LE, space.id(), H5P_DEFAULT,
                                properties.id(), H5P_DEFAULT),
                     H5Dclose);
  const bool written =
      dataset &&
      H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, latents.data) >= 0 &&
      write_attribute(file.id(), "block", block.index) &&
      write_attribute(file.id(), "first_frame", block.first_frame) &&
      write_attribute(file.id(), "version", version) && dataset.close() && file.close();
  if (!written) fail_hdf5(ExitCode::io, "write", path);
}

OwnedTensor read_block_file(const std::filesystem::path& path, const CommittedBlock& block,
                            const RunIdentity& id) {
  const Hdf5Lock lock;
  const Hdf5Handle access = file_access();
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::bad_data, "open", path);
  const Hdf5Handle dataset(H5Dopen2(file.id(), kDataset, H5P_DEFAULT), H5Dclose);
  if (!dataset) fail_hdf5(ExitCode::bad_data, "find /latents in", path);
  check_layout(dataset, dims_of(id, block.frames), path);
  OwnedTensor out(DType::f32, {block.frames, id.channels, id.height, id.width});
  if (H5Dread(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.as<float>()) < 0) {
    fail_hdf5(ExitCode::bad_data, "read /latents of", path);
  }
  return out;
}

void write_stream_view(const std::filesystem::path& path, const RunIdentity& id,
                       const std::vector<CommittedBlock>& blocks) {
  const Hdf5Lock lock;
  const Hdf5Handle access = file_access();
  Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::cannot_create, "create", path);
  const int64_t frames = blocks.empty() ? 0 : blocks.back().first_frame + blocks.back().frames;
  const Dims dims = dims_of(id, frames);
  const Hdf5Handle space(H5Screate_simple(4, dims.data(), nullptr), H5Sclose);
  const Hdf5Handle properties = view_mappings(id, blocks, space);
  if (H5Sselect_all(space.id()) < 0) fail_hdf5(ExitCode::io, "write", path);
  Hdf5Handle dataset(H5Dcreate2(file.id(), kDataset, H5T_IEEE_F32LE, space.id(), H5P_DEFAULT,
                                properties.id(), H5P_DEFAULT),
                     H5Dclose);
  const bool written =
      dataset && write_view_attributes(file.id(), id) && dataset.close() && file.close();
  if (!written) fail_hdf5(ExitCode::io, "write", path);
}

}  // namespace longtake
