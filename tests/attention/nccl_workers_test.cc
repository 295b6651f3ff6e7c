// Payloads from GPU to GPU, on machines with two of them: label gpu. With NCCL faked, on any
// machine: tests/channel_gpu/nccl_pair_test.cc.
#include <doctest/doctest.h>

#include <future>
#include <thread>

#include "kernels/cuda/stream.h"
#include "parallel/attention/nccl_pair.h"
#include "tests/attention/raw_worker.h"
#include "tests/attention/worker_fixture.h"
#include "tests/support/expect_error.h"

namespace longtake::testing {

TEST_CASE("a rank without NCCL tells a worker on a GPU so, and goes on") {
  const WorkerToken token = random_token();
  PairListener door(token, kNumerics, kTerms, false);
  WorkerHello on_gpu = hello();
  on_gpu.gpu = 5;
  auto worker =
      std::async(std::launch::async, [&] { return RawWorker(door.port(), token, {}, on_gpu); });
  const auto joined = wait_joined(door);
  REQUIRE(joined);
  CHECK(joined->hello.gpu == 5);
  CHECK(joined->link->device() == Device{});
  const RawWorker raw = worker.get();
  joined->link->post(Goodbye{});
  flush(*joined->link);

  const std::optional<Frame> first = read_frame(raw.control);
  REQUIRE(first);
  const PairMessage message = decode_message(*first, kTerms, PairEnd::worker);
  CHECK(!std::get<NcclOffer>(message).possible);
  CHECK(error_of([&] { (void)decode_message(*first, kTerms, PairEnd::rank); }).code() ==
        ExitCode::bad_data);
}

TEST_CASE(
    "a rank and a worker on two GPUs: the bits of the rank alone, without a copy on the host") {
  if (!tests_on_gpu() || cuda::devices().size() < 2 || nccl_gpu_number(0) == 0) {
    MESSAGE("not run: it needs two GPUs and NCCL");
    return;
  }
  const WorkerToken token = random_token();
  DispatchRules rules;
  rules.least_work = 0;
  rules.weigh = false;
  AttentionDispatcher dispatcher(
      rules, std::make_unique<PairListener>(token, kNumerics, large_terms(), true, DoorReach::host,
                                            std::optional<int>(0)));
  std::atomic<bool> stop{false};
  std::thread worker([&, port = dispatcher.port()] {
    ThreadPool pool(1);
    cuda::Stream gpu(1);
    gpu.make_current();
    WorkerHello told = hello();
    told.gpu = nccl_gpu_number(1);
    std::vector<std::unique_ptr<PairLink>> links;
    links.push_back(connect_pair({0, "127.0.0.1", port}, token, told, 20s, 1));
    CHECK(links[0]->device() == Device{DeviceType::cuda, 1});
    (void)run_worker(std::move(links), {}, stop, StreamRef(gpu, pool));
  });
  REQUIRE(dispatcher.workers(1, 30) == 1);
  const StreamRef stream = test_stream();
  for (const DType dtype : {DType::f32, DType::bf16})
    for (uint64_t i = 0; i < 200; ++i) {
      AttentionCase one(dtype, 512 + 128 * static_cast<int64_t>(i % 5), 3, 64, {300, 640}, i % 7);
      StartedAttention begun(dispatcher, one.args(), {}, stream);
      std::this_thread::sleep_for(1ms);
      begun.finish(stream);
      CHECK(one.right());
    }
  CHECK(dispatcher.report().pieces_away > 0);
  dispatcher.close();
  stop = true;
  worker.join();
}

}  // namespace longtake::testing
