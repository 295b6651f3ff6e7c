// The order of copies and work when features lie in host memory: two queues of which either runs as
// far ahead of the other as what was said about their order allows, on the plans of all rules.
#include "runtime/context/feature_offload.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "parallel/plan/plan.h"

namespace longtake::testing {

namespace {

enum class Pace { copies_first, work_first, random };
enum class LeftOut { nothing, waits_for_work, holds_of_work };

// Operations are kept and done at finish(). One may have to wait for the other queue.
class TwoQueues : public SideCopies {
 public:
  TwoQueues(Pace pace, LeftOut left_out) : pace_(pace), left_out_(left_out) {}

  std::shared_ptr<DeviceMemory> host_memory() override { return nullptr; }
  void copy(const void* from, void* to, size_t bytes) override {
    copies_.list.push_back({[=] { std::memcpy(to, from, bytes); }, 0});
  }
  void work(std::function<void()> run) { work_.list.push_back({std::move(run), 0}); }
  void wait_for_work() override {
    if (left_out_ != LeftOut::waits_for_work) copies_.list.push_back({[] {}, work_.list.size()});
  }
  void mark(int index) override { marks_[index] = copies_.list.size(); }
  void hold_work(int index) override {
    if (left_out_ != LeftOut::holds_of_work) work_.list.push_back({[] {}, marks_.at(index)});
  }
  void finish() override {
    for (;;) {
      const bool work = work_.ready(copies_), copies = copies_.ready(work_);
      if (!work && !copies) break;
      const bool prefer_work =
          pace_ == Pace::work_first || (pace_ == Pace::random && random_() % 2);
      (work && (prefer_work || !copies) ? work_ : copies_).step();
    }
    CHECK(work_.done == work_.list.size());
    CHECK(copies_.done == copies_.list.size());
  }

 private:
  struct Operation {
    std::function<void()> run;
    size_t after;  // operations of the other queue
  };
  struct Queue {
    std::vector<Operation> list;
    size_t done = 0;
    bool ready(const Queue& other) const {
      return done < list.size() && list[done].after <= other.done;
    }
    void step() { list[done++].run(); }
  };
  Pace pace_;
  LeftOut left_out_;
  Queue work_, copies_;
  std::map<int, size_t> marks_;
  std::mt19937 random_{7};
};

// Work that was issued before still writes to what is handed out, as it may in a stream's memory.
class UsedMemory : public DeviceMemory {
 public:
  explicit UsedMemory(TwoQueues& queues) : queues_(queues) {}
  void* allocate(size_t bytes) override {
    char* data = blocks_.emplace_back(std::make_unique<char[]>(bytes)).get();
    queues_.work([=] { std::memset(data, 0xee, bytes); });
    return data;
  }
  void free(void*, size_t) override {}

 private:
  TwoQueues& queues_;
  std::vector<std::unique_ptr<char[]>> blocks_;
};

struct Outcome {
  int64_t reads = 0, wrong = 0, visits = 0, fetched = 0, fetched_late = 0;
  size_t most_alive = 0, places = 0;
};

// One rank's visits; a slab is one number that says whose it is. Slabs are used again at once.
class Rank {
 public:
  Rank(const PlanSpec& plan, Pace pace, LeftOut left_out, bool snapshots, bool look_ahead)
      : queues_(pace, left_out),
        memory_(queues_),
        offload_(sizeof(int64_t), queues_, &memory_),
        snapshots_(snapshots),
        look_ahead_(look_ahead) {
    for (PlanMaker maker(plan); !maker.done(); maker.next()) {
      maker.append({0}, list_);
      ends_.push_back(list_.size());
    }
  }

  Outcome run() {
    size_t sweep = 0;
    for (size_t i = 0; i < list_.size(); ++i) {
      if (const auto* visit = std::get_if<Forward>(&list_[i])) forward(*visit, next_visit(i + 1));
      if (const auto* op = std::get_if<ReleaseFeatures>(&list_[i])) release(op->features);
      if (i + 1 == ends_[sweep] && sweep++ % 3 == 0 && snapshots_) check_alive();
    }
    offload_.finish();
    out_.fetched = offload_.fetched();
    out_.fetched_late = offload_.fetched_late();
    out_.places = offload_.device_bytes() / sizeof(int64_t);
    return out_;
  }

 private:
  static int64_t number(const Features& f) {
    return 1 + (f.block.value * 1000 + f.step.value) * 2 + (f.edge == Edge::tail);
  }

  const Forward* next_visit(size_t i) const {
    for (; look_ahead_ && i < list_.size(); ++i)
      if (const auto* visit = std::get_if<Forward>(&list_[i])) return visit;
    return nullptr;
  }

  void make(const Features& f) {
    int64_t* slab = nullptr;
    if (free_.empty()) {
      slab = slabs_.emplace_back(std::make_unique<int64_t>(-1)).get();
    } else {
      slab = free_.back();
      free_.pop_back();
    }
    alive_.emplace(number(f), slab);
    out_.most_alive = std::max(out_.most_alive, alive_.size());
  }

