// Which worker is asked for which head first, made anew from measured times every few calls. It
// decides no more than the order: whoever has time takes what nobody else has taken.
#pragma once

#include <optional>
#include <vector>

#include "parallel/attention/balance.h"

namespace longtake {

// One call as it was found, of each branch that the rank computes.
struct MeasuredCall {
  double own_s = 0;  // of linear work until the result is asked for
  int64_t queries = 0, keys = 0, heads = 0, head_dim = 0;
  int64_t element_bytes = 4;
};

struct MeasuredWorker {
  int id = 0;
  double work = 0;        // that it has done, query rows x keys x head size
  double kernel_s = 0;    // in this time
  double bytes = 0;       // that went there and back
  double transfer_s = 0;  // in this time
};

class Quota {
 public:
  // `pace_s`: seconds of the rank per unit of work.
  void plan(const std::vector<MeasuredCall>& branches, double pace_s,
            const std::vector<MeasuredWorker>& workers);
  // Before the first plan everybody is asked for everything.
  bool planned() const { return plan_.has_value(); }
  // Nobody is worth asking.
  bool no_workers() const { return plan_ && !plan_->uses_workers(); }
  // Does the plan give the head to this worker?
  bool gives(int branch, int64_t head, int worker) const;
  const std::optional<Balance>& last() const { return plan_; }
  int64_t changes() const { return changes_; }

 private:
  std::optional<Balance> plan_;
  int64_t changes_ = 0;
};

}  // namespace longtake
