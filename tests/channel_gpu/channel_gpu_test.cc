// The contract of the channels between GPUs with ranks as threads, over CUDA and NCCL as they are
// faked here: order of calls, buffers, handshake and ends. tests/gpu/channel_pair.cc has the real
// ones.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/stream.h"
#include "parallel/comm/ipc_channel.h"
#include "parallel/comm/loopback_channel.h"
#include "parallel/comm/nccl_channel.h"
#include "tests/channel/contract.h"
#include "tests/channel_gpu/fakes.h"

namespace longtake::testing {

namespace {

constexpr Deadline kPatient{std::chrono::seconds(60)}, kShort{std::chrono::milliseconds(500)};

using Make = std::unique_ptr<Transport> (*)(std::unique_ptr<Transport>, cuda::Stream&, Deadline);

// Through the rank's stream and then waits, as copy() does to and from the host.
ChannelCopy copy_in(cuda::Stream& stream) {
  return [&stream](const void* from, Device, void* to, Device, size_t bytes) {
    if (bytes == 0) return;
    (void)cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.handle());
    stream.synchronize();
  };
}

template <class Work>
auto on_all_ranks(int ranks, Make make, Deadline deadline, Work work) {
  using Result = decltype(work(std::declval<Transport&>(), ChannelCopy{}));
  LoopbackJob job(ranks, deadline);
  std::vector<Result> out(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      cuda::Stream compute(0);
      const auto transport = make(job.transport(rank), compute, deadline);
      out[static_cast<size_t>(rank)] = work(*transport, copy_in(compute));
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(live_allocations() == 0);
  return out;
}

void check_contract(Make make) {
  for (const int ranks : {2, 3, 4})
    for (const int wrong :
         on_all_ranks(ranks, make, kPatient, [](Transport&transport, const ChannelCopy&copy) {
           return wrong_messages_in_ring(transport, copy);
         }))
      CHECK(wrong == 0);
  for (const int right :
       on_all_ranks(2, make, kPatient, [](Transport&transport, const ChannelCopy&copy) {
         return one_message_arrives(transport, (size_t{40} << 20) + 1, copy) ? 1 : 0;
       }))
    CHECK(right == 1);
  const auto sizes = on_all_ranks(2, make, kPatient, [](Transport& transport, const ChannelCopy&) {
    return wrong_size_error(transport);
  });
  CHECK(sizes[1].find("recv of a test: expected 6 bytes from rank 0, found 5") !=
        std::string::npos);
  const auto late = on_all_ranks(2, make, kShort, [](Transport& transport, const ChannelCopy&) {
    return missed_deadline_error(transport, 0.8);
  });
  CHECK(late[0].find("recv of a test: nothing from rank 1 in 0.5 s") != std::string::npos);
  CHECK(late[0].find("rank 1: work of rank 1") != std::string::npos);
}

// One message lies in the receiver's GPU before anyone asks for it, and the sender may go on.
std::string arrives_while_receiver_works(Transport& transport, const ChannelCopy& copy) {
  const int32_t value = 42;
  if (transport.rank() == 0) {
    const auto out = transport.open_send(1, 1, sizeof value, 2);
    transport.ready();
    copy(&value, {}, out->acquire("a free buffer"), out->device(), sizeof value);
    out->send(sizeof value);
    out->flush("the message");
    return "";
  }
  const auto in = transport.open_receive(0, 1, sizeof value, 2);
  transport.ready();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!in->arrived() && std::chrono::steady_clock::now() < end) transport.progress();
  const std::string seen = in->arrived() ? "arrived" : "never";
  int32_t found = 0;
  copy(in->receive(sizeof found, "the message"), in->device(), &found, {}, sizeof found);
  in->release();
  return found == value ? seen : "another value";
}

// Nobody waits for a stream: messages are written and read long after the calls. How many were
// wrong.
int wrong_without_waiting(Make make, std::chrono::microseconds write,
                          std::chrono::microseconds read) {
  constexpr int kMessages = 40;
  LoopbackJob job(2, kPatient);
  std::vector<int> found(kMessages, -1);
  const auto slowly = [](std::chrono::microseconds time, cuda::Stream& stream, const int* from,
                         int* to) {
    issue(stream.handle(), [=] {
      std::this_thread::sleep_for(time);
      *to = *from;
    });
  };
  std::vector<int> values(kMessages);
  for (int m = 0; m < kMessages; ++m) values[static_cast<size_t>(m)] = m;
  std::thread sender([&] {
    cuda::Stream compute(0);
    const auto transport = make(job.transport(0), compute, kPatient);
    const auto out = transport->open_send(1, 1, sizeof(int), 2);
    transport->ready();
    for (const int& value : values) {
      slowly(write, compute, &value, static_cast<int*>(out->acquire("a free buffer")));
      out->send(sizeof value);
    }
    out->flush("the last messages");
  });
  cuda::Stream compute(0);
  const auto transport = make(job.transport(1), compute, kPatient);
  const auto in = transport->open_receive(0, 1, sizeof(int), 2);
  transport->ready();
  for (int& value : found) {
    const auto* message = static_cast<const int*>(in->receive(sizeof value, "a message"));
    for (int turn = 0; turn < 20; ++turn) {  // the sender may go on, but not into this buffer
      transport->progress();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    slowly(read, compute, message, &value);
    in->release();
  }
  compute.synchronize();
  sender.join();
  int wrong = 0;
  for (int m = 0; m < kMessages; ++m) wrong += found[static_cast<size_t>(m)] != m ? 1 : 0;
  return wrong;
}

void check_order(Make make) {
  using std::chrono::microseconds;
  CHECK(wrong_without_waiting(make, microseconds(3000), microseconds(0)) == 0);
  CHECK(wrong_without_waiting(make, microseconds(0), microseconds(3000)) == 0);
}

// A message that is sent and never received does not keep either end.
int ends_with_a_message_under_way(Transport& transport, const ChannelCopy&) {
  if (transport.rank() == 0) {
    const auto out = transport.open_send(1, 1, 1000, 2);
    transport.ready();
    (void)out->acquire("a free buffer");
    out->send(1000);
    return 1;
  }
  const auto in = transport.open_receive(0, 1, 1000, 2);
  transport.ready();
  return 1;
}

void check_end(Make make) {
  const auto start = std::chrono::steady_clock::now();
  for (const int done : on_all_ranks(2, make, kPatient, ends_with_a_message_under_way))
    CHECK(done == 1);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
}

}  // namespace

TEST_CASE("the end does not wait for messages that are under way") {
  check_end(make_ipc_transport);
  check_end(make_nccl_transport);
}

TEST_CASE("ipc: the contract") {
  check_contract(make_ipc_transport);
  CHECK(on_all_ranks(2, make_ipc_transport, kPatient, arrives_while_receiver_works)[1] ==
        "arrived");
}

TEST_CASE("ipc: buffers are moved and used again in the order of the compute streams") {
  check_order(make_ipc_transport);
}

TEST_CASE("nccl: buffers are moved and used again in the order of the compute streams") {
  check_order(make_nccl_transport);
}

TEST_CASE("nccl: the contract") {
  check_contract(make_nccl_transport);
  CHECK(on_all_ranks(2, make_nccl_transport, kPatient, arrives_while_receiver_works)[1] ==
        "arrived");
}

}  // namespace longtake::testing
