#include "runtime/model/weights.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "runtime/model/name_map.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights_files.h"

namespace longtake {

namespace {

// Elements that one task reads, checks and converts while they are in its cache.
constexpr int64_t kPiece = int64_t{1} << 19;

struct Location {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;

  std::string where() const {
    return fmt::format("tensor {} of {}", entry->name, file->path().string());
  }
};

// The type to keep a tensor in while it is read: exactly as it is stored.
DType stored_dtype(const Location& at) {
  const auto& dtype = at.entry->dtype;
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16)
    fail(ExitCode::bad_data, "{}: expected type F32, BF16 or F16, found {}", at.where(),
         at.entry->type);
  return *dtype;
}

void check_finite(ConstTensor data, const Location& at, StreamRef stream) {
  if (!all_finite(data, stream))
    fail(ExitCode::bad_data, "{}: expected numbers, found NaN or infinity", at.where());
}

// Elements [begin, begin + n) of the tensor, straight to `to` or through a worker's scratch memory
// when the type changes. Runs inside a task: the operators get a team of one.
void read_piece(const Location& at, int64_t begin, int64_t n, Tensor to, void* scratch) {
  const DType stored = stored_dtype(at);
  const uint64_t size = size_bytes(stored);
  const Tensor raw(stored == to.dtype ? to.data : scratch, stored, {n});
  at.file->read(*at.entry, static_cast<uint64_t>(begin) * size, static_cast<uint64_t>(n) * size,
                raw.data);
  ThreadPool alone(1);
  check_finite(raw, at, StreamRef(alone));
  if (stored != to.dtype) convert(raw, to, StreamRef(alone));
}

// Elements [begin, begin + n) as `dtype` into host memory, by all threads.
void read_range(const Location& at, int64_t begin, int64_t n, DType dtype, void* to,
                ThreadPool& pool) {
  const DType stored = stored_dtype(at);
  const Tensor flat(to, dtype, {n});
  pool.parallel_for((n + kPiece - 1) / kPiece, [&](int64_t piece, int worker) {
    const int64_t first = piece * kPiece, end = std::min(n, first + kPiece);
    void* scratch = stored == dtype ? nullptr : pool.scratch(worker, kPiece * size_bytes(stored));
    read_piece(at, begin + first, end - first, flat.rows(first, end), scratch);
  });
}

// All of it on the stream's device.
OwnedTensor read_tensor(const Location& at, DType dtype, StreamRef stream) {
  OwnedTensor out(dtype, at.entry->shape, stream.device());
  fill_from_host(
      out.view(),
      [&](int64_t first, int64_t n, void* to) {
        read_range(at, first, n, dtype, to, stream.pool());
      },
      stream);
  return out;
}

void check_shape(const Location& at, const Shape& expected) {
  if (!(at.entry->shape == expected))
    fail(ExitCode::bad_data, "{}: expected shape {}, found {}", at.where(), expected.text(),
         at.entry->shape.text());
}

}  // namespace

struct Weights::Files {
  std::filesystem::path path;
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, Location> tensors;  // by diffusers name

  Location at(const std::string& name) const {
    const auto found = tensors.find(name);
    if (found == tensors.end())
      fail(ExitCode::bad_data, "{}: tensor {} is missing", path.string(), name);
    return found->second;
  }

  void open(const WeightsFiles& found) {
    for (const std::string& name : found.files)
      files.push_back(std::make_unique<SafetensorsFile>(found.folder / name));
    std::map<std::string, const SafetensorsFile*> seen;
    for (const auto& file : files)
      for (const SafetensorsEntry& entry : file->entries()) {
        const auto [other, is_new] = seen.emplace(entry.name, file.get());
        if (!is_new)
          fail(ExitCode::bad_data, "tensor {} is doubled: found in {} and {}", entry.name,
               other->second->path().string(), file->path().string());
      }
    for (const auto& [name, file] : found.file_of) {
      const auto tensor = seen.find(name);
      if (tensor == seen.end() || tensor->second->path().filename() != file)
        fail(ExitCode::bad_data, "{}: tensor {} should be in {}, but is missing there",
             found.index.string(), name, file);
    }
  }

