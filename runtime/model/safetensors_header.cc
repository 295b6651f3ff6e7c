// A state machine on SAX events: the header is never held as a tree, and a repeated name, which a
// tree would silently merge, is seen.
#include "runtime/model/safetensors_header.h"

#include <nlohmann/json.hpp>

#include <limits>
#include <unordered_set>
#include <utility>

#include "kernels/base/error.h"

namespace longtake {

namespace {

struct StoredType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;
};

constexpr StoredType kTypes[] = {
    {"F32", 32, DType::f32},
    {"BF16", 16, DType::bf16},
    {"F16", 16, DType::f16},
    {"F64", 64, DType::f64},
    {"I64", 64, DType::i64},
    {"I32", 32, DType::i32},
    {"I16", 16, DType::i16},
    {"I8", 8, DType::i8},
    {"U8", 8, DType::u8},
    {"BOOL", 8, DType::boolean},
    {"U16", 16, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},
    {"C64", 64, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
};

class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& where) : where_(where) {}

  std::vector<HeaderEntry> take() { return std::move(entries_); }

  bool key(string_t& text) override {
    switch (state_) {
      case State::top:
        return begin_entry(text);
      case State::entry:
        return begin_field(text);
      case State::metadata:
        return true;
      default:
        reject("a key");
    }
  }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::outside:
        state_ = State::top;
        return true;
      case State::entry_value:
        state_ = in_metadata_ ? State::metadata : State::entry;
        return true;
      default:
        reject("an object");
    }
  }

  bool end_object() override {
    if (state_ == State::entry) finish_entry();
    state_ = state_ == State::top ? State::outside : State::top;
    in_metadata_ = false;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::shape_value)
      state_ = State::shape;
    else if (state_ == State::offsets_value)
      state_ = State::offsets;
    else
      reject("an array");
    return true;
  }

  bool end_array() override {
    state_ = State::entry;
    return true;
  }

  bool string(string_t& text) override {
    if (state_ == State::metadata) return true;
    if (state_ != State::type_value) reject("a string");
    type_ = std::move(text);
    state_ = State::entry;
    return true;
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (state_ == State::shape)
      shape_.push_back(number);
    else if (state_ == State::offsets)
      offsets_.push_back(number);
    else
      reject("a number");
    return true;
  }

  bool null() override { reject("null"); }
  bool boolean(bool) override { reject("a boolean"); }
  bool number_integer(number_integer_t) override { reject("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override { reject("the number " + text); }
  bool binary(binary_t&) override { reject("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    fail(ExitCode::bad_data, "{}: the header is not JSON, error at its byte {}: {}", where_,
         position, std::string_view(error.what()).substr(0, 200));
  }

 private:
  enum class State {
    outside,
    top,
    entry_value,
    entry,
    metadata,
    type_value,
    shape_value,
    shape,
    offsets_value,
    offsets
  };

  [[noreturn]] void reject(const std::string& found) const {
    fail(ExitCode::bad_data,
         "{}: header{}: expected {{\"dtype\": ..., \"shape\": [...], \"data_offsets\": [begin, "
         "end]}} "
         "with whole numbers, found {}{}",
         where_, name_.empty() ? "" : " of tensor " + name_, found,
         field_.empty() ? "" : " at \"" + field_ + "\"");
  }

  bool begin_entry(std::string& text) {
    if (!names_.insert(text).second)
      fail(ExitCode::bad_data, "{}: tensor {} is doubled in the header", where_, text);
    in_metadata_ = text == "__metadata__";
    name_ = std::move(text);
    field_.clear();
    type_.clear();
    shape_.clear();
    offsets_.clear();
    has_type_ = has_shape_ = has_offsets_ = false;
    state_ = State::entry_value;
    return true;
  }

  bool begin_field(std::string& text) {
    field_ = std::move(text);
    bool* seen = nullptr;
    if (field_ == "dtype")
      seen = &has_type_, state_ = State::type_value;
    else if (field_ == "shape")
      seen = &has_shape_, state_ = State::shape_value;
    else if (field_ == "data_offsets")
      seen = &has_offsets_, state_ = State::offsets_value;
    else
      reject("another key");
    if (std::exchange(*seen, true)) reject("the key twice");
    return true;
  }

  void finish_entry() {
    field_.clear();
    if (!has_type_ || !has_shape_ || !has_offsets_) reject("an entry without one of the keys");
    if (offsets_.size() != 2) reject(fmt::format("{} data_offsets", offsets_.size()));
    const StoredType& type = stored_type();
    const Shape shape = checked_shape();
    const uint64_t bytes = checked_bytes(type);
    if (offsets_[1] < offsets_[0] || offsets_[1] - offsets_[0] != bytes)
      fail(ExitCode::bad_data,
           "{}: tensor {} of type {} and shape {} needs {} bytes, found "
           "data_offsets [{}, {}]",
           where_, name_, type.name, shape.text(), bytes, offsets_[0], offsets_[1]);
    entries_.push_back({name_, type_, type.dtype, shape, offsets_[0], offsets_[1]});
  }

  const StoredType& stored_type() const {
    for (const StoredType& type : kTypes)
      if (type.name == type_) return type;
    fail(ExitCode::bad_data, "{}: tensor {} has the unknown type \"{}\"", where_, name_, type_);
  }

  Shape checked_shape() const {
    if (shape_.size() > Shape::kMaxRank)
      fail(ExitCode::bad_data, "{}: tensor {} has {} dimensions, expected at most {}", where_,
           name_, shape_.size(), Shape::kMaxRank);
    Shape out;
    for (const uint64_t dim : shape_) {
      if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) overflow();
      out.append(static_cast<int64_t>(dim));
    }
    return out;
  }

  uint64_t checked_bytes(const StoredType& type) const {
    uint64_t bits = type.bits;
    bool empty = false;
    for (const uint64_t dim : shape_) empty |= dim == 0;
    for (const uint64_t dim : shape_)
      if (dim != 0 && __builtin_mul_overflow(bits, dim, &bits)) overflow();
    // Element counts are int64_t in the program.
    if (bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) overflow();
    if (empty) return 0;
    if (bits % 8 != 0)
      fail(ExitCode::bad_data, "{}: tensor {} has {} bits, not whole bytes", where_, name_, bits);
    return bits / 8;
  }

  [[noreturn]] void overflow() const {
    std::string text;
    for (const uint64_t dim : shape_) text += (text.empty() ? "" : ", ") + std::to_string(dim);
    fail(ExitCode::bad_data, "{}: the shape [{}] of tensor {} overflows", where_, text, name_);
  }

  const std::string& where_;
  State state_ = State::outside;
  bool in_metadata_ = false;
  std::string name_, field_, type_;
  bool has_type_ = false, has_shape_ = false, has_offsets_ = false;
  std::vector<uint64_t> shape_, offsets_;
  std::unordered_set<std::string> names_;
  std::vector<HeaderEntry> entries_;
};

}  // namespace

std::vector<HeaderEntry> parse_header_json(std::string_view json, const std::string& where) {
  if (json.empty() || json.front() != '{')
    fail(ExitCode::bad_data,
         "{}: the header must begin with {{: not a safetensors file, or damaged", where);
  // The JSON library takes a zero byte for the end of the text.
  if (json.find('\0') != std::string_view::npos)
    fail(ExitCode::bad_data, "{}: the header holds a zero byte", where);
  HeaderReader reader(where);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace longtake
