// Longest heads first, each to where it ends soonest; then moves, swaps and cuts.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <tuple>

#include "parallel/attention/head_loads.h"

namespace longtake {

namespace {

constexpr double kLeast = 1e-9;    // relative: less is rounding
constexpr double kEnough = 1.001;  // times what no map can be faster than

// One or two heads to other places.
struct Move {
  size_t first = 0, second = 0;  // equal: one head
  LoadedPlace first_to, second_to;
};

struct Value {
  double seconds, squares, bytes;
};

class Climb {
 public:
  // A pinned head stays where it is.
  explicit Climb(HeadLoads& loads, std::optional<size_t> pinned = {})
      : loads_(loads), pinned_(pinned), enough_(kEnough * loads.floor_s()) {}

  // Every move makes the layer faster or its loads more equal, so that it ends; the limit is for
  // rounding.
  void run() {
    const size_t limit = 16 * loads_.size() + 64;
    for (size_t moves = 0; moves < limit && step(); ++moves) {
    }
  }

 private:
  bool step() {
    now_ = value();
    found_ = false;
    if (now_.seconds <= enough_) return false;
    best_ = {};
    const std::vector<size_t> heads = distinct();
    for (size_t a = 0; a < heads.size(); ++a) {
      try_places(heads[a]);
      for (size_t b = a + 1; b < heads.size(); ++b) try_swap(heads[a], heads[b]);
    }
    if (!found_) return false;
    apply(move_);
    loads_.settle();
    return true;
  }

  // One of all heads that are alike and in the same place.
  std::vector<size_t> distinct() const {
    std::vector<size_t> out;
    for (size_t i = 0; i < loads_.size(); ++i)
      if (i != pinned_ && std::none_of(out.begin(), out.end(), [&](size_t k) {
            return loads_.head(i).twin == loads_.head(k).twin && loads_.place(i) == loads_.place(k);
          }))
        out.push_back(i);
    return out;
  }

  Value value() const { return {loads_.seconds(), loads_.sum_of_squares(), loads_.bytes()}; }

  void apply(const Move& m) {
    loads_.put(m.first, m.first_to);
    if (m.second != m.first) loads_.put(m.second, m.second_to);
  }

  void try_places(size_t i) {
    const LoadedPlace before = loads_.place(i);
    look({i, i, {}, {}}, before, before);
    for (int w = 0; w < loads_.workers(); ++w) {
      if (!loads_.usable(w)) continue;
      look({i, i, {w, loads_.head(i).queries}, {}}, before, before);
      if (loads_.other_cuts(i) == 0)
        try_cut(i, w, i, {});
      else
        try_cut_instead(i, w);
    }
  }

  // Cuts head i where the worker ends with the rank, `other` being put elsewhere.
  void try_cut(size_t i, int w, size_t other, LoadedPlace other_to) {
    const LoadedPlace first = loads_.place(i), second = loads_.place(other);
    int64_t even = 0;
    loads_.attempt(i, other, [&] {
      if (other != i) loads_.put(other, other_to);
      even = even_cut(i, w);
    });
    const int64_t queries = loads_.head(i).queries;
    for (const int64_t rows : {even, even + cut_rows})
      if (rows >= cut_rows && rows < queries) look({i, other, {w, rows}, other_to}, first, second);
  }

  // The head of the branch that was cut is whole again.
  void try_cut_instead(size_t i, int w) {
    for (size_t k = 0; k < loads_.size(); ++k) {
      if (k == i || k == pinned_ || !loads_.cut(k)) continue;
      if (loads_.head(k).branch != loads_.head(i).branch) continue;
      try_cut(i, w, k, {});
      try_cut(i, w, k, {loads_.place(k).worker, loads_.head(k).queries});
    }
  }

  // The places of two heads, the whole ones of different owners.
  void try_swap(size_t i, size_t k) {
    const LoadedPlace a = loads_.place(i), b = loads_.place(k);
    if (a == b || loads_.cut(i) || loads_.cut(k)) return;
    if (loads_.head(i).twin == loads_.head(k).twin) return;
    const auto whole = [&](size_t of, LoadedPlace at) {
      return at.rows == 0 ? at : LoadedPlace{at.worker, loads_.head(of).queries};
    };
    look({i, k, whole(i, b), whole(k, a)}, a, b);
  }

  // The most rows at a worker for which it still ends before the rank; within an attempt.
  int64_t even_cut(size_t i, int w) {
    int64_t low = 0, high = (loads_.head(i).queries - 1) / cut_rows;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      loads_.put(i, {w, middle * cut_rows});
      if (loads_.worker_bound(w) <= loads_.rank_s())
        low = middle;
      else
        high = middle - 1;
    }
    return low * cut_rows;
  }

