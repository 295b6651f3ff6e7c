#include "tests/support/cuda_shim.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define LT_SHIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LT_SHIM_ASAN 1
#endif
#endif
#ifdef LT_SHIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace longtake::testing {

CudaThread cuda_thread;

namespace {

constexpr size_t kStackBytes = size_t{1} << 17;
constexpr unsigned kWarp = 32;

enum class State { ready, at_barrier, at_warp_op, done };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  void* fake_stack = nullptr;  // of the address sanitizer, while another fiber runs
  State state = State::ready;
  WarpOp op = WarpOp::sync;
  uint32_t mask = 0;
  uint64_t given = 0, taken = 0;
  int source = -1;
};

struct Block {
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  const void* scheduler_stack = nullptr;
  size_t scheduler_bytes = 0;
  void* scheduler_fake_stack = nullptr;
  unsigned current = 0;
  const std::function<void()>* kernel = nullptr;
  std::vector<char> shared;
};

Block* active = nullptr;

// Switches tell the address sanitizer which stack comes next; a fiber that ends passes null.
void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* stack,
                  [[maybe_unused]] size_t bytes) {
#ifdef LT_SHIM_ASAN
  __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#endif
}
void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** stack,
                   [[maybe_unused]] size_t* bytes) {
#ifdef LT_SHIM_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, stack, bytes);
#endif
}

dim3 place(unsigned i, dim3 size) {
  return {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

void resume(Block& block, unsigned i) {
  Fiber& fiber = block.fibers[i];
  block.current = i;
  cuda_thread.thread = place(i, cuda_thread.block_size);
  start_switch(&block.scheduler_fake_stack, fiber.stack.get(), kStackBytes);
  swapcontext(&block.scheduler, &fiber.context);
  finish_switch(block.scheduler_fake_stack, nullptr, nullptr);
}

void wait_in(State state) {
  Block& block = *active;
  Fiber& fiber = block.fibers[block.current];
  fiber.state = state;
  start_switch(&fiber.fake_stack, block.scheduler_stack, block.scheduler_bytes);
  swapcontext(&fiber.context, &block.scheduler);
  finish_switch(fiber.fake_stack, nullptr, nullptr);
}

void fiber_main() {
  Block& block = *active;
  finish_switch(nullptr, &block.scheduler_stack, &block.scheduler_bytes);
  (*block.kernel)();
  Fiber& fiber = block.fibers[block.current];
  fiber.state = State::done;
  start_switch(nullptr, block.scheduler_stack, block.scheduler_bytes);
  setcontext(&block.scheduler);
}

void prepare(Fiber& fiber) {
  if (!fiber.stack) fiber.stack = std::make_unique<char[]>(kStackBytes);
  fiber.state = State::ready;
  fiber.fake_stack = nullptr;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
}

// Lets go the lanes of one warp function that have all come to it.
bool release_warp(Block& block, unsigned first, const Fiber& asking) {
  uint32_t ballot = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((asking.mask >> lane & 1u) == 0) continue;
    if (first + lane >= block.fibers.size()) return false;
    const Fiber& other = block.fibers[first + lane];
    if (other.state != State::at_warp_op || other.op != asking.op || other.mask != asking.mask)
      return false;
    if (other.given != 0) ballot |= 1u << lane;
  }
  const uint32_t mask = asking.mask;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    Fiber& fiber = block.fibers[first + lane];
    // A lane that takes part in nothing has nothing to give: its value is undefined on a GPU.
    const bool given = fiber.source >= 0 && (mask >> fiber.source & 1u) != 0;
    fiber.taken = fiber.op == WarpOp::ballot ? ballot
                  : given ? block.fibers[first + static_cast<unsigned>(fiber.source)].given
                          : 0xbadbadbadbadbad0u;
    fiber.state = State::ready;
  }
  return true;
}

bool release_barrier(Block& block) {
  for (const Fiber& fiber : block.fibers)
    if (fiber.state != State::at_barrier) return false;
  for (Fiber& fiber : block.fibers) fiber.state = State::ready;
  return true;
}

std::string text(dim3 d) {
  return fmt::format("({}, {}, {})", d.x, d.y, d.z);
}

[[noreturn]] void stuck(const Block& block) {
  const auto name = [](const Fiber& f) {
    return f.state == State::done         ? "has ended"
           : f.state == State::at_barrier ? "waits at a barrier of the block"
                                          : "waits for lanes of its warp";
  };
  size_t waiting = 0;
  while (block.fibers[waiting].state == State::done) ++waiting;
  // First among the lanes that it waits for.
  const Fiber& asking = block.fibers[waiting];
  size_t other = asking.state == State::at_warp_op ? waiting / kWarp * kWarp : 0;
  while (other < block.fibers.size() && block.fibers[other].state == asking.state) ++other;
  if (other == block.fibers.size()) other = waiting;
  fail(ExitCode::error,
       "CUDA kernel: block {}: threads wait for each other: thread {} {}, thread {} {}",
       text(cuda_thread.block), text(place(static_cast<unsigned>(waiting), cuda_thread.block_size)),
       name(block.fibers[waiting]),
       text(place(static_cast<unsigned>(other), cuda_thread.block_size)),
       name(block.fibers[other]));
}

void run_block(Block& block) {
  for (Fiber& fiber : block.fibers) prepare(fiber);
  std::fill(block.shared.begin(), block.shared.end(), static_cast<char>(0xff));
  while (true) {
    bool ran = false, all_done = true;
    for (unsigned i = 0; i < block.fibers.size(); ++i) {
      if (block.fibers[i].state == State::ready) {
        resume(block, i);
        ran = true;
      }
      all_done = all_done && block.fibers[i].state == State::done;
    }
    if (all_done) return;
    for (unsigned i = 0; i < block.fibers.size(); ++i)
      if (block.fibers[i].state == State::at_warp_op &&
          release_warp(block, i / kWarp * kWarp, block.fibers[i]))
        ran = true;
    if (release_barrier(block)) ran = true;
    if (!ran) stuck(block);
  }
}

}  // namespace

void block_barrier() {
  wait_in(State::at_barrier);
}

uint64_t warp_exchange(WarpOp op, uint32_t mask, uint64_t value, int source) {
  const unsigned current = active->current;
  Fiber& fiber = active->fibers[current];
  fiber.op = op;
  fiber.mask = mask;
  fiber.given = value;
  fiber.source = source;
  wait_in(State::at_warp_op);
  return active->fibers[current].taken;
}

void* dynamic_shared_memory() {
  const auto at = reinterpret_cast<uintptr_t>(active->shared.data());
  return reinterpret_cast<void*>((at + 127) / 128 * 128);
}

int lane_of_thread() {
  return static_cast<int>(active->current % kWarp);
}

void run_on_host(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  static Block state;  // its stacks are used again
  const size_t threads = size_t{block.x} * block.y * block.z;
  LT_CHECK(threads >= 1 && threads <= 1024, "a block of {} threads", threads);
  state.fibers.resize(threads);
  state.shared.resize(shared_bytes + 128);
  state.kernel = &kernel;
  active = &state;
  cuda_thread.block_size = block;
  cuda_thread.grid_size = grid;
  for (unsigned i = 0; i < grid.x * grid.y * grid.z; ++i) {
    cuda_thread.block = place(i, grid);
    run_block(state);
  }
}

}  // namespace longtake::testing
