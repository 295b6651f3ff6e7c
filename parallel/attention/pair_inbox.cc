#include "parallel/attention/pair_inbox.h"

#include <utility>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr size_t kMaxWaiting = 4096;

}  // namespace

PairInbox::PairInbox(PairEnd at, const PairTerms& terms, const SlotMemory& slots, bool shared)
    : at_(at), terms_(terms), slots_(slots), shared_(shared) {}

void PairInbox::add_control(BytesView bytes) {
  frames_.add(bytes);
  while (const std::optional<Frame> frame = frames_.next()) {
    const PairMessage message = decode_message(*frame, terms_, at_);
    if (messages_.size() + heartbeats_.size() >= kMaxWaiting)
      fail(ExitCode::bad_data, "expected at most {} messages at once, found more", kMaxWaiting);
    if (std::holds_alternative<Heartbeat>(message))
      heartbeats_.push_back(message);
    else
      messages_.push_back(message);
  }
}

std::span<std::byte> PairInbox::payload_room() const {
  if (shared_) return {};
  // Those without a payload in front of it are taken, or will be, without the stream.
  for (const PairMessage& message : messages_) {
    const uint64_t bytes = payload_bytes(message);
    if (bytes == 0) continue;
    std::byte* data = at_ == PairEnd::worker
                          ? slots_.task(std::get<AttentionTask>(message).slot)
                          : slots_.answer(std::get<AttentionAnswer>(message).slot);
    return std::span(data, bytes).subspan(payload_came_);
  }
  return {};
}

void PairInbox::payload_came(size_t bytes) {
  LT_CHECK(bytes <= payload_room().size(), "{} payload bytes, room for {}", bytes,
           payload_room().size());
  payload_came_ += bytes;
}

void PairInbox::put_back(const std::vector<PairMessage>& messages) {
  put_back_.insert(put_back_.begin(), messages.begin(), messages.end());
}

bool PairInbox::complete(const PairMessage& message) const {
  const uint64_t bytes = payload_bytes(message);
  return bytes == 0 || shared_ || payload_came_ == bytes;
}

std::vector<PairMessage> PairInbox::take() {
  std::vector<PairMessage> out = std::exchange(put_back_, {});
  out.insert(out.end(), heartbeats_.begin(), heartbeats_.end());
  heartbeats_.clear();
  while (!messages_.empty() && complete(messages_.front())) {
    if (payload_bytes(messages_.front()) != 0) payload_came_ = 0;
    out.push_back(messages_.front());
    messages_.pop_front();
  }
  return out;
}

std::string PairInbox::unfinished() const {
  if (const std::span<std::byte> room = payload_room(); !room.empty())
    return fmt::format("in the middle of a payload: expected {} more bytes", room.size());
  if (frames_.partial_bytes() != 0)
    return fmt::format("in the middle of a frame: {} bytes of it came", frames_.partial_bytes());
  return "";
}

}  // namespace longtake
