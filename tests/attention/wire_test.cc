// Frames and messages as bytes: what is sent comes back, anything else is refused by name.
#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "parallel/attention/wire.h"
#include "tests/attention/door.h"
#include "tests/support/expect_error.h"

namespace longtake {

using namespace testing;

namespace {

// Where each field of a task's body lies, from the frame's start.
constexpr size_t kBody = kFrameHeaderBytes;
constexpr size_t kSlotAt = kBody + 12, kFlagsAt = kBody + 14, kDtypeAt = kBody + 15;
constexpr size_t kStatusAt = kBody + 14, kTaskBytes = 92;

Bytes encoded(const PairMessage& message) {
  Bytes out;
  append_message(out, message, kTerms);
  return out;
}

PairMessage decoded(BytesView bytes, PairEnd at) {
  FrameReader reader;
  reader.add(bytes);
  const std::optional<Frame> frame = reader.next();
  REQUIRE(frame);
  REQUIRE(reader.partial_bytes() == 0);
  return decode_message(*frame, kTerms, at);
}

// Spoils one byte of an encoded message: the receiver's checks, not the sender's.
Error spoilt(PairMessage message, PairEnd at, size_t where, uint8_t value) {
  Bytes bytes = encoded(message);
  REQUIRE(where < bytes.size());
  bytes[where] = std::byte{value};
  return error_of([&] { (void)decoded(bytes, at); });
}

Error bad_task(const std::function<void(AttentionTask&)>& spoil) {
  AttentionTask task = small_task();
  spoil(task);
  const Error error = error_of([&] { (void)encoded(task); });
  CHECK(error.code() == ExitCode::bad_data);
  return error;
}

Error bad_answer(const std::function<void(AttentionAnswer&)>& spoil) {
  AttentionAnswer answer = answer_to(small_task());
  spoil(answer);
  const Error error = error_of([&] { (void)encoded(answer); });
  CHECK(error.code() == ExitCode::bad_data);
  return error;
}

Bytes header(uint32_t magic, uint16_t version, uint16_t type, uint32_t length) {
  BodyWriter out;
  out.put(magic);
  out.put(version);
  out.put(type);
  out.put(length);
  return out.bytes();
}

Error frame_error(const Bytes& bytes) {
  FrameReader reader;
  reader.add(bytes);
  return error_of([&] { (void)reader.next(); });
}

}  // namespace

TEST_CASE("payload and answer bytes, counted by hand") {
  AttentionTask task = small_task();

  // bf16: q 5 x 2 x 4, k and v of 3 + 2 rows (the 9 are resident); out 5 x 2 x 4, lse f32 2 x 5.
  CHECK(task.payload_bytes() == (5 + 2 * 5) * 2 * 4 * 2);
  CHECK(task.answer_bytes() == 5 * 2 * 4 * 2 + 2 * 5 * 4);
  task.want_lse = false;
  task.dtype = DType::f32;
  CHECK(task.payload_bytes() == (5 + 2 * 5) * 2 * 4 * 4);
  CHECK(task.answer_bytes() == 5 * 2 * 4 * 4);
}

TEST_CASE("sizes beyond 64 bits are errors and do not wrap") {
  AttentionTask task = small_task(31);
  task.queries = ~0u;
  task.heads = task.head_dim = 0xffff;
  task.dtype = DType::f32;

  CHECK(mentions(error_of([&] { (void)task.payload_bytes(); }),
                 "attention task 31: its payload has more than 2^64 bytes"));
  CHECK(mentions(error_of([&] { (void)task.answer_bytes(); }), "attention task 31"));
}

TEST_CASE("the checksum is XXH3") {
  const std::string text = "longtake";

  CHECK(payload_checksum(nullptr, 0) == 0x2d06800538d394c2ull);  // of the published test vectors
  CHECK(payload_checksum(text.data(), 8) != payload_checksum(text.data(), 7));
}

TEST_CASE("every message comes back, and a task's descriptor has at most 128 bytes") {
  AttentionTask task = small_task(~0ull, 1);
  task.block = -1;
  task.checksum = 0x0123456789abcdefull;
  const AttentionAnswer busy{.id = 5, .epoch = 7, .slot = 1, .status = AnswerStatus::busy};
  const std::pair<PairMessage, PairEnd> messages[] = {
      {task, PairEnd::worker},       {answer_to(task), PairEnd::rank},  {busy, PairEnd::rank},
      {Heartbeat{3}, PairEnd::rank}, {Heartbeat{~0u}, PairEnd::worker}, {Goodbye{}, PairEnd::rank},
  };
  for (const auto& [message, at] : messages) {
    const Bytes bytes = encoded(message);

    const PairMessage back = decoded(bytes, at);

    CHECK(back.index() == message.index());
    CHECK(encoded(back) == bytes);
  }
  CHECK(encoded(task).size() == kFrameHeaderBytes + kTaskBytes);
  CHECK(encoded(task).size() <= 128);
  const auto back = std::get<AttentionTask>(decoded(encoded(task), PairEnd::worker));
  CHECK(back.block == -1);
  CHECK(back.id == ~0ull);
  CHECK(back.checksum == task.checksum);
  CHECK(std::get<AttentionAnswer>(decoded(encoded(busy), PairEnd::rank)).status ==
        AnswerStatus::busy);
}

TEST_CASE("each field of a task is checked, and named with what was expected and found") {
  using Task = AttentionTask;
  CHECK(mentions(bad_task([](Task& t) { t.slot = 2; }), "task 11: slot: expected 0 to 1, found 2"));
  CHECK(mentions(bad_task([](Task& t) { t.dtype = DType::f16; }),
                 "task 11: dtype: expected f32 or bf16, found 2"));
  CHECK(mentions(bad_task([](Task& t) { t.heads = 0; }), "heads: expected 1 to 65532, found 0"));
  CHECK(mentions(bad_task([](Task& t) { t.first_head = 65534; }), "heads: expected 1 to 1"));
  CHECK(mentions(bad_task([](Task& t) { t.head_dim = 0; }), "head_dim: expected 1 to 4096"));
  CHECK(mentions(bad_task([](Task& t) { t.head_dim = 4097; }), "4096, found 4097"));
  CHECK(mentions(bad_task([](Task& t) { t.queries = 0; }), "queries: expected 1 to"));
  CHECK(mentions(bad_task([](Task& t) { t.first_query = ~0u - 4; }), "queries: expected 1 to 4"));
  for (const float scale :
       {0.f, -1.f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    CHECK(mentions(bad_task([&](Task& t) { t.scale = scale; }), "scale: expected a number above"));
  CHECK(mentions(bad_task([](Task& t) { t.segment_count = 4; }),
                 "segment_count: expected 1 to 3, found 4"));
  CHECK(mentions(bad_task([](Task& t) { t.segment_count = 0; }), "segment_count: expected 1"));
  CHECK(mentions(bad_task([](Task& t) { t.segment_count = 2; }),
                 "segment 2 of 2: expected 0 rows, found 2 rows, number 0, resident false"));
  CHECK(mentions(bad_task([](Task& t) { t.segments[1].number = 0; }),
                 "segment 1: resident: expected a number, found 0"));
  CHECK(mentions(bad_task([](Task& t) { t.segments = {}; }), "segments: expected keys"));
  CHECK(mentions(bad_task([](Task& t) { t.segments[0].rows = 5000; }),
                 "payload: expected at most 40000 bytes, found"));
  CHECK(mentions(bad_task([](Task& t) { t.queries = 700; }),
                 "answer to task 11: payload: expected at most 10000 bytes, found"));
  CHECK(mentions(bad_task([](Task& t) {
                   t.queries = ~0u - 128;
                   t.heads = 65532;
                   t.head_dim = 4096;
                 }),
                 "expected at most 40000 bytes, found"));
}

TEST_CASE("each field of an answer is checked") {
  using Answer = AttentionAnswer;
  CHECK(mentions(bad_answer([](Answer& a) { a.slot = 9; }), "answer 11: slot: expected 0 to 1"));
  CHECK(mentions(bad_answer([](Answer& a) { a.status = static_cast<AnswerStatus>(5); }),
                 "status: expected 0 to 4, found 5"));
  CHECK(mentions(bad_answer([](Answer& a) { a.payload_bytes = 10001; }),
                 "payload: expected at most 10000 bytes, found 10001"));
  CHECK(mentions(bad_answer([](Answer& a) { a.payload_bytes = 0; }), "expected some bytes"));
  CHECK(mentions(bad_answer([](Answer& a) { a.status = AnswerStatus::busy; }),
                 "payload: expected at most 0 bytes"));
  CHECK(mentions(bad_answer([](Answer& a) { a.queue_s = -1; }), "queue_s: expected a time"));
  CHECK(
      mentions(bad_answer([](Answer& a) { a.kernel_s = std::numeric_limits<float>::quiet_NaN(); }),
               "kernel_s: expected a time"));
  CHECK(mentions(bad_answer([](Answer& a) { a.kernel_s = std::numeric_limits<float>::infinity(); }),
                 "kernel_s"));
}

TEST_CASE("the receiver checks what the sender did not") {
  const AttentionTask task = small_task();
  CHECK(mentions(spoilt(task, PairEnd::worker, kSlotAt, 2), "task 11: slot: expected 0 to 1"));
  CHECK(mentions(spoilt(task, PairEnd::worker, kFlagsAt, 32), "flags: expected 0 to 31, found 32"));
  CHECK(mentions(spoilt(task, PairEnd::worker, kDtypeAt, 200), "dtype: expected f32 or bf16"));
  CHECK(mentions(spoilt(answer_to(task), PairEnd::rank, kStatusAt, 77), "status: expected 0 to 4"));
  CHECK(mentions(spoilt(answer_to(task), PairEnd::rank, kStatusAt + 3, 1),
                 "payload: expected at most"));
  CHECK(mentions(error_of([&] { (void)decoded(encoded(task), PairEnd::rank); }),
                 "expected an answer, a heartbeat or a goodbye, found a frame `task`"));
  CHECK(mentions(error_of([&] { (void)decoded(encoded(answer_to(task)), PairEnd::worker); }),
                 "expected a task, a heartbeat or a goodbye, found a frame `answer`"));
  Bytes opening;
  append_frame(opening, FrameType::opening, {});
  CHECK(mentions(error_of([&] { (void)decoded(opening, PairEnd::rank); }), "found a frame `op"));
}

TEST_CASE("a frame is refused by its header, before its body is there") {
  const auto type = [](FrameType t) { return static_cast<uint16_t>(t); };
  CHECK(mentions(frame_error(header(0x20544547, 1, 1, 0)),
                 "expected magic 0x5741544c, found 0x20544547"));
  CHECK(mentions(frame_error(header(kFrameMagic, 1, type(FrameType::opening), 0)),
                 "protocol version: expected 2, found 1"));
  CHECK(mentions(frame_error(header(kFrameMagic, kProtocolVersion, 99, 0)),
                 "frame type: expected a known one"));
  CHECK(mentions(frame_error(header(kFrameMagic, kProtocolVersion, type(FrameType::opening), 1025)),
                 "opening: expected at most 1024 bytes, found 1025"));
  CHECK(mentions(frame_error(header(kFrameMagic, kProtocolVersion, type(FrameType::task), 117)),
                 "task: expected at most 116 bytes, found 117"));
  CHECK(mentions(frame_error(header(kFrameMagic, kProtocolVersion, type(FrameType::task), ~0u)),
                 "4294967295"));
}

TEST_CASE("bodies that are too short or too long are refused") {
  for (const PairMessage& message : {PairMessage(small_task()), PairMessage(Heartbeat{1})}) {
    const Bytes good = encoded(message);
    const auto body = BytesView(good).subspan(kFrameHeaderBytes);
    FrameReader reader;
    reader.add(good);
    Frame frame = *reader.next();
    for (size_t length = 0; length < body.size(); ++length) {
      frame.body.assign(body.begin(), body.begin() + static_cast<ptrdiff_t>(length));
      CHECK(mentions(error_of([&] { (void)decode_message(frame, kTerms, PairEnd::worker); }),
                     "too short"));
    }
    frame.body.assign(body.begin(), body.end());
    frame.body.push_back(std::byte{0});
    CHECK(mentions(error_of([&] { (void)decode_message(frame, kTerms, PairEnd::worker); }),
                   "expected its end, found 1 more bytes"));
  }
}

TEST_CASE("frames are cut the same way however the bytes come") {
  Bytes stream;
  for (uint32_t i = 0; i < 20; ++i) append_message(stream, Heartbeat{i}, kTerms);
  for (const size_t piece : {size_t{1}, size_t{5}, size_t{16}, size_t{17}, stream.size()}) {
    FrameReader reader;
    uint32_t next = 0;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.add(BytesView(stream).subspan(at, std::min(piece, stream.size() - at)));
      while (const auto frame = reader.next())
        CHECK(std::get<Heartbeat>(decode_message(*frame, kTerms, PairEnd::rank)).queued == next++);
    }
    CHECK(next == 20);
    CHECK(reader.partial_bytes() == 0);
  }
  FrameReader exact;  // never asks for a byte of the next frame
  for (size_t at = 0; at < stream.size();) {
    const size_t wanted = exact.wanted_bytes();
    REQUIRE(wanted > 0);
    exact.add(BytesView(stream).subspan(at, wanted));
    at += wanted;
    if (exact.next()) CHECK(exact.partial_bytes() == 0);
  }
}

TEST_CASE("terms are checked") {
  const auto refused = [](const std::function<void(PairTerms&)>& spoil) {
    PairTerms terms = kTerms;
    spoil(terms);
    return error_of([&] { check_terms(terms); });
  };
  CHECK(mentions(refused([](PairTerms& t) { t.slots = 0; }), "slots: expected 1 to 256, found 0"));
  CHECK(mentions(refused([](PairTerms& t) { t.slots = 257; }), "slots: expected 1 to 256"));
  CHECK(mentions(refused([](PairTerms& t) { t.task_bytes = 0; }), "task_bytes: expected 1 to"));
  CHECK(mentions(refused([](PairTerms& t) { t.answer_bytes = ~0ull; }), "answer_bytes: expected"));
}

}  // namespace longtake
