// Channels between two ranks: threads of this process (loopback) and, under mpirun, ranks 0 and 1
// (mpi). Time: one way of a message that goes there and back, copied into the channel's buffer and
// out of it as the executor does. Rate: messages one after the other in one direction.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "launch/bench/bench.h"
#include "parallel/comm/comm.h"
#include "parallel/comm/loopback_channel.h"

namespace longtake {

namespace {

constexpr int64_t kKilobyte = 1024, kMegabyte = 1024 * kKilobyte;
constexpr int64_t kSizes[] = {8,
                              64,
                              512,
                              4 * kKilobyte,
                              32 * kKilobyte,
                              256 * kKilobyte,
                              2 * kMegabyte,
                              16 * kMegabyte,
                              64 * kMegabyte};
constexpr int kDepth = 2;
constexpr int64_t kBytesPerRepeat = int64_t{8} << 20;
constexpr int64_t kLeastMessages = 2, kMostMessages = 1000;
constexpr int kTag = 1;  // and one more for each size and direction

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One end of a pair of channels, rank 0 or 1.
class End {
 public:
  End(Transport& transport, int64_t bytes, int tag)
      : bytes_(static_cast<size_t>(bytes)), own_(bytes_) {
    const int me = transport.rank(), peer = 1 - me;
    send_ = transport.open_send(peer, tag + me, bytes_, kDepth);
    receive_ = transport.open_receive(peer, tag + peer, bytes_, kDepth);
    std::memset(own_.data(), me, bytes_);
  }

  void send() {
    std::memcpy(send_->acquire("bench channel"), own_.data(), bytes_);
    send_->send(bytes_);
  }
  void receive() {
    std::memcpy(own_.data(), receive_->receive(bytes_, "bench channel"), bytes_);
    receive_->release();
  }
  void flush() { send_->flush("bench channel"); }

 private:
  size_t bytes_;
  Buffer own_;
  std::unique_ptr<SendChannel> send_;
  std::unique_ptr<ReceiveChannel> receive_;
};

struct Sample {
  std::vector<double> one_way, stream;  // seconds of a message
};

// Both ranks run this; the first one's times count.
Sample measure(Transport& transport, int64_t bytes, int tag, int64_t messages, int repeat) {
  End end(transport, bytes, tag);
  const bool first = transport.rank() == 0;
  Sample sample;
  for (int r = -1; r < repeat; ++r) {  // the first round warms up
    const double begin = now();
    for (int64_t i = 0; i < messages; ++i) {
      if (first) end.send();
      end.receive();
      if (!first) end.send();
    }
    const double there = now();
    for (int64_t i = 0; i < messages; ++i) first ? end.send() : end.receive();
    first ? end.receive() : end.send();  // all have arrived
    const auto n = static_cast<double>(messages);
    if (r < 0) continue;
    sample.one_way.push_back((there - begin) / (2 * n));
    sample.stream.push_back((now() - there) / (n + 1));
  }
  end.flush();
  std::sort(sample.one_way.begin(), sample.one_way.end());
  std::sort(sample.stream.begin(), sample.stream.end());
  return sample;
}

template <class Measure>
void add_rows(BenchReport* report, const char* channel, int repeat, Measure measure_size) {
  int tag = kTag;
  for (const int64_t bytes : kSizes) {
    const int64_t messages = std::clamp(kBytesPerRepeat / bytes, kLeastMessages, kMostMessages);
    const Sample s = measure_size(bytes, tag, messages);
    tag += 2;
    if (!report) continue;
    const size_t middle = static_cast<size_t>(repeat) / 2;
    BenchRow row;
    row.time = {s.one_way.front(), s.one_way[middle], s.one_way.back(), 0, 0};
    row.labels = {{"channel", std::string(channel)},
                  {"bytes", bytes},
                  {"messages", messages},
                  {"one way us", 1e6 * row.time.median_s}};
    row.rate = static_cast<double>(bytes) / s.stream[middle] * 1e-9;
    row.unit = "GB/s";
    report->add(std::move(row));
  }
}

// Both ends as threads; the peer's failure ends the wait of this one.
Sample measure_loopback(int64_t bytes, int tag, int64_t messages, int repeat) {
  LoopbackJob job(2, {});
  std::exception_ptr failure;
  std::thread peer([&] {
    try {
      const auto transport = job.transport(1);
      measure(*transport, bytes, tag, messages, repeat);
    } catch (const std::exception& e) {
      failure = std::current_exception();
      job.abort(e.what());
    }
  });
  Sample sample;
  std::exception_ptr mine;
  try {
    const auto transport = job.transport(0);
    sample = measure(*transport, bytes, tag, messages, repeat);
  } catch (const std::exception& e) {
    mine = std::current_exception();
    job.abort(e.what());
  }
  peer.join();
  if (failure) std::rethrow_exception(failure);
  if (mine) std::rethrow_exception(mine);
  return sample;
}

// True on the rank that goes on.
bool add_mpi_rows(const BenchSetup& setup, std::optional<BenchReport>& report) {
  const std::unique_ptr<Comm> comm = make_comm(true, {});
  try {
    if (comm->ranks() == 1) return true;
    if (comm->rank() == 0) report.emplace("channel", setup);
    const auto transport = comm->transport({});
    if (comm->rank() < 2)
      add_rows(report ? &*report : nullptr, "mpi", setup.repeat,
               [&](int64_t bytes, int tag, int64_t messages) {
                 return measure(*transport, bytes, tag, messages, setup.repeat);
               });
    comm->barrier("ranks 0 and 1 to have measured their channel");
  } catch (const Error& e) {
    fmt::print(stderr, "longtake: {}\n", e.what());
    comm->abort(static_cast<int>(e.code()));
  }
  return comm->rank() == 0;
}

}  // namespace

void bench_channel(const BenchSetup& setup) {
  std::optional<BenchReport> report;
  // MPI first and then gone, so that its other ranks do not disturb the threads.
  if (setup.mpi && !add_mpi_rows(setup, report)) return;
  if (!report) report.emplace("channel", setup);
  add_rows(&*report, "loopback", setup.repeat, [&](int64_t bytes, int tag, int64_t messages) {
    return measure_loopback(bytes, tag, messages, setup.repeat);
  });
  report->close();
}

}  // namespace longtake
