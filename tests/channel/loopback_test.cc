// The channels' contract with ranks as threads.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/loopback_channel.h"
#include "tests/channel/contract.h"

namespace longtake::testing {

namespace {

constexpr auto kDeadline = std::chrono::milliseconds(300);

template <class Result>
std::vector<Result> on_all_ranks(int ranks, LoopbackJob::Delay delay,
                                 const std::function<Result(Transport&)>& work) {
  LoopbackJob job(ranks, {kDeadline}, std::move(delay));
  std::vector<Result> out(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      const auto transport = job.transport(rank);
      out[static_cast<size_t>(rank)] = work(*transport);
    });
  for (std::thread& thread : threads) thread.join();
  return out;
}

}  // namespace

TEST_CASE("loopback: messages arrive whole and in order, also when held back") {
  const auto delay = [](int, int, int, int64_t index) {
    return std::chrono::microseconds(index % 5 * 100);
  };
  for (const int ranks : {2, 3, 5})
    for (const LoopbackJob::Delay& held : {LoopbackJob::Delay{}, LoopbackJob::Delay{delay}})
      for (const int wrong : on_all_ranks<int>(
               ranks, held, [](Transport& transport) { return wrong_messages_in_ring(transport); }))
        CHECK(wrong == 0);
}

TEST_CASE("loopback: a message of another size is refused with both sizes") {
  const auto errors = on_all_ranks<std::string>(2, {}, wrong_size_error);
  CHECK(errors[1].find("recv of a test: expected 6 bytes from rank 0, found 5") !=
        std::string::npos);
}

TEST_CASE("loopback: a missed deadline says what every rank is doing") {
  const auto errors = on_all_ranks<std::string>(
      3, {}, [](Transport& transport) { return missed_deadline_error(transport, 0.6); });
  CHECK(errors[0].find("recv of a test: nothing from rank 1 in 0.3 s") != std::string::npos);
  CHECK(errors[0].find("in flight: rank 0: work of rank 0; rank 1: work of rank 1; rank 2: work "
                       "of rank 2") != std::string::npos);
}

}  // namespace longtake::testing
