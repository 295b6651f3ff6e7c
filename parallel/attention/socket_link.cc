#include "parallel/attention/socket_link.h"

#include <array>
#include <exception>
#include <utility>

#include "kernels/base/error.h"

namespace longtake {

namespace {

constexpr size_t kMaxUnsent = size_t{1} << 20;    // of control bytes: a peer that does not read
constexpr size_t kPayloadTurn = size_t{8} << 20;  // bytes each way before others have their turn

class SocketLink : public PairLink {
 public:
  explicit SocketLink(LinkStart&& start)
      : end_(start.end),
        terms_(start.terms),
        peer_(std::move(start.peer)),
        control_(std::move(start.control)),
        payload_(std::move(start.payload)),
        slots_(std::move(start.slots)),
        inbox_(start.end, start.terms, slots_, slots_.shared()),
        unsent_(std::move(start.unsent)) {}

  const PairTerms& terms() const override { return terms_; }
  std::string peer() const override { return peer_; }
  bool shared_memory() const override { return slots_.shared(); }
  std::byte* task_payload(int slot) override { return slots_.task(slot); }
  std::byte* answer_payload(int slot) override { return slots_.answer(slot); }

  void post(const PairMessage& message) override {
    check_direction(message, end_);
    if (failure_) std::rethrow_exception(failure_);
    append_message(unsent_, message, terms_);
    if (unsent_.size() > kMaxUnsent)
      fail(ExitCode::io, "{} does not read: {} bytes of messages wait for it", peer_,
           unsent_.size());
    const uint64_t bytes = payload_bytes(message);
    if (bytes == 0 || dropped_ || slots_.shared()) return;
    const std::byte* data = end_ == PairEnd::rank
                                ? slots_.task(std::get<AttentionTask>(message).slot)
                                : slots_.answer(std::get<AttentionAnswer>(message).slot);
    unsent_payloads_.push_back({data, bytes});
  }

  std::vector<PairMessage> pump() override {
    if (failure_) std::rethrow_exception(failure_);
    keep_failure([&] { send_all(); });
    std::vector<PairMessage> out;
    // Also after a failure to send: what the peer said before it left is still to be read.
    const std::exception_ptr sending = std::exchange(failure_, nullptr);
    keep_failure([&] { receive_control(); });
    keep_failure([&] { receive_payloads(out); });
    if (!failure_) failure_ = sending;
    for (PairMessage& message : inbox_.take()) out.push_back(message);
    if (out.empty() && failure_) std::rethrow_exception(failure_);
    return out;
  }

  void add_waits(std::vector<pollfd>& out) const override {
    const auto sending = [](bool wanted) { return static_cast<short>(wanted ? POLLOUT : 0); };
    const short control = sending(!unsent_.empty());
    out.push_back({control_.descriptor(), static_cast<short>(POLLIN | control), 0});
    // An idle payload stream is not polled: its bytes are of no use before their message is here.
    const bool expecting = !inbox_.payload_room().empty();
    const short payload = sending(!unsent_payloads_.empty());
    if (payload_ && (expecting || payload != 0))
      out.push_back(
          {payload_.descriptor(), static_cast<short>((expecting ? POLLIN : 0) | payload), 0});
  }

  void drop_slots() override {
    LT_CHECK(unsent_payloads_.empty(), "slots are dropped while a payload is under way");
    inbox_.drop_slots();
    slots_.drop();
    payload_ = {};
    dropped_ = true;
  }

  void put_back(const std::vector<PairMessage>& messages) override { inbox_.put_back(messages); }
  bool sending() const override { return !unsent_.empty() || !unsent_payloads_.empty(); }

 private:
  // The first failure is the one to tell; it is told once all that came before it is delivered.
  template <class Action>
  void keep_failure(Action&& action) {
    try {
      action();
    } catch (const Error& error) {
      if (!failure_)
        failure_ = std::make_exception_ptr(
            Error(error.code(), fmt::format("{}: {}", peer_, error.what())));
    }
  }

  void send_all() {
    size_t gone = 0;
    while (gone < unsent_.size()) {
      const size_t sent = send_some(control_, BytesView(unsent_).subspan(gone));
      if (sent == 0) break;
      gone += sent;
    }
    unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<ptrdiff_t>(gone));
    size_t turn = 0;
    while (!unsent_payloads_.empty() && turn < kPayloadTurn) {
      BytesView& payload = unsent_payloads_.front();
      const size_t sent = send_some(payload_, payload);
      if (sent == 0) break;
      turn += sent;
      payload = payload.subspan(sent);
      if (payload.empty()) unsent_payloads_.pop_front();
    }
  }

  size_t send_some(const Socket& socket, BytesView bytes) const {
    const Transfer transfer = socket.send(bytes);
    if (!transfer.error.empty())
      fail(ExitCode::io, "sending failed: {}{}", transfer.error, where());
    return transfer.bytes;
  }

  // 0: nothing is there now.
  size_t receive_some(const Socket& socket, std::span<std::byte> room, bool peek = false) const {
    const Transfer transfer = socket.receive(room, peek);
    if (!transfer.error.empty())
      fail(ExitCode::io, "receiving failed: {}{}", transfer.error, where());
    if (transfer.closed) fail(ExitCode::io, "closed the connection{}", where());
    return transfer.bytes;
  }

  std::string where() const {
    const std::string unfinished = inbox_.unfinished();
    return unfinished.empty() ? "" : " " + unfinished;
  }

  void receive_control() {
    std::array<std::byte, 16384> room;
    for (int turn = 0; turn < 16; ++turn) {
      const size_t came = receive_some(control_, room);
      if (came == 0) return;
      inbox_.add_control(BytesView(room).first(came));
    }
  }

  // Takes what is complete on the way, so that the next payload has its room.
  void receive_payloads(std::vector<PairMessage>& out) {
    if (!payload_) return;
    size_t turn = 0;
    while (turn < kPayloadTurn) {
      const std::span<std::byte> room = inbox_.payload_room();
      if (room.empty()) break;
      const size_t came = receive_some(payload_, room);
      if (came == 0) return;
      inbox_.payload_came(came);
      turn += came;
      for (PairMessage& message : inbox_.take()) out.push_back(message);
    }
    std::array<std::byte, 1> next;
    if (inbox_.payload_room().empty()) (void)receive_some(payload_, next, true);
  }

  PairEnd end_;
  PairTerms terms_;
  std::string peer_;
  Socket control_, payload_;
  SlotMemory slots_;
  PairInbox inbox_;
  Bytes unsent_;  // control
  std::deque<BytesView> unsent_payloads_;
  bool dropped_ = false;  // the slots
  std::exception_ptr failure_;
};

}  // namespace

std::unique_ptr<PairLink> make_socket_link(LinkStart&& start) {
  return std::make_unique<SocketLink>(std::move(start));
}

}  // namespace longtake
