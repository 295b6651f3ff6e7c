#include "parallel/attention/wire.h"

#include <cmath>
#include <limits>

#include "kernels/base/error.h"

namespace longtake {

namespace {

template <class T>
void check_range(std::string_view what, uint64_t id, std::string_view field, T value, T least,
                 T most) {
  if (value < least || value > most)
    fail(ExitCode::bad_data, "{} {}: {}: expected {} to {}, found {}", what, id, field, least, most,
         value);
}

void check_slot(std::string_view what, uint64_t id, uint16_t slot, const PairTerms& terms) {
  check_range<int>(what, id, "slot", slot, 0, terms.slots - 1);
}

void check_fits(std::string_view what, uint64_t id, uint64_t bytes, uint64_t most) {
  if (bytes > most)
    fail(ExitCode::bad_data, "{} {}: payload: expected at most {} bytes, found {}", what, id, most,
         bytes);
}

void check_segments(const AttentionTask& task) {
  const int most = static_cast<int>(task.segments.size());
  check_range<int>("task", task.id, "segment_count", task.segment_count, 1, most);
  uint64_t rows = 0;
  for (size_t i = 0; i < task.segments.size(); ++i) {
    const TaskSegment& segment = task.segments[i];
    if (i < task.segment_count)
      rows += segment.rows;
    else if (segment.rows != 0 || segment.number != 0 || segment.resident)
      fail(ExitCode::bad_data,
           "task {}: segment {} of {}: expected 0 rows, found {} rows, number {}, resident {}",
           task.id, i, task.segment_count, segment.rows, segment.number, segment.resident);
    if (segment.resident && segment.number == 0)
      fail(ExitCode::bad_data, "task {}: segment {}: resident: expected a number, found 0", task.id,
           i);
  }
  if (rows == 0) fail(ExitCode::bad_data, "task {}: segments: expected keys, found none", task.id);
}

void check(const AttentionTask& task, const PairTerms& terms) {
  check_slot("task", task.id, task.slot, terms);
  if (task.dtype != DType::f32 && task.dtype != DType::bf16)
    fail(ExitCode::bad_data, "task {}: dtype: expected f32 or bf16, found {}", task.id,
         static_cast<int>(task.dtype));
  check_range<int>("task", task.id, "heads", task.heads, 1, 0xffff - task.first_head);
  check_range<int>("task", task.id, "head_dim", task.head_dim, 1, kMaxHeadDim);
  check_range<uint32_t>("task", task.id, "queries", task.queries, 1, ~0u - task.first_query);
  if (!std::isfinite(task.scale) || task.scale <= 0)
    fail(ExitCode::bad_data, "task {}: scale: expected a number above 0, found {}", task.id,
         task.scale);
  check_segments(task);
  check_fits("task", task.id, task.payload_bytes(), terms.task_bytes);
  check_fits("answer to task", task.id, task.answer_bytes(), terms.answer_bytes);
}

void check(const AttentionAnswer& answer, const PairTerms& terms) {
  check_slot("answer", answer.id, answer.slot, terms);
  check_range<int>("answer", answer.id, "status", static_cast<int>(answer.status), 0,
                   static_cast<int>(AnswerStatus::failed));
  const bool ok = answer.status == AnswerStatus::ok;
  check_fits("answer", answer.id, answer.payload_bytes, ok ? terms.answer_bytes : 0);
  if (ok && answer.payload_bytes == 0)
    fail(ExitCode::bad_data, "answer {}: payload: expected some bytes, found none", answer.id);
  constexpr float most = std::numeric_limits<float>::max();
  for (const auto& [field, value] :
       {std::pair("queue_s", answer.queue_s), std::pair("kernel_s", answer.kernel_s)})
    if (!(value >= 0 && value <= most))
      fail(ExitCode::bad_data, "answer {}: {}: expected a time, found {}", answer.id, field, value);
}

void check(const Heartbeat&, const PairTerms&) {}
void check(const Goodbye&, const PairTerms&) {}
void check(const NcclOffer&, const PairTerms&) {}
void check(const NcclVerdict&, const PairTerms&) {}

// want_lse, canary, then a bit for each resident segment.
int flags_of(const AttentionTask& task) {
  int flags = int{task.want_lse} | int{task.canary} << 1;
  for (size_t i = 0; i < task.segments.size(); ++i)
    flags |= int{task.segments[i].resident} << (2 + i);
  return flags;
}

FrameType encode(BodyWriter& body, const AttentionTask& task) {
  body.put(task.id);
  body.put(task.epoch);
  body.put(task.slot);
  body.put(static_cast<uint8_t>(flags_of(task)));
  body.put(static_cast<uint8_t>(task.dtype));
  for (const uint16_t field : {task.first_head, task.heads, task.head_dim}) body.put(field);
  body.put(task.first_query);
  body.put(task.queries);
  for (const int32_t field : {task.block, task.step, task.layer}) body.put(field);
  body.put(task.branch);
  body.put(task.segment_count);
  body.put(task.scale);
  for (const TaskSegment& segment : task.segments) {
    body.put(segment.rows);
    body.put(segment.number);
  }
  body.put(task.checksum);
  return FrameType::task;
}

FrameType encode(BodyWriter& body, const AttentionAnswer& answer) {
  body.put(answer.id);
  body.put(answer.epoch);
  body.put(answer.slot);
  body.put(static_cast<uint8_t>(answer.status));
  body.put(answer.payload_bytes);
  body.put(answer.queue_s);
  body.put(answer.kernel_s);
  body.put(answer.checksum);
  return FrameType::answer;
}

FrameType encode(BodyWriter& body, const Heartbeat& heartbeat) {
  body.put(heartbeat.queued);
  body.put(static_cast<uint8_t>(heartbeat.available));
  body.put(heartbeat.keep_bytes);
  return FrameType::heartbeat;
}

FrameType encode(BodyWriter&, const Goodbye&) {
  return FrameType::goodbye;
}

FrameType encode(BodyWriter& body, const NcclOffer& offer) {
  body.put(static_cast<uint8_t>(offer.possible));
  body.put(BytesView(offer.tasks));
  body.put(BytesView(offer.answers));
  return FrameType::nccl_offer;
}

FrameType encode(BodyWriter& body, const NcclVerdict& verdict) {
  body.put(static_cast<uint8_t>(verdict.ready));
  return FrameType::nccl_verdict;
}

bool get_bool(BodyReader& body, std::string_view field) {
  const int value = body.get<uint8_t>();
  if (value > 1) fail(ExitCode::bad_data, "{}: expected 0 or 1, found {}", field, value);
  return value == 1;
}

AttentionTask decode_task(BodyReader& body) {
  AttentionTask task;
  task.id = body.get<uint64_t>();
  task.epoch = body.get<uint32_t>();
  task.slot = body.get<uint16_t>();
  const int flags = body.get<uint8_t>();
  check_range("task", task.id, "flags", flags, 0, (1 << (2 + task.segments.size())) - 1);
  task.want_lse = flags & 1;
  task.canary = flags & 2;
  for (size_t i = 0; i < task.segments.size(); ++i)
    task.segments[i].resident = flags & 1 << (2 + i);
  task.dtype = static_cast<DType>(body.get<uint8_t>());
  for (uint16_t* field : {&task.first_head, &task.heads, &task.head_dim})
    *field = body.get<uint16_t>();
  task.first_query = body.get<uint32_t>();
  task.queries = body.get<uint32_t>();
  for (int32_t* field : {&task.block, &task.step, &task.layer}) *field = body.get<int32_t>();
  task.branch = body.get<uint8_t>();
  task.segment_count = body.get<uint8_t>();
  task.scale = body.get<float>();
  for (TaskSegment& segment : task.segments) {
    segment.rows = body.get<uint32_t>();
    segment.number = body.get<uint64_t>();
  }
  task.checksum = body.get<uint64_t>();
  return task;
}

Heartbeat decode_heartbeat(BodyReader& body) {
  Heartbeat heartbeat;
  heartbeat.queued = body.get<uint32_t>();
  heartbeat.available = get_bool(body, "heartbeat: available");
  heartbeat.keep_bytes = body.get<uint64_t>();
  return heartbeat;
}

AttentionAnswer decode_answer(BodyReader& body) {
  AttentionAnswer answer;
  answer.id = body.get<uint64_t>();
  answer.epoch = body.get<uint32_t>();
  answer.slot = body.get<uint16_t>();
  answer.status = static_cast<AnswerStatus>(body.get<uint8_t>());
  answer.payload_bytes = body.get<uint64_t>();
  answer.queue_s = body.get<float>();
  answer.kernel_s = body.get<float>();
  answer.checksum = body.get<uint64_t>();
  return answer;
}

NcclOffer decode_offer(BodyReader& body) {
  NcclOffer offer;
  offer.possible = get_bool(body, "nccl_offer: possible");
  offer.tasks = body.get_bytes<128>();
  offer.answers = body.get_bytes<128>();
  return offer;
}

PairMessage decode_fields(const Frame& frame, PairEnd at) {
  BodyReader body(frame);
  PairMessage message;
  if (frame.type == FrameType::task && at == PairEnd::worker)
    message = decode_task(body);
  else if (frame.type == FrameType::answer && at == PairEnd::rank)
    message = decode_answer(body);
  else if (frame.type == FrameType::heartbeat)
    message = decode_heartbeat(body);
  else if (frame.type == FrameType::goodbye)
    message = Goodbye{};
  else if (frame.type == FrameType::nccl_offer && at == PairEnd::worker)
    message = decode_offer(body);
  else if (frame.type == FrameType::nccl_verdict)
    message = NcclVerdict{get_bool(body, "nccl_verdict: ready")};
  else
    fail(ExitCode::bad_data, "expected {}, a heartbeat or a goodbye, found a frame `{}`",
         at == PairEnd::rank ? "an answer" : "a task", name(frame.type));
  body.finish();
  return message;
}

}  // namespace

void check_terms(const PairTerms& terms) {
  check_range<int>("terms of epoch", terms.epoch, "slots", terms.slots, 1, kMaxSlots);
  check_range<uint64_t>("terms of epoch", terms.epoch, "task_bytes", terms.task_bytes, 1,
                        kMaxSlotBytes);
  check_range<uint64_t>("terms of epoch", terms.epoch, "answer_bytes", terms.answer_bytes, 1,
                        kMaxSlotBytes);
}

void append_message(Bytes& out, const PairMessage& message, const PairTerms& terms) {
  std::visit(
      [&](const auto& fields) {
        check(fields, terms);
        BodyWriter body;
        const FrameType type = encode(body, fields);
        append_frame(out, type, body.bytes());
      },
      message);
}

PairMessage decode_message(const Frame& frame, const PairTerms& terms, PairEnd at) {
  const PairMessage message = decode_fields(frame, at);
  std::visit([&](const auto& fields) { check(fields, terms); }, message);
  return message;
}

void check_direction(const PairMessage& message, PairEnd sender) {
  LT_CHECK(sender == PairEnd::rank || !std::holds_alternative<AttentionTask>(message),
           "a worker posts no tasks");
  LT_CHECK(sender == PairEnd::worker || !std::holds_alternative<AttentionAnswer>(message),
           "a rank posts no answers");
  LT_CHECK(sender == PairEnd::rank || !std::holds_alternative<NcclOffer>(message),
           "a worker posts no offers");
}

uint64_t payload_bytes(const PairMessage& message) {
  if (const auto* task = std::get_if<AttentionTask>(&message)) return task->payload_bytes();
  if (const auto* answer = std::get_if<AttentionAnswer>(&message)) return answer->payload_bytes;
  return 0;
}

}  // namespace longtake
