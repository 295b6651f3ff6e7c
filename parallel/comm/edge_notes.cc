#include "parallel/comm/edge_notes.h"

#include <cstring>
#include <thread>

#include "kernels/base/error.h"

namespace longtake {

namespace {

using Clock = std::chrono::steady_clock;
using Kind = EdgeNote::Kind;

constexpr int kSpins = 2000;
constexpr auto kSleep = std::chrono::microseconds(20);

EdgeNote read_note(ReceiveChannel& in, const std::string& what) {
  EdgeNote note;
  std::memcpy(&note, in.receive(sizeof note, what), sizeof note);
  in.release();
  return note;
}

void write_note(SendChannel& out, const EdgeNote& note) {
  std::memcpy(out.acquire("a free buffer for a channel's note"), &note, sizeof note);
  out.send(sizeof note);
}

}  // namespace

void EdgeContext::wait(int peer, const std::string& what, const std::function<bool()>& done) {
  if (done()) return;
  const Clock::time_point start = Clock::now();
  for (int turns = 0; !done(); ++turns) {
    if (turns < kSpins) continue;
    control.progress();
    if (Clock::now() - start >= deadline.limit) {
      last_error =
          fmt::format("rank {}/{}: {}: nothing from rank {} in {:.1f} s; in flight: {}",
                      control.rank(), control.ranks(), what, peer,
                      std::chrono::duration<double>(deadline.limit).count(), control.in_flight());
      fail(ExitCode::watchdog, "{}", last_error);
    }
    std::this_thread::sleep_for(kSleep);
  }
  wait_s += std::chrono::duration<double>(Clock::now() - start).count();
}

// A message may be issued, received and released before the sender looks: the replies have room.
SenderNotes::SenderNotes(Transport& control, int to, int tag, int depth)
    : out_(control.open_send(to, EdgeTags::notice + tag, sizeof(EdgeNote), depth + 1)),
      in_(control.open_receive(to, EdgeTags::reply + tag, sizeof(EdgeNote), 2 * depth)) {}

void SenderNotes::issue(size_t bytes) {
  write_note(*out_, {Kind::issued, issued_, bytes});
  ++issued_;
}

void SenderNotes::await_received(int64_t messages, const std::string& what) {
  while (received_ < messages) take(what);
}

void SenderNotes::await_released(int64_t messages, const std::string& what) {
  while (released_ < messages) take(what);
}

void SenderNotes::close() {
  write_note(*out_, {Kind::closed, issued_, 0});
}

void SenderNotes::take(const std::string& what) {
  const EdgeNote note = read_note(*in_, what);
  LT_CHECK(note.kind == Kind::received || note.kind == Kind::released, "a note of kind {}",
           static_cast<int64_t>(note.kind));
  int64_t& count = note.kind == Kind::received ? received_ : released_;
  LT_CHECK(note.message == count && count < issued_, "a reply to message {}, expected {} of {}",
           note.message, count, issued_);
  ++count;
}

ReceiverNotes::ReceiverNotes(Transport& control, int from, int tag, int depth)
    : out_(control.open_send(from, EdgeTags::reply + tag, sizeof(EdgeNote), 2 * depth)),
      in_(control.open_receive(from, EdgeTags::notice + tag, sizeof(EdgeNote), depth + 1)) {}

EdgeNote ReceiverNotes::take(const std::string& what) {
  const EdgeNote note = read_note(*in_, what);
  LT_CHECK((note.kind == Kind::issued || note.kind == Kind::closed) && note.message == issued_,
           "a note of kind {} for message {}, expected message {}", static_cast<int64_t>(note.kind),
           note.message, issued_);
  if (note.kind == Kind::closed)
    closed_ = true;
  else
    ++issued_;
  return note;
}

// A sender that has closed sends nothing: the wait ends by the deadline, or by the job's end with
// the error for which it closed.
EdgeNote ReceiverNotes::next(const std::string& what) {
  EdgeNote note = take(what);
  while (note.kind == Kind::closed) note = take(what);
  return note;
}

void ReceiverNotes::received() {
  write_note(*out_, {Kind::received, received_++, 0});
}

void ReceiverNotes::released() {
  write_note(*out_, {Kind::released, released_++, 0});
}

bool ReceiverNotes::closed() {
  while (!closed_ && in_->arrived()) (void)take("a channel's end");
  return closed_;
}

}  // namespace longtake