  // Faster first, by seconds won for each byte more; else more equal at the same speed.
  void look(const Move& m, LoadedPlace first, LoadedPlace second) {
    if (m.first_to == first && (m.second == m.first || m.second_to == second)) return;
    Value then{};
    loads_.attempt(m.first, m.second, [&] {
      apply(m);
      then = value();
    });
    const double won = now_.seconds - then.seconds;
    std::tuple<int, double, double> rank;
    if (won > kLeast * now_.seconds) {
      const double more = std::max(1.0, then.bytes - now_.bytes);
      rank = {2, won / more, won};
    } else if (won >= 0 && then.squares < now_.squares * (1 - kLeast)) {
      rank = {1, now_.squares - then.squares, 0};
    } else {
      return;
    }
    if (found_ && rank <= best_) return;
    found_ = true;
    best_ = rank;
    move_ = m;
  }

  HeadLoads& loads_;
  std::optional<size_t> pinned_;
  double enough_;
  Value now_{};
  bool found_ = false;
  std::tuple<int, double, double> best_;
  Move move_;
};

// Longest first, each where it ends soonest.
void place_longest_first(HeadLoads& loads) {
  loads.put_all(std::vector<LoadedPlace>(loads.size()));
  std::vector<size_t> order(loads.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return loads.head(a).work->seconds > loads.head(b).work->seconds;
  });
  double placed = loads.rank_s();
  for (const size_t i : order) placed -= loads.head(i).work->seconds;
  for (const size_t i : order) {
    double soonest = placed + loads.head(i).work->seconds;
    LoadedPlace to;
    for (int w = 0; w < loads.workers(); ++w) {
      if (!loads.usable(w)) continue;
      const LoadedPlace whole{w, loads.head(i).queries};
      double end = 0;
      loads.attempt(i, i, [&] { loads.put(i, whole), end = loads.worker_bound(w); });
      if (end < soonest) soonest = end, to = whole;
    }
    loads.put(i, to);
    if (to.rows == 0) placed += loads.head(i).work->seconds;
  }
}

// The best map seen.
class Search {
 public:
  explicit Search(HeadLoads& loads) : loads_(loads), best_(loads.size()) {
    loads.put_all(best_);
    least_ = loads.seconds();
  }

  void climb() {
    Climb(loads_).run();
    keep();
  }
  void restore() { loads_.put_all(best_); }

  // From every map of whole heads.
  void climb_from_all() {
    const auto places = static_cast<size_t>(loads_.workers()) + 1;
    std::vector<size_t> digit(loads_.size());
    for (size_t at = 0; at < digit.size();) {
      for (size_t i = 0; i < digit.size(); ++i) {
        const auto worker = static_cast<int>(digit[i]) - 1;
        const bool remote = worker >= 0 && loads_.usable(worker);
        loads_.put(i, remote ? LoadedPlace{worker, loads_.head(i).queries} : LoadedPlace{});
      }
      loads_.settle();
      climb();
      for (at = 0; at < digit.size() && ++digit[at] == places; ++at) digit[at] = 0;
    }
  }

  // Every head in turn is held somewhere else while the others find their places around it.
  void shake() {
    for (size_t found = found_ + 1; found != found_;) {
      found = found_;
      for (size_t i = 0; i < loads_.size(); ++i) {
        const int64_t queries = loads_.head(i).queries, most = (queries - 1) / cut_rows;
        hold(i, {});
        for (int w = 0; w < loads_.workers(); ++w) {
          hold(i, {w, queries});
          const int64_t cuts = std::min<int64_t>(most, 4);
          for (int64_t cut = 1; cut <= cuts; ++cut) hold(i, {w, cut * most / cuts * cut_rows});
        }
      }
    }
    restore();
  }

 private:
  void keep() {
    if (loads_.seconds() >= least_ * (1 - kLeast)) return;
    least_ = loads_.seconds();
    best_ = loads_.places();
    ++found_;
  }

  void hold(size_t i, LoadedPlace at) {
    restore();
    if (loads_.place(i) == at) return;
    if (at.rows > 0 && !loads_.usable(at.worker)) return;
    if (at.rows < loads_.head(i).queries && at.rows > 0 && loads_.other_cuts(i) > 0) return;
    loads_.put(i, at);
    loads_.settle();
    Climb(loads_, i).run();
    climb();
  }

  HeadLoads& loads_;
  std::vector<LoadedPlace> best_;
  double least_ = 0;
  size_t found_ = 0;
};

}  // namespace

// Single heads count where there are few of them; with many the first climb is near the best.
void find_best(HeadLoads& loads) {
  constexpr size_t kFewHeads = 16;
  constexpr double kFewMaps = 256;
  Search search(loads);
  place_longest_first(loads);
  loads.settle();
  search.climb();
  if (loads.size() <= kFewHeads) {
    loads.put_all(std::vector<LoadedPlace>(loads.size()));
    search.climb();
    if (std::pow(loads.workers() + 1, static_cast<double>(loads.size())) <= kFewMaps)
      search.climb_from_all();
    search.shake();
  }
  search.restore();
}

}  // namespace longtake
