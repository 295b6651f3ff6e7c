#include "runtime/stream/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "runtime/stream/block_file.h"
#include "runtime/stream/durable_file.h"
#include "runtime/stream/hdf5_handle.h"

namespace longtake {

namespace fs = std::filesystem;

namespace {

constexpr int kMostDims = 4;

hid_t type_of(DType dtype) {
  return dtype == DType::f32 ? H5T_IEEE_F32LE : H5T_STD_U16LE;  // bf16: its bits
}

Hdf5Handle untimed_dataset() {
  const hid_t id = H5Pcreate(H5P_DATASET_CREATE);
  LT_CHECK(id >= 0 && H5Pset_obj_track_times(id, false) >= 0,
           "libhdf5 refuses data sets without times");
  return Hdf5Handle(id, H5Pclose);
}

// All names in the header of the root group: libhdf5 1.10 crashes on a damaged heap of names, which
// it would make beyond eight.
Hdf5Handle state_creation() {
  constexpr unsigned kMostNames = 65535;
  const hid_t id = H5Pcreate(H5P_FILE_CREATE);
  LT_CHECK(id >= 0 && H5Pset_obj_track_times(id, false) >= 0 &&
               H5Pset_link_phase_change(id, kMostNames, 0) >= 0,
           "libhdf5 refuses groups without times and heap");
  return Hdf5Handle(id, H5Pclose);
}

bool is_flat(hid_t group) {
  H5G_info_t info{};
  return H5Gget_info(group, &info) >= 0 && info.storage_type == H5G_STORAGE_TYPE_COMPACT;
}

bool write_part(hid_t file, const StatePart& part) {
  std::vector<hsize_t> dims;
  for (int i = 0; i < part.data.rank(); ++i) dims.push_back(static_cast<hsize_t>(part.data.dim(i)));
  const Hdf5Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                         H5Sclose);
  const Hdf5Handle properties = untimed_dataset();
  if (H5Pset_fill_time(properties.id(), H5D_FILL_TIME_NEVER) < 0) return false;
  const hid_t type = type_of(part.data.dtype);
  Hdf5Handle dataset(H5Dcreate2(file, part.name.c_str(), type, space.id(), H5P_DEFAULT,
                                properties.id(), H5P_DEFAULT),
                     H5Dclose);
  return dataset && write_attribute(dataset.id(), "first_layer", part.first_layer) &&
         H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, part.data.data) >= 0 &&
         dataset.close();
}

bool read_integer(hid_t object, const char* name, int64_t& value) {
  const Hdf5Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  return attribute && H5Aread(attribute.id(), H5T_NATIVE_INT64, &value) >= 0;
}

herr_t take_name(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

void write_state_file(const fs::path& path, const QueueState& state) {
  const Hdf5Lock lock;
  const Hdf5Handle creation = state_creation(), access = file_access();
  Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.id(), access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::cannot_create, "create", path);
  bool written = write_attribute(file.id(), "sweep", state.sweep);
  for (const StatePart& part : state.parts) {
    LT_CHECK(part.data.dense() && part.data.rank() <= kMostDims, "{} is not dense", part.name);
    written = written && write_part(file.id(), part);
  }
  if (!written || !file.close()) fail_hdf5(ExitCode::io, "write", path);
}

std::string check_state_files(const fs::path& run, const CommittedState& state) {
  for (const StateFile& f : state.files) {
    try {
      const OpenFile file(run / f.file, O_RDONLY, ExitCode::missing_input);
      if (file.size() != f.bytes)
        return fmt::format("{} holds {} bytes, COMMIT says {}", f.file, file.size(), f.bytes);
      const std::string found = digest(file).sha256;
      if (found != f.sha256)
        return fmt::format("{} is damaged: its SHA-256 is {}, COMMIT says {}", f.file, found,
                           f.sha256);
    } catch (const Error& e) {
      return e.what();
    }
  }
  return "";
}

StateChoice choose_state(const fs::path& run, const std::vector<CommittedState>& states) {
  StateChoice out;
  const size_t last = std::min(states.size(), kStatesKept);
  for (auto state = states.rbegin(); state != states.rbegin() + static_cast<std::ptrdiff_t>(last);
       ++state) {
    const std::string problem = check_state_files(run, *state);
    if (problem.empty()) {
      out.state = *state;
      break;
    }
    out.lost.push_back(fmt::format("the state before sweep {} is lost: {}", state->sweep, problem));
  }
  return out;
}

StateFiles::StateFiles(const LatentReader& reader, const CommittedState& state) : reader_(reader) {
  for (const StateFile& f : state.files) index(reader.path() / f.file);
}

