// What a map of heads costs, kept up to date while heads are moved: for balance.cc and its search.
#pragma once

#include <span>
#include <vector>

#include "parallel/attention/balance.h"

namespace longtake {

// A head of a branch, or its place, with the worker as an index.
struct LoadedHead {
  size_t branch;
  const HeadWork* work;
  int64_t queries;
  size_t twin;  // the first head that is like this one in all but its place
};
struct LoadedPlace {
  int worker = -1;
  int64_t rows = 0;
  bool operator==(const LoadedPlace&) const = default;
};

class HeadLoads {
 public:
  HeadLoads(std::span<const BranchWork> branches, std::span<const WorkerRate> workers);

  size_t size() const { return heads_.size(); }
  int workers() const { return static_cast<int>(workers_.size()); }
  const LoadedHead& head(size_t i) const { return heads_[i]; }
  const LoadedPlace& place(size_t i) const { return places_[i]; }
  const std::vector<LoadedPlace>& places() const { return places_; }
  bool cut(size_t i) const { return places_[i].rows > 0 && places_[i].rows < heads_[i].queries; }
  // How many heads of i's branch are cut, i itself left out.
  int64_t other_cuts(size_t i) const { return sums_.cuts[heads_[i].branch] - (cut(i) ? 1 : 0); }
  bool usable(int worker) const;

  // put() adds to sums, settle() and put_all() make them anew.
  void put(size_t i, LoadedPlace to);
  void settle();
  void put_all(const std::vector<LoadedPlace>& places);
  // Calls body() and takes back what it puts: heads i and k at most.
  template <class Body>
  void attempt(size_t i, size_t k, Body&& body) {
    const LoadedPlace first = places_[i], second = places_[k];
    before_ = sums_;
    body();
    sums_ = before_;
    places_[i] = first, places_[k] = second;
  }

  double bytes(size_t i, LoadedPlace at) const;

  double rank_s() const { return sums_.rank_s; }
  // Of a worker's work: what is planned for it, in all and as late as a branch waits for it.
  double worker_bound(int worker, double end = planned_end) const;
  double seconds() const;         // of the layer
  double floor_s() const;         // no map is faster
  double sum_of_squares() const;  // of all that seconds() is the largest of
  double worker_s(int worker) const;
  double bytes() const { return sums_.bytes; }

 private:
  bool alike(size_t i, size_t k) const;
  void count(size_t i, LoadedPlace at, int sign);
  double work(int worker, size_t branch) const;  // seconds

  std::span<const BranchWork> branches_;
  std::span<const WorkerRate> workers_;
  std::vector<LoadedHead> heads_;
  std::vector<std::vector<bool>> resident_;  // [workers][heads of all branches]
  std::vector<LoadedPlace> places_;
  struct Load {
    double compute_s = 0, transfer_s = 0;
    int64_t tasks = 0;
  };
  struct Sums {
    std::vector<Load> work;     // [workers, branches]
    std::vector<int64_t> cuts;  // [branches]
    double rank_s = 0, bytes = 0;
  };
  Sums sums_, before_;
};

// Leaves the best map that is found.
void find_best(HeadLoads& loads);

}  // namespace longtake