  void release(const Features& f) {
    int64_t* slab = alive_.at(number(f));
    offload_.forget(slab);
    free_.push_back(slab);
    alive_.erase(number(f));
  }

  std::vector<void*> slabs(const std::vector<Features>& features) const {
    std::vector<void*> out;
    for (const Features& f : features)
      if (const auto found = alive_.find(number(f)); found != alive_.end())
        out.push_back(found->second);
    return out;
  }

  void forward(const Forward& visit, const Forward* next) {
    for (const Features& f : visit.writes()) make(f);
    offload_.begin_visit(slabs(visit.reads()), slabs(visit.writes()),
                         next ? slabs(next->reads()) : std::vector<void*>{});
    for (const Features& f : visit.reads()) {
      const auto* place = static_cast<int64_t*>(offload_.on_device(alive_.at(number(f))));
      queues_.work([this, place, expected = number(f)] {
        ++out_.reads;
        out_.wrong += *place != expected;
      });
    }
    for (const Features& f : visit.writes()) {
      auto* place = static_cast<int64_t*>(offload_.on_device(alive_.at(number(f))));
      queues_.work([place, own = number(f)] { *place = own; });
    }
    // A visit reads to its end: a place that is filled or sent too early shows here.
    for (const Features& f : visit.reads()) {
      const auto* place = static_cast<int64_t*>(offload_.on_device(alive_.at(number(f))));
      queues_.work([this, place, expected = number(f)] { out_.wrong += *place != expected; });
    }
    offload_.end_visit();
    ++out_.visits;
  }

  void check_alive() {
    offload_.finish();
    for (const auto& [own, slab] : alive_) out_.wrong += *slab != own;
  }

  TwoQueues queues_;
  UsedMemory memory_;
  std::vector<std::unique_ptr<int64_t>> slabs_;
  std::vector<int64_t*> free_;
  std::map<int64_t, int64_t*> alive_;
  FeatureOffload offload_;
  bool snapshots_, look_ahead_;
  std::vector<Instruction> list_;
  std::vector<size_t> ends_;  // of the sweeps
  Outcome out_;
};

constexpr ContextRule kRules[] = {ContextRule::dualparal, ContextRule::aligned,
                                  ContextRule::causal};
constexpr Pace kPaces[] = {Pace::copies_first, Pace::work_first, Pace::random};

PlanSpec plan_of(ContextRule rule, int64_t blocks, int64_t stagger) {
  PlanSpec plan;
  plan.layout = {3, 2, 2 + 3 * blocks};
  plan.steps = 6;
  plan.stagger = stagger;
  plan.rule = rule;
  return plan;
}

}  // namespace

TEST_CASE("every read of offloaded features sees its version, however late copies or work are") {
  for (const ContextRule rule : kRules)
    for (const int64_t blocks : {1, 2, 3, 9})
      for (const int64_t stagger : {1, 2, 4, 6})
        for (const Pace pace : kPaces)
          for (const bool snapshots : {false, true})
            for (const bool look_ahead : {false, true}) {
              CAPTURE(name(rule));
              CAPTURE(blocks);
              CAPTURE(stagger);
              CAPTURE(static_cast<int>(pace));
              Rank rank(plan_of(rule, blocks, stagger), pace, LeftOut::nothing, snapshots,
                        look_ahead);
              const Outcome out = rank.run();
              // dualparal: of noisier neighbours that are under way at the same time.
              const bool some = blocks > 1 && (rule != ContextRule::dualparal || stagger < 6);
              CHECK(out.wrong == 0);
              CHECK((out.reads > 0) == some);
              CHECK(out.visits == 6 * blocks);
            }
}

// A visit writes and reads up to two slabs, and the next one reads two.
TEST_CASE("what a visit reads has come while the one before it worked") {
  for (const ContextRule rule : kRules)
    for (const int64_t stagger : {1, 2}) {
      CAPTURE(name(rule));
      CAPTURE(stagger);
      Rank rank(plan_of(rule, 30, stagger), Pace::random, LeftOut::nothing, false, true);
      const Outcome out = rank.run();
      CHECK(out.fetched_late == 0);
      CHECK(out.places <= 6);
      if (rule == ContextRule::aligned) {
        CHECK(out.fetched > 0);
        CHECK(out.fetched <= out.visits);  // what the visit before wrote is still there
        CHECK(out.most_alive > out.places);
      }
    }
}

TEST_CASE("an order that is left out shows") {
  for (const LeftOut left_out : {LeftOut::waits_for_work, LeftOut::holds_of_work}) {
    int64_t wrong = 0;
    for (const Pace pace : kPaces) {
      Rank rank(plan_of(ContextRule::aligned, 9, 1), pace, left_out, false, true);
      wrong += rank.run().wrong;
    }
    CAPTURE(static_cast<int>(left_out));
    CHECK(wrong > 0);
  }
}

}  // namespace longtake::testing