void StateFiles::index(const fs::path& path) {
  const Hdf5Lock lock;
  const Hdf5Handle access = file_access();
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::bad_data, "open", path);
  if (!is_flat(file.id()))
    fail(ExitCode::bad_data, "{}: the list of its parts is not stored the way longtake stores it",
         path.string());
  std::vector<std::string> names;
  if (H5Literate(file.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, take_name, &names) < 0)
    fail_hdf5(ExitCode::bad_data, "list", path);
  for (const std::string& name : names) {
    Part part{path, 0, {}, DType::f32};
    const Hdf5Handle dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!dataset) fail_hdf5(ExitCode::bad_data, "open " + name + " of", path);
    if (!read_integer(dataset.id(), "first_layer", part.first_layer))
      fail_hdf5(ExitCode::bad_data, "read attribute first_layer of " + name + " of", path);
    const Hdf5Handle space(H5Dget_space(dataset.id()), H5Sclose);
    hsize_t dims[kMostDims] = {};
    const int rank = H5Sget_simple_extent_ndims(space.id());
    if (rank < 1 || rank > kMostDims || H5Sget_simple_extent_dims(space.id(), dims, nullptr) < 0)
      fail(ExitCode::bad_data, "{}: {} has {} dimensions", path.string(), name, rank);
    part.dims.assign(dims, dims + rank);
    const Hdf5Handle type(H5Dget_type(dataset.id()), H5Tclose);
    part.dtype = H5Tequal(type.id(), H5T_IEEE_F32LE) > 0 ? DType::f32 : DType::bf16;
    if (H5Tequal(type.id(), type_of(part.dtype)) <= 0)
      fail(ExitCode::bad_data, "{}: {} has an unknown type", path.string(), name);
    parts_.emplace(name, std::move(part));
  }
}

// Rows [begin, begin + to.dim(0)) of a data set's first dimension.
void StateFiles::read_rows(const Part& part, const std::string& name, int64_t begin,
                           Tensor to) const {
  std::vector<int64_t> expected(part.dims);
  expected[0] = to.dim(0);
  std::vector<int64_t> found;
  for (int i = 0; i < to.rank(); ++i) found.push_back(to.dim(i));
  if (found != expected || part.dtype != to.dtype)
    fail(ExitCode::bad_data, "{}: {} is {} [{}], expected {} {}", part.file.string(), name,
         longtake::name(part.dtype), fmt::join(part.dims, ", "), longtake::name(to.dtype),
         to.shape.text());
  const Hdf5Lock lock;
  const Hdf5Handle access = file_access();
  const Hdf5Handle file(H5Fopen(part.file.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose);
  if (!file) fail_hdf5(ExitCode::bad_data, "open", part.file);
  const Hdf5Handle dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) fail_hdf5(ExitCode::bad_data, "find " + name + " in", part.file);
  std::vector<hsize_t> start(part.dims.size(), 0), count(found.begin(), found.end());
  start[0] = static_cast<hsize_t>(begin);
  const Hdf5Handle from(H5Dget_space(dataset.id()), H5Sclose);
  const Hdf5Handle memory(H5Screate_simple(to.rank(), count.data(), nullptr), H5Sclose);
  if (H5Sselect_hyperslab(from.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) <
          0 ||
      H5Dread(dataset.id(), type_of(to.dtype), memory.id(), from.id(), H5P_DEFAULT, to.data) < 0)
    fail_hdf5(ExitCode::bad_data, "read " + name + " of", part.file);
}

void StateFiles::read(const std::string& name, Tensor to) const {
  const auto found = parts_.find(name);
  if (found == parts_.end())
    fail(ExitCode::bad_data, "{}: the state holds no {}", reader_.path().string(), name);
  if (found->second.dims[0] != to.dim(0))
    fail(ExitCode::bad_data, "{}: {} is [{}], expected {}", found->second.file.string(), name,
         fmt::join(found->second.dims, ", "), to.shape.text());
  read_rows(found->second, name, 0, to);
}

void StateFiles::read_layers(const std::string& name, int64_t first_layer, Tensor to) const {
  const int64_t end = first_layer + to.dim(0);
  int64_t layer = first_layer;
  while (layer < end) {
    const auto [from, past] = parts_.equal_range(name);
    const auto found = std::find_if(from, past, [&](const auto& entry) {
      const Part& p = entry.second;
      return p.first_layer <= layer && layer < p.first_layer + p.dims[0];
    });
    if (found == past)
      fail(ExitCode::bad_data, "{}: the state holds no {} of layer {}", reader_.path().string(),
           name, layer);
    const Part& part = found->second;
    const int64_t stop = std::min(end, part.first_layer + part.dims[0]);
    read_rows(part, name, layer - part.first_layer,
              to.rows(layer - first_layer, stop - first_layer));
    layer = stop;
  }
}

// Time first in the file, channels first in the queue: the exchange is its own inverse.
OwnedTensor StateFiles::finished(int64_t first_frame, int64_t frames) const {
  return time_first(reader_.read_frames(first_frame, frames));
}

}  // namespace longtake
