#include "runtime/stream/commit_log.h"

#include <zlib.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/base/error.h"
#include "runtime/stream/sha256.h"

namespace longtake {

namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kCrcDigits = 8;
constexpr int64_t kMostFrames = int64_t{1} << 32;

std::string crc_text(std::string_view body) {
  const uLong crc = crc32(crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(body.data()),
                          static_cast<uInt>(body.size()));
  return fmt::format("{:08x}", crc);
}

Json json_of(const CommittedState& state) {
  Json files = Json::array();
  for (const StateFile& f : state.files)
    files.push_back({{"file", f.file}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  return {{"sweep", state.sweep}, {"files", files}};
}

Json json_of(const Extension& e) {
  Json prompts = Json::array();
  for (const PromptAt& p : e.prompts) prompts.push_back({{"frame", p.frame}, {"text", p.text}});
  return {{"first_block", e.first_block},
          {"finished_frames", e.finished_frames},
          {"frames", e.frames},
          {"video_frames", e.video_frames},
          {"prompts", prompts},
          {"fingerprint", e.fingerprint},
          {"configuration", e.configuration}};
}

std::string body_of(const CommitRecord& record) {
  Json blocks = Json::array();
  for (const CommittedBlock& b : record.blocks) {
    blocks.push_back({{"i", b.index},
                      {"first_frame", b.first_frame},
                      {"frames", b.frames},
                      {"file", b.file},
                      {"bytes", b.bytes},
                      {"sha256", b.sha256}});
  }
  Json json = {{"seq", record.seq}, {"epoch", record.epoch}};
  if (record.extension) json["extension"] = json_of(*record.extension);
  json["blocks"] = blocks;
  if (record.state) json["state"] = json_of(*record.state);
  json["prev"] = record.prev;
  return json.dump();
}

int64_t integer(const Json& json) {
  if (!json.is_number_integer()) throw std::invalid_argument("a number is not an integer");
  return json.get<int64_t>();
}

CommittedState parse_state(const Json& json) {
  CommittedState state;
  state.sweep = integer(json.at("sweep"));
  for (const Json& f : json.at("files"))
    state.files.push_back({f.at("file").get<std::string>(),
                           static_cast<uint64_t>(integer(f.at("bytes"))),
                           f.at("sha256").get<std::string>()});
  return state;
}

Extension parse_extension(const Json& json) {
  Extension out;
  out.first_block = integer(json.at("first_block"));
  out.finished_frames = integer(json.at("finished_frames"));
  out.frames = integer(json.at("frames"));
  out.video_frames = integer(json.at("video_frames"));
  for (const Json& p : json.at("prompts"))
    out.prompts.push_back({integer(p.at("frame")), p.at("text").get<std::string>()});
  out.fingerprint = json.at("fingerprint").get<std::string>();
  out.configuration = json.at("configuration").get<std::string>();
  return out;
}

CommitRecord parse_body(std::string_view body) {
  const Json json = Json::parse(body);
  CommitRecord record;
  record.seq = integer(json.at("seq"));
  record.epoch = integer(json.at("epoch"));
  record.prev = json.at("prev").get<std::string>();
  for (const Json& b : json.at("blocks")) {
    record.blocks.push_back({integer(b.at("i")), integer(b.at("first_frame")),
                             integer(b.at("frames")), b.at("file").get<std::string>(),
                             static_cast<uint64_t>(integer(b.at("bytes"))),
                             b.at("sha256").get<std::string>()});
  }
  if (json.contains("state")) record.state = parse_state(json.at("state"));
  if (json.contains("extension")) record.extension = parse_extension(json.at("extension"));
  return record;
}

// File names are made, never taken: a log cannot lead out of its run.
std::string check_state(const CommitRecord& record) {
  const CommittedState& state = *record.state;
  if (state.sweep < 1 || state.files.empty())
    return fmt::format("a state before sweep {} in {} files", state.sweep, state.files.size());
  for (size_t rank = 0; rank < state.files.size(); ++rank) {
    const std::string expected =
        state_file_name(record.epoch, state.sweep, static_cast<int64_t>(rank));
    if (state.files[rank].file != expected)
      return fmt::format("expected state file {}, found {}", expected, state.files[rank].file);
  }
  return "";
}

// It begins where the log stands; whether the run was finished there, the reader knows.
std::string check_extension(const Extension& e, int64_t blocks, int64_t frames) {
  if (blocks == 0 || e.first_block != blocks || e.finished_frames != frames)
    return fmt::format(
        "extension: it begins after {} blocks of {} latent frames, expected {} of {}",
        e.first_block, e.finished_frames, blocks, frames);
  if (e.frames <= frames || e.frames > kMostFrames || e.video_frames < 1)
    return fmt::format("extension: {} latent frames of {} video frames after {} latent frames",
                       e.frames, e.video_frames, frames);
  return "";
}

// Continues what stands before? Empty, or what does not.
std::string check_chain(const CommitLog& log, const CommitRecord& record) {
  const int64_t seq = static_cast<int64_t>(log.records.size()) + 1;
  if (record.seq != seq) return fmt::format("expected seq {}, found {}", seq, record.seq);
  if (!log.records.empty() && record.epoch < log.records.back().epoch) {
    return fmt::format("epoch {} after epoch {}", record.epoch, log.records.back().epoch);
  }
  if (record.prev != log.head) {
    return seq == 1 ? "it was written for another RUN.json" : "it does not follow the line before";
  }
  int64_t index = static_cast<int64_t>(log.blocks.size());
  int64_t frame = log.blocks.empty() ? 0 : log.blocks.back().first_frame + log.blocks.back().frames;
  if (record.extension) {
    const std::string problem = check_extension(*record.extension, index, frame);
    if (!problem.empty()) return problem;
  }
  for (const CommittedBlock& b : record.blocks) {
    if (b.index != index || b.file != block_file_name(index)) {
      return fmt::format("expected block {}, found block {} in `{}`", index, b.index, b.file);
    }
    if (b.first_frame != frame || b.frames < 1 || b.frames > INT32_MAX) {
      return fmt::format("block {} covers {} frames from {}, expected a start at {}", index,
                         b.frames, b.first_frame, frame);
    }
    ++index;
    frame += b.frames;
  }
  if (record.epoch < 1 && record.state) return fmt::format("a state of epoch {}", record.epoch);
  return record.state ? check_state(record) : "";
}

// A line without its newline. The body must be what this program would write, letter by letter.
std::string parse_line(std::string_view line, const CommitLog& log, CommitRecord& record) {
  if (line.size() < kCrcDigits + 2) return "it is too short";
  const std::string_view body = line.substr(0, line.size() - kCrcDigits - 1);
  const std::string expected = crc_text(body);
  if (line.substr(body.size()) != " " + expected) {
    return fmt::format("its checksum should be {}, found `{}`", expected,
                       line.substr(line.size() - kCrcDigits));
  }
  try {
    record = parse_body(body);
    if (body_of(record) != body) return "it is not in canonical form";
  } catch (const std::exception& e) {
    return e.what();
  }
  return check_chain(log, record);
}

}  // namespace

void extend(RunIdentity& identity, const Extension& e) {
  identity.frames = e.frames;
  identity.video_frames = e.video_frames;
  identity.prompts = e.prompts;
  identity.fingerprint = e.fingerprint;
  identity.configuration = e.configuration;
}

Extension extension_to(const RunIdentity& id, int64_t first_block, int64_t finished_frames) {
  return {first_block, finished_frames, id.frames,       id.video_frames,
          id.prompts,  id.fingerprint,  id.configuration};
}

std::string block_file_name(int64_t index) {
  return fmt::format("out/b{:08d}.h5", index);
}

std::string state_file_name(int64_t epoch, int64_t sweep, int64_t rank) {
  return fmt::format("state/e{:04d}.s{:08d}.r{:04d}.h5", epoch, sweep, rank);
}

std::string commit_line(const CommitRecord& record) {
  const std::string body = body_of(record);
  return body + " " + crc_text(body) + "\n";
}

CommitLog parse_commit_log(std::string_view text, const std::string& anchor) {
  CommitLog log;
  log.head = anchor;
  while (log.valid_bytes < text.size()) {
    const std::string_view rest = text.substr(log.valid_bytes);
    const size_t end = rest.find('\n');
    CommitRecord record;
    log.newline = end != std::string_view::npos;
    log.problem = log.newline ? parse_line(rest.substr(0, end), log, record) : "it has no end";
    if (!log.problem.empty()) {
      log.problem = fmt::format("line {} does not hold: {}", log.records.size() + 1, log.problem);
      log.torn = !log.newline || end + 1 == rest.size();
      return log;
    }
    log.head = sha256_hex(rest.substr(0, end));
    log.blocks.insert(log.blocks.end(), record.blocks.begin(), record.blocks.end());
    if (record.extension) {
      log.extensions.push_back(*record.extension);
      log.states.clear();
    }
    if (record.state) log.states.push_back(*record.state);
    log.records.push_back(std::move(record));
    log.valid_bytes += end + 1;
  }
  return log;
}

}  // namespace longtake