  void name_tensors(WeightsOf part) {
    std::vector<Location> all;
    std::vector<std::string> names;
    for (const auto& file : files)
      for (const SafetensorsEntry& entry : file->entries()) {
        all.push_back({file.get(), &entry});
        names.emplace_back(without_prefix(entry.name));
      }
    names = diffusers_names(names, part);
    for (size_t i = 0; i < all.size(); ++i) {
      // The token table has two names; a file that holds both holds it twice.
      if (part == WeightsOf::text_encoder && names[i] == "encoder.embed_tokens.weight") continue;
      const auto [other, is_new] = tensors.emplace(names[i], all[i]);
      if (!is_new)
        fail(ExitCode::bad_data, "tensor {} is doubled: {} and {}", names[i], other->second.where(),
             all[i].where());
    }
    for (size_t i = 0; i < all.size(); ++i)
      if (names[i] == "encoder.embed_tokens.weight") tensors.emplace("shared.weight", all[i]);
  }
};

Weights::Weights(const std::filesystem::path& path, WeightsOf part)
    : files_(std::make_unique<Files>()) {
  files_->path = path;
  files_->open(find_weights_files(path));
  files_->name_tensors(part);
}

Weights::~Weights() = default;
Weights::Weights(Weights&&) noexcept = default;
Weights& Weights::operator=(Weights&&) noexcept = default;

bool Weights::has(const std::string& name) const {
  return files_->tensors.count(name) != 0;
}

Shape Weights::shape(const std::string& name) const {
  return files_->at(name).entry->shape;
}

DType Weights::dtype(const std::string& name) const {
  return stored_dtype(files_->at(name));
}

std::vector<std::string> Weights::names() const {
  std::vector<std::string> out;
  for (const auto& [name, location] : files_->tensors) out.push_back(name);
  return out;
}

size_t Weights::bytes() const {
  size_t bytes = 0;
  for (const auto& [name, location] : files_->tensors) bytes += location.entry->bytes;
  return bytes;
}

OwnedTensor Weights::read(const std::string& name, const Shape& expected, DType dtype,
                          StreamRef stream) const {
  const Location at = files_->at(name);
  check_shape(at, expected);
  return read_tensor(at, dtype, stream);
}

OwnedTensor Weights::read_rows(const std::string& name, const Shape& expected,
                               std::span<const int32_t> rows, DType dtype, StreamRef stream) const {
  const Location at = files_->at(name);
  check_shape(at, expected);
  LT_CHECK(expected.rank() >= 1, "tensor {} has no rows", name);
  Shape shape = expected;
  shape[0] = static_cast<int64_t>(rows.size());
  OwnedTensor out(stored_dtype(at), shape);
  const uint64_t row_bytes =
      static_cast<uint64_t>(expected.inner_numel()) * size_bytes(out.dtype());
  char* to = static_cast<char*>(out.view().data);
  stream.pool().parallel_for(shape[0], [&](int64_t i, int) {
    const int64_t row = rows[static_cast<size_t>(i)];
    LT_CHECK(0 <= row && row < expected[0], "row {} of tensor {} with {} rows", row, name,
             expected[0]);
    at.file->read(*at.entry, static_cast<uint64_t>(row) * row_bytes, row_bytes,
                  to + static_cast<uint64_t>(i) * row_bytes);
  });
  check_finite(out, at, StreamRef(stream.pool()));
  if (stream.on_gpu()) out = to_device(out, stream);
  if (out.dtype() == dtype) return out;
  OwnedTensor converted(dtype, shape, stream.device());
  convert(out, converted, stream);
  return converted;
}

Linear Weights::linear(const std::string& prefix, int64_t out, int64_t in, bool bias, DType compute,
                       StreamRef stream) const {
  const Location at = files_->at(prefix + ".weight");
  // A convolution whose kernel is its stride is a product too: what follows the outputs is one
  // axis.
  const Shape& stored = at.entry->shape;
  if (stored.rank() < 2 || stored[0] != out || stored.inner_numel() != in)
    check_shape(at, {out, in});
  OwnedTensor bias_values;
  if (bias) bias_values = read(prefix + ".bias", {out}, DType::f32, stream);
  const ConstTensor bias_view = bias ? bias_values.view() : ConstTensor{};
  const DType dtype = stored_dtype(at);
  if (stream.on_gpu())
    return Linear(read_tensor(at, dtype, stream).view().reshape({out, in}), bias_view, compute,
                  stream);
  const auto read_rows = [&](int64_t first, int64_t n, void* room) -> const void* {
    read_piece(at, first * in, n * in, Tensor(room, dtype, {n * in}), nullptr);
    return room;
  };
  return Linear(RowSource{out, in, dtype, read_rows}, bias_view, compute, stream);
}

}  // namespace longtake
