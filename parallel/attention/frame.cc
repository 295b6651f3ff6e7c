#include "parallel/attention/frame.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace longtake {

namespace {

struct TypeRow {
  FrameType type;
  std::string_view name;
  size_t max_body;
};

constexpr size_t kDescriptorBytes = 128 - kFrameHeaderBytes;
constexpr TypeRow kTypes[] = {
    {FrameType::refusal, "refusal", kMaxFrameBody},
    {FrameType::opening, "opening", kMaxFrameBody},
    {FrameType::challenge, "challenge", 32},
    {FrameType::proof, "proof", 32},
    {FrameType::welcome, "welcome", 256},
    {FrameType::memory, "memory", 33},
    {FrameType::channel, "channel", 1},
    {FrameType::task, "task", kDescriptorBytes},
    {FrameType::answer, "answer", 64},
    {FrameType::heartbeat, "heartbeat", 16},
    {FrameType::goodbye, "goodbye", 0},
    {FrameType::nccl_offer, "nccl_offer", 257},
    {FrameType::nccl_verdict, "nccl_verdict", 1},
};

const TypeRow* find(FrameType type) {
  const auto row =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& r) { return r.type == type; });
  return row == std::end(kTypes) ? nullptr : row;
}

uint32_t load(BytesView bytes, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= std::to_integer<uint32_t>(bytes[at + i]) << (8 * i);
  return value;
}

}  // namespace

std::string_view name(FrameType type) {
  const TypeRow* row = find(type);
  return row ? row->name : "unknown";
}

size_t max_body_bytes(FrameType type) {
  const TypeRow* row = find(type);
  return row ? row->max_body : 0;
}

void append(Bytes& out, BytesView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_frame(Bytes& out, FrameType type, BytesView body) {
  LT_CHECK(body.size() <= max_body_bytes(type), "a {} of {} bytes", name(type), body.size());
  BodyWriter header;
  header.put(kFrameMagic);
  header.put(kProtocolVersion);
  header.put(static_cast<uint16_t>(type));
  header.put(static_cast<uint32_t>(body.size()));
  append(out, header.bytes());
  append(out, body);
}

void FrameReader::add(BytesView bytes) {
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(begin_));
  begin_ = 0;
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::optional<Frame> FrameReader::next() {
  const BytesView bytes = BytesView(bytes_).subspan(begin_);
  if (bytes.size() < 4) return std::nullopt;
  const uint32_t magic = load(bytes, 0, 4);
  if (magic != kFrameMagic)
    fail(ExitCode::bad_data, "not a frame: expected magic {:#010x}, found {:#010x}", kFrameMagic,
         magic);
  spoke_protocol_ = true;
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const uint32_t version = load(bytes, 4, 2), length = load(bytes, 8, 4);
  const auto type = static_cast<FrameType>(load(bytes, 6, 2));
  if (version != kProtocolVersion && type != FrameType::refusal)
    fail(ExitCode::bad_data, "protocol version: expected {}, found {}", kProtocolVersion, version);
  if (!find(type))
    fail(ExitCode::bad_data, "frame type: expected a known one, found {}", load(bytes, 6, 2));
  if (length > max_body_bytes(type))
    fail(ExitCode::bad_data, "{}: expected at most {} bytes, found {}", name(type),
         max_body_bytes(type), length);
  if (bytes.size() < kFrameHeaderBytes + length) return std::nullopt;
  const BytesView body = bytes.subspan(kFrameHeaderBytes, length);
  begin_ += kFrameHeaderBytes + length;
  return Frame{type, Bytes(body.begin(), body.end())};
}

size_t FrameReader::wanted_bytes() const {
  const BytesView bytes = BytesView(bytes_).subspan(begin_);
  if (bytes.size() < kFrameHeaderBytes) return kFrameHeaderBytes - bytes.size();
  return kFrameHeaderBytes + load(bytes, 8, 4) - bytes.size();
}

void BodyWriter::put_text(std::string_view text) {
  LT_CHECK(text.size() <= kMaxFrameBody, "a text of {} bytes in a frame", text.size());
  put(static_cast<uint16_t>(text.size()));
  put(std::as_bytes(std::span(text)));
}

BytesView BodyReader::take(size_t bytes) {
  if (left_.size() < bytes)
    fail(ExitCode::bad_data, "{}: too short: expected {} more bytes, found {}", name(type_), bytes,
         left_.size());
  const BytesView out = left_.first(bytes);
  left_ = left_.subspan(bytes);
  return out;
}

std::string BodyReader::get_text(std::string_view field, size_t most) {
  const size_t length = get<uint16_t>();
  if (length > most)
    fail(ExitCode::bad_data, "{}: {}: expected at most {} bytes, found {}", name(type_), field,
         most, length);
  std::string out;
  for (const std::byte byte : take(length)) {
    const char c = static_cast<char>(byte);
    if (c < 0x20 || c > 0x7e)
      fail(ExitCode::bad_data, "{}: {}: expected printable ASCII, found byte {:#04x}", name(type_),
           field, std::to_integer<int>(byte));
    out += c;
  }
  return out;
}

void BodyReader::finish() const {
  if (!left_.empty())
    fail(ExitCode::bad_data, "{}: expected its end, found {} more bytes", name(type_),
         left_.size());
}

}  // namespace longtake
