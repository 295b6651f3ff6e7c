// Frames of the connection between a pipeline rank and an attention worker, as bytes in and bytes
// out: magic u32, version u16, type u16, length u32 of the body, body; little-endian. No sockets.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

inline constexpr uint32_t kFrameMagic = 0x5741544c;  // "LTAW"
inline constexpr uint16_t kProtocolVersion = 2;
inline constexpr size_t kFrameHeaderBytes = 12;
inline constexpr size_t kMaxFrameBody = 1024;

// A refusal looks the same in every version: its body is text.
enum class FrameType : uint16_t {
  refusal = 1,
  opening,
  challenge,
  proof,
  welcome,
  memory,
  channel,
  task = 16,
  answer,
  heartbeat,
  goodbye,
  nccl_offer,
  nccl_verdict,
};

std::string_view name(FrameType type);
size_t max_body_bytes(FrameType type);

struct Frame {
  FrameType type = FrameType::refusal;
  Bytes body;
};

void append(Bytes& out, BytesView bytes);
void append_frame(Bytes& out, FrameType type, BytesView body);

// Cuts a stream of bytes into frames. Errors: another magic, version, an unknown type, a body that
// is longer than its type's may be (found as soon as the header is there).
class FrameReader {
 public:
  void add(BytesView bytes);
  std::optional<Frame> next();
  // To complete what next() waits for, and not a byte of what follows it.
  size_t wanted_bytes() const;

  bool spoke_protocol() const { return spoke_protocol_; }  // the magic has come
  size_t partial_bytes() const { return bytes_.size() - begin_; }

 private:
  Bytes bytes_;
  size_t begin_ = 0;
  bool spoke_protocol_ = false;
};

// Body of a frame, written field by field.
class BodyWriter {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_unsigned_v<T>);
    for (size_t i = 0; i < sizeof(T); ++i)
      bytes_.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i)));
  }
  void put(float value) { put(std::bit_cast<uint32_t>(value)); }
  void put(int32_t value) { put(static_cast<uint32_t>(value)); }
  void put(BytesView bytes) { append(bytes_, bytes); }
  void put_text(std::string_view text);  // length u16, bytes

  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

// The same read back. Errors name the frame, what was expected and what was found.
class BodyReader {
 public:
  explicit BodyReader(const Frame& frame) : type_(frame.type), left_(frame.body) {}

  template <class T>
  T get() {
    if constexpr (std::is_same_v<T, float>)
      return std::bit_cast<float>(get<uint32_t>());
    else if constexpr (std::is_same_v<T, int32_t>)
      return static_cast<int32_t>(get<uint32_t>());
    else {
      const BytesView bytes = take(sizeof(T));
      uint64_t value = 0;
      for (size_t i = 0; i < sizeof(T); ++i)
        value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
      return static_cast<T>(value);
    }
  }
  template <size_t size>
  std::array<std::byte, size> get_bytes() {
    std::array<std::byte, size> out;
    const BytesView bytes = take(size);
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return out;
  }
  std::string get_text(std::string_view field, size_t most);  // printable ASCII
  void finish() const;                                        // nothing may be left

 private:
  BytesView take(size_t bytes);

  FrameType type_;
  BytesView left_;
};

}  // namespace longtake
